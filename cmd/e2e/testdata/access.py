#!/usr/bin/python3
"""Access control as an ordinary user of ncclient meets it.

access.py PORT KEYFILE CONFIG.xml   prints one line per step; exits 0 if all held."""
import re, sys
from ncclient import manager
from ncclient.operations import RPCError
from ncclient.xml_ import to_ele

port, key, config = int(sys.argv[1]), sys.argv[2], open(sys.argv[3]).read()
config = re.sub(r"<!--.*?-->", "", config, flags=re.S)
NC = 'xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"'
IF = "urn:ietf:params:xml:ns:yang:ietf-interfaces"
SEC = "urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"
keys = re.findall(r"<key>(.*?)</key>", config)
assert keys


def connect(user):
    return manager.connect(host="127.0.0.1", port=port, username=user, key_filename=key, hostkey_verify=False,
                           allow_agent=False, look_for_keys=False, timeout=30)


def refused(what, f, path=None, tag="access-denied"):
    try:
        f()
    except RPCError as e:
        assert e.tag == tag, "%s: %s, wanted %s: %s" % (what, e.tag, tag, e.message)
        assert path is None or re.sub(r"\w+:", "", e.path or "") == path, "%s: path %r, wanted %r" % (what, e.path, path)
        for k in keys:
            assert k not in str(e) and k not in (e.message or "") and k not in (e.info or ""), "a key in an error"
        print("ok refused:", what, "at", e.path)
        return
    raise AssertionError("%s was permitted" % what)


def sal(session, op, *leaves):
    session.dispatch(to_ele('<%s xmlns="urn:vrouter:yang:vrouter-sal">%s</%s>' % (op, "".join("<%s>%s</%s>" % (n, v, n) for n, v in leaves), op)))


def drained():
    return re.search(r"<name>pool0</name>.*?<drained>(\w+)</drained>", re.sub(r"\s*\n\s*", "", admin.get(filter=("subtree", '<sal xmlns="urn:vrouter:yang:vrouter-sal"><engine/></sal>')).data_xml)).group(1)


wrap = lambda x: "<nc:config %s>%s</nc:config>" % (NC, x)
iface = lambda name, leaf: wrap('<interfaces xmlns="%s"><interface><name>%s</name>%s</interface></interfaces>' % (IF, name, leaf))
admin, carol = connect("admin"), connect("carol")
admin.edit_config(target="candidate", config=wrap(config))
admin.commit()
print("ok configured")

# Engines and SAs are moved by admin, and by whom a rule permits it.
operator, pool, move = connect("operator"), ("engine", "pool0"), (("ipsec-sa-name", "b-v4-out"), ("engine", "pool0"))
for who in (carol, operator):
    refused("drain-engine", lambda: sal(who, "drain-engine", pool))
    refused("undrain-engine", lambda: sal(who, "undrain-engine", pool))
    refused("migrate-sa", lambda: sal(who, "migrate-sa", *move))
assert drained() == "false"
sal(admin, "drain-engine", pool)
assert drained() == "true"
sal(admin, "undrain-engine", pool)
sal(admin, "migrate-sa", *move)
print("ok admin moves SAs")

rules = """<nacm xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-acm">
 <groups><group><name>field</name><user-name>carol</user-name></group></groups>
 <rule-list><name>field</name><group>field</group>
  <rule><name>describe</name><path xmlns:i="%s">/i:interfaces/i:interface[i:name='lan0']/i:description</path>
   <access-operations>create update delete</access-operations><action>permit</action></rule>
  <rule><name>wan</name><path xmlns:i="%s">/i:interfaces/i:interface[i:name='wan0']</path><access-operations>read</access-operations><action>deny</action></rule>
  <rule><name>drain</name><module-name>vrouter-sal</module-name><rpc-name>drain-engine</rpc-name><access-operations>exec</access-operations><action>permit</action></rule>
  <rule><name>undrain</name><module-name>vrouter-sal</module-name><rpc-name>undrain-engine</rpc-name><access-operations>exec</access-operations><action>permit</action></rule>
  <rule><name>no validate</name><module-name>ietf-netconf</module-name><rpc-name>validate</rpc-name><access-operations>exec</access-operations><action>deny</action></rule>
 </rule-list></nacm>""" % (IF, IF)
admin.edit_config(target="candidate", config=wrap(rules))
admin.commit()

