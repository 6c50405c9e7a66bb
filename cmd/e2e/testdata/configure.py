#!/usr/bin/python3
"""Configures a tunnel with ncclient and checks how errors are told.

configure.py PORT KEYFILE CONFIG.xml   prints one line per step; exits 0 if all held."""
import sys, re
from ncclient import manager
from ncclient.operations import RPCError
from ncclient.xml_ import to_ele

port, key, config = int(sys.argv[1]), sys.argv[2], open(sys.argv[3]).read()
config = re.sub(r"<!--.*?-->", "", config, flags=re.S)
NC = 'xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"'
SEC = "urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless"


def connect(user="admin"):
    return manager.connect(host="127.0.0.1", port=port, username=user, key_filename=key, hostkey_verify=False,
                           allow_agent=False, look_for_keys=False, timeout=30)


def refused(what, tag, f, path=None):
    try:
        f()
    except RPCError as e:
        assert e.tag == tag, "%s: %s, wanted %s: %s" % (what, e.tag, tag, e.message)
        assert path is None or path in (e.path or ""), "%s: path %r, wanted %r" % (what, e.path, path)
        print("ok", what, "->", e.tag)
        return e
    raise AssertionError("%s was accepted" % what)


wrap = lambda x: "<nc:config %s>%s</nc:config>" % (NC, x)
m = connect()
caps = list(m.server_capabilities)
for c in ("base:1.0", "base:1.1"):
    assert "urn:ietf:params:netconf:" + c in caps, c
for c in ("candidate:1.0", "confirmed-commit:1.1", "validate:1.1", "startup:1.0", "rollback-on-error:1.0", "xpath:1.0", "writable-running:1.0"):
    assert "urn:ietf:params:netconf:capability:" + c in caps, c
assert any("with-defaults" in c for c in caps) and any("yang-library" in c for c in caps)
print("ok capabilities")

with m.locked("candidate"):
    m.discard_changes()
    m.edit_config(target="candidate", config=wrap(config))
    m.validate("candidate")
    m.commit()
print("ok tunnel committed")

got = m.get_config("running", filter=("subtree", '<ipsec-ikeless xmlns="%s"><sad/></ipsec-ikeless>' % SEC)).data_xml
assert got.count("<sad-entry>") == 4 or got.count("sad-entry") >= 8, got
print("ok get-config")

# Errors, in the terms of RFC 6241 and RFC 7950.
sad = '<ipsec-ikeless xmlns="%s" %s><sad><sad-entry %%s><name>b-v4-out</name>%%s</sad-entry></sad></ipsec-ikeless>' % (SEC, NC)
refused("create of what exists", "data-exists", lambda: m.edit_config(target="candidate", config=wrap(sad % ('nc:operation="create"', ""))), "sad-entry")
refused("delete of what is not there", "data-missing", lambda: m.edit_config(target="candidate", config=wrap(
    sad.replace("b-v4-out", "nobody") % ('nc:operation="delete"', ""))), "nobody")
refused("unknown element", "unknown-element", lambda: m.edit_config(target="candidate", config=wrap(sad % ("", "<colour>red</colour>"))))
refused("value out of range", "invalid-value", lambda: m.edit_config(target="candidate", config=wrap(
    sad % ("", "<ipsec-sa-config><spi>7</spi></ipsec-sa-config>"))), "spi")
refused("a feature that is not built", "unknown-element", lambda: m.edit_config(target="candidate", config=wrap(
    sad % ("", "<ipsec-sa-config><tunnel><dscp-values>5</dscp-values></tunnel></ipsec-sa-config>"))))
m.discard_changes()

other = connect()
with m.locked("candidate"):
    e = refused("a lock that somebody has", "lock-denied", lambda: other.lock("candidate"))
    refused("an edit under a foreign lock", "in-use", lambda: other.edit_config(target="candidate", config=wrap(sad % ("", "<reqid>9</reqid>"))))

# Secrets: an operator writes keys and does not read them.
op = connect("operator")
assert "<key>" not in op.get_config("running").data_xml and "key>" not in op.get().data_xml
assert "key>" in m.get_config("running").data_xml
print("ok keys are shown to the administrator only")
refused("kill-session by an operator", "access-denied", lambda: op.kill_session(m.session_id))

# A confirmed commit that is not confirmed goes back when its session ends.
other.edit_config(target="candidate", config=wrap('<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>lan0</name><description>for a moment</description></interface></interfaces>'))
other.commit(confirmed=True, timeout="60")
assert "for a moment" in m.get_config("running").data_xml
other.close_session()
for _ in range(50):
    if "for a moment" not in m.get_config("running").data_xml:
        break
else:
    raise AssertionError("the confirmed commit outlived its session")
print("ok confirmed commit went back with its session")

schema = m.get_schema("ietf-i2nsf-ikeless")
assert "module ietf-i2nsf-ikeless" in str(schema.data if hasattr(schema, "data") else schema)
state = m.get(filter=("subtree", '<interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>wan0</name></interface></interfaces>')).data_xml
assert "oper-status" in state and "in-octets" in state, state
print("ok state and get-schema")
op.close_session()
m.close_session()