# What carol sees.
for what, data in (("get", carol.get().data_xml), ("get-config", carol.get_config("running").data_xml),
                   ("candidate", carol.get_config("candidate").data_xml),
                   ("subtree", carol.get(filter=("subtree", '<ipsec-ikeless xmlns="%s"/>' % SEC)).data_xml),
                   ("xpath", carol.get(filter=("xpath", "//*")).data_xml)):
    assert not any(k in data for k in keys) and "<key>" not in data and "key>" not in data, what
    assert "sad-entry" in data, what
    # Routes and the queues of workers name interfaces too; the rule is about the interface's entry.
    seen = re.sub(r"(?s)<(\w+:)?(routing|queue)\b.*?</(\w+:)?\2>", "", data)
    assert "wan0" not in seen or what == "subtree", "%s shows what a rule hides: %s" % (what, re.findall(".{80}wan0", seen)[:3])
    assert "rule-list" not in data, "%s shows the rules" % what
assert any(k in admin.get_config("running").data_xml for k in keys)
for guess in ("/s:ipsec-ikeless/s:sad/s:sad-entry[.//s:key='%s']" % keys[0], "//*[.='%s']" % keys[0]):
    r = carol.get_config("running", filter=("xpath", ({"s": SEC}, guess))).data_xml
    assert "sad-entry" not in r, "a filter tells what the key is: " + r
print("ok keys are invisible")

sal(carol, "drain-engine", pool)
assert drained() == "true"
sal(carol, "undrain-engine", pool)
assert drained() == "false"
refused("migrate-sa", lambda: sal(carol, "migrate-sa", *move))
print("ok carol drains, and does not move")

# What carol may write.
refused("edit", lambda: carol.edit_config(target="running", config=iface("lan0", "<enabled>false</enabled>")),
        "/interfaces/interface[name='lan0']/enabled")
refused("edit of the candidate", lambda: carol.edit_config(target="candidate", config=iface("lan0", "<enabled>false</enabled>")),
        "/interfaces/interface[name='lan0']/enabled")
refused("edit of what is hidden", lambda: carol.edit_config(target="running", config=iface("wan0", "<description>x</description>")),
        "/interfaces")
refused("a key", lambda: carol.edit_config(target="candidate", config=wrap(
    '<ipsec-ikeless xmlns="%s"><sad><sad-entry><name>b-v4-out</name><ipsec-sa-config><esp-sa><encryption><key>%s</key></encryption></esp-sa></ipsec-sa-config></sad-entry></sad></ipsec-ikeless>'
    % (SEC, keys[0].replace("0", "1")))), "/ipsec-ikeless/sad/sad-entry[name='b-v4-out']/ipsec-sa-config/esp-sa/encryption/key")
refused("the rules", lambda: carol.edit_config(target="running", config=wrap(
    '<nacm xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-acm"><enable-nacm>false</enable-nacm></nacm>')), "/nacm/enable-nacm")
refused("validate", lambda: carol.validate("running"))
refused("kill-session", lambda: carol.kill_session(admin.session_id))
refused("delete-config", lambda: carol.delete_config("startup"))
carol.edit_config(target="candidate", config=iface("lan0", "<description>by carol</description>"))
carol.commit()
assert "by carol" in admin.get_config("running").data_xml
print("ok what is permitted is done")
admin.edit_config(target="candidate", config=iface("lan0", "<enabled>false</enabled>"))
refused("commit of another's edit", lambda: carol.commit(), "/interfaces/interface[name='lan0']/enabled")
admin.discard_changes()

# An operator configures, but not keys.
operator.edit_config(target="running", config=iface("lan0", "<description>by the operator</description>"))
assert not any(k in operator.get_config("running").data_xml for k in keys)
refused("an SA with its key", lambda: operator.edit_config(target="running", config=wrap(config.replace("b-v4-out", "another"))))

state = admin.get(filter=("subtree", '<nacm xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-acm"><denied-operations/><denied-data-writes/></nacm>')).data_xml
assert re.search(r"denied-operations>10<", state) and re.search(r"denied-data-writes>7<", state), state
print("ok counted")

# Everybody is locked out, by mistake.
admin.edit_config(target="candidate", config=wrap('<nacm xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-acm"><read-default>deny</read-default>'
    '<rule-list %s><name>oops</name><group>*</group><rule><name>all</name><action>deny</action></rule></rule-list></nacm>' % NC))
admin.commit()
refused("everything", lambda: admin.get())
carol.close_session()
print("ok close-session is always permitted")
