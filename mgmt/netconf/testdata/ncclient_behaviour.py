"""Behaviours of the NETCONF server, seen by ncclient.

Arguments: host, port, file with alice's private key, file with the
configuration of a tunnel. bob's password is sesame. Prints a line for each
behaviour; the first that does not hold ends the run with status 1.
"""
import sys
import time
import traceback

from ncclient import manager
from ncclient.operations import RPCError
from ncclient.xml_ import to_ele
from lxml import etree

HOST, PORT, KEY, TUNNEL = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]

NC = "urn:ietf:params:xml:ns:netconf:base:1.0"
IF = "urn:ietf:params:xml:ns:yang:ietf-interfaces"
B = "urn:test:behaviour"
WD = "urn:ietf:params:xml:ns:netconf:default:1.0"


def connect(user="alice"):
    login = {"key_filename": KEY} if user == "alice" else {"password": "sesame"}
    return manager.connect(host=HOST, port=PORT, username=user, hostkey_verify=False, allow_agent=False,
                           look_for_keys=False, timeout=20, **login)


def config(body):
    return '<config xmlns="%s" xmlns:nc="%s">%s</config>' % (NC, NC, body)


def interfaces(body):
    return ('<interfaces xmlns="%s" xmlns:ianaift="urn:ietf:params:xml:ns:yang:iana-if-type">%s</interfaces>' % (IF, body))


def iface(name, more=""):
    return interfaces("<interface><name>%s</name><type>ianaift:ethernetCsmacd</type>%s</interface>" % (name, more))


def top(body):
    return '<top xmlns="%s">%s</top>' % (B, body)


def fails(call, tag, typ=None, app=None, path=None, info=()):
    """call raises an RPCError with this tag; info are words that error-info has."""
    try:
        call()
    except RPCError as e:
        seen = "%s/%s %s %s %s" % (e.type, e.tag, e.app_tag, e.path, e.info)
        tags = [tag] if isinstance(tag, str) else tag
        assert e.tag in tags, seen
        assert e.severity == "error" and e.message, seen
        assert typ is None or e.type == typ, seen
        assert app is None or e.app_tag == app, seen
        assert path is None or (e.path and path in e.path.strip()), seen
        for i in info:
            assert e.info and i in e.info, seen
        return e
    raise AssertionError("accepted")


def running(m, *filter):
    return m.get_config("running", *([("subtree", f) for f in filter] or [None])).data_xml


def names(m):
    data = m.get_config("running").data
    return sorted(e.text for e in data.iter("{%s}name" % IF))


def behaviour_1(m):
    caps = list(m.server_capabilities)
    assert ":base:1.0" in m.server_capabilities and ":base:1.1" in m.server_capabilities, caps
    for c in (":candidate", ":confirmed-commit", ":validate", ":startup", ":xpath", ":with-defaults", ":rollback-on-error",
              ":writable-running", ":yang-library"):
        assert c in m.server_capabilities, c
    assert int(m.session_id) > 0
    assert m._session._base == 2  # base:1.1 was picked


def behaviour_8(m):
    fails(lambda: m.dispatch(to_ele("<bogus-op/>")), ["operation-not-supported", "unknown-element"], typ="protocol")
    fails(lambda: m.dispatch(to_ele('<bogus-op xmlns="%s"/>' % NC)), ["operation-not-supported", "unknown-element"], typ="protocol")


def behaviour_9(m):
    create = config(interfaces('<interface nc:operation="create"><name>one</name><type>ianaift:ethernetCsmacd</type></interface>'))
    m.edit_config(create, target="running")
    e = fails(lambda: m.edit_config(create, target="running"), "data-exists", "application", path="interface[if:name='one']")
    assert len(e.errors if hasattr(e, "errors") and e.errors else [e]) == 1


def behaviour_10(m):
    gone = '<interface nc:operation="%s"><name>nobody</name></interface>'
    fails(lambda: m.edit_config(config(interfaces(gone % "delete")), target="running"), "data-missing", "application", path="nobody")
    m.edit_config(config(interfaces(gone % "remove")), target="running")


def behaviour_11(m):
    fails(lambda: m.edit_config(config(interfaces('<interface nc:operation="bogus"><name>one</name></interface>')), target="running"),
          "bad-attribute", info=("bad-attribute", "operation", "bad-element", "interface"))


def behaviour_12(m):
    fails(lambda: m.edit_config(config(interfaces("<interface><name>one</name><bogus/></interface>")), target="running"),
          "unknown-element", path="interface[if:name='one']", info=("bad-element", "bogus"))


def behaviour_13(m):
    fails(lambda: m.edit_config(config('<a xmlns="urn:nobody"/>'), target="running"), "unknown-namespace", info=("bad-namespace", "urn:nobody"))


def behaviour_15(m):
    one = "<interface><name>one</name>%s</interface>"
    for body, path in ((interfaces(one % "<enabled>1</enabled>"), "if:enabled"),
                       (interfaces(one % "<type>ianaift:nothing</type>"), "if:type"),
                       (top("<item><name>x</name><need>0</need></item>"), "b:need")):
        fails(lambda: m.edit_config(config(body), target="candidate"), "invalid-value", "application", path=path)


def behaviour_16(m):
    for body in (interfaces("<interface><name>one</name><oper-status>up</oper-status></interface>"), top("<state>x</state>")):
        for target in ("candidate", "running"):
            fails(lambda: m.edit_config(config(body), target=target), "invalid-value", "application", path="s")


def behaviour_17(m):
    for body, app in ((top("<item><name>x</name><one/></item>"), None), (top("<item><name>x</name><need>1</need></item>"), "missing-choice")):
        m.edit_config(config(body), target="candidate")
        fails(lambda: m.validate("candidate"), "data-missing", app=app, path="b:item[b:name='x']")
        fails(m.commit, "data-missing", app=app)
        m.discard_changes()


def behaviour_19(m):
    m.edit_config(config(top("<low>5</low><high>3</high>")), target="candidate")
    e = fails(m.commit, "operation-failed", app="high-below-low", path="/b:top/b:high")
    assert e.message == "High is below low.", e.message
    m.discard_changes()
    policy = ("<ipsec-ikeless xmlns='urn:ietf:params:xml:ns:yang:ietf-i2nsf-ikeless'><spd><spd-entry><name>p</name><direction>inbound</direction>"
              "<ipsec-policy-config><traffic-selector><local-prefix>10.0.0.0/8</local-prefix><remote-prefix>10.0.0.0/8</remote-prefix>"
              "<local-ports><start>5</start><end>4</end></local-ports></traffic-selector></ipsec-policy-config></spd-entry></spd></ipsec-ikeless>")
    m.edit_config(config(policy), target="candidate")
    fails(m.commit, "operation-failed", app="must-violation", path="local-ports")
    m.discard_changes()


def behaviour_20(m):
    m.edit_config(config(top("<ref>nobody</ref>")), target="candidate")
    fails(m.commit, "data-missing", app="instance-required", path="/b:top/b:ref")
    m.discard_changes()


def behaviour_21(m):
    fails(lambda: m.edit_config(config(interfaces("<interface><name>nobody</name><description nc:operation='merge'>x</description></interface>")),
                                target="running", default_operation="none"), "data-missing", path="nobody")


def behaviour_22(m):
    other = connect("bob")
    m.lock("running")
    m.lock("candidate")
    fails(lambda: other.lock("running"), "lock-denied", info=("session-id", m.session_id))
    fails(lambda: other.edit_config(config(iface("x")), target="running"), "in-use")
    fails(lambda: other.edit_config(config(iface("x")), target="candidate"), "in-use")
    fails(other.commit, "in-use")
    assert "one" in running(other)
    m.unlock("candidate")
    m.unlock("running")
    with other.locked("running"):
        fails(lambda: m.lock("running"), "lock-denied", info=(other.session_id,))
    # What bob may not do.
    fails(lambda: other.kill_session(m.session_id), "access-denied")
    fails(lambda: other.delete_config("startup"), "access-denied")
    m.lock("running")
    m.kill_session(other.session_id)
    for _ in range(50):
        if not other.connected:
            break
        time.sleep(0.1)
    assert not other.connected
    m.unlock("running")


def behaviour_23(m):
    fails(lambda: m.unlock("running"), "operation-failed")


def behaviour_25(m):
    fails(lambda: m.dispatch(to_ele('<get-config xmlns="%s"/>' % NC)), "missing-element", "protocol", info=("bad-element", "source"))
    fails(lambda: m.dispatch(to_ele('<get-config xmlns="%s"><source><bogus/></source></get-config>' % NC)), ["unknown-element", "bad-element"], "protocol", info=("bogus",))


def behaviour_26(m):
    assert len(m.get_config("running", filter=to_ele('<filter xmlns="%s" type="subtree"/>' % NC)).data) == 0
    assert len(m.get(filter=to_ele('<filter xmlns="%s" type="subtree"/>' % NC)).data) == 0
    fails(lambda: m.get_config("running", filter=to_ele('<filter xmlns="%s" type="xpath"/>' % NC)), "missing-attribute", info=("select",))
    fails(lambda: m.get_config("running", filter=to_ele('<filter xmlns="%s" type="xpath" select="/a["/>' % NC)), ["invalid-value", "bad-attribute"])
    d = m.get_config("running", filter=("xpath", ({"f": IF}, "/f:interfaces/f:interface[f:name='one']/f:type"))).data_xml
    assert "<name>one</name>" in d and "ethernetCsmacd" in d and "description" not in d, d
    d = m.get_config("running", filter=("subtree", interfaces("<interface><name>one</name></interface>"))).data_xml
    assert "one" in d, d


def behaviour_28(m):
    before = names(m)

    def edit(name):
        m.edit_config(config(iface(name)), target="candidate")

    edit("t")
    m.commit(confirmed=True, timeout="1")
    assert "t" in names(m)
    time.sleep(1.3)
    assert names(m) == before
    m.discard_changes()

    edit("c")
    m.commit(confirmed=True)
    m.cancel_commit()
    assert names(m) == before
    fails(m.cancel_commit, ["operation-failed", "invalid-value"])
    m.discard_changes()

    other = connect()
    edit("s")
    m.discard_changes()
    other.edit_config(config(iface("s")), target="candidate")
    other.commit(confirmed=True)
    assert "s" in names(m)
    other._session.transport.close()  # lost, not closed
    for _ in range(50):
        if names(m) == before:
            break
    assert names(m) == before
    m.discard_changes()

    other = connect()
    other.edit_config(config(iface("p")), target="candidate")
    other.commit(confirmed=True, persist="token")
    other.close_session()
    fails(lambda: m.cancel_commit(persist_id="other"), "invalid-value")
    assert "p" in names(m)
    m.commit(persist_id="token")
    assert "p" in names(m)
    m.edit_config(config(interfaces('<interface nc:operation="delete"><name>p</name></interface>')), target="running")


def behaviour_29(m):
    m.edit_config(config(top("<low>2</low><tag>t</tag>")), target="running")

    def read(mode):
        d = m.get_config("running", filter=("subtree", top("<low/><with-default/>")), with_defaults=mode).data
        e = d.find("{%s}top/{%s}with-default" % (B, B))
        return None if e is None else (e.text, e.get("{%s}default" % WD))

    assert [read(x) for x in (None, "explicit", "trim", "report-all", "report-all-tagged")] == [None, None, None, ("7", None), ("7", "true")]
    m.edit_config(config(top("<with-default>7</with-default>")), target="running")
    assert [read(x) for x in (None, "explicit", "trim", "report-all", "report-all-tagged")] == [("7", None), ("7", None), None, ("7", None), ("7", None)]
    m.edit_config(config('<top xmlns="%s" nc:operation="delete"/>' % B), target="running")


def behaviour_30(m):
    text = m.get_schema("ietf-interfaces", version="2018-02-20").data
    assert "module ietf-interfaces" in text and text.rstrip().endswith("}"), text[:200]
    fails(lambda: m.get_schema("bogus"), "invalid-value")
    d = m.get(filter=("subtree", '<yang-library xmlns="urn:ietf:params:xml:ns:yang:ietf-yang-library"><content-id/></yang-library>')).data_xml
    ident = etree.fromstring(d.encode()).findtext(".//{*}content-id")
    assert any("content-id=" + ident in c for c in m.server_capabilities), ident


def copies(m):
    m.copy_config("running", "startup")
    assert "one" in m.get_config("startup").data_xml
    m.delete_config("startup")
    m.edit_config(config(""), target="candidate", default_operation="replace")
    m.commit()
    assert names(m) == []


def tunnel(m):
    with open(TUNNEL) as f:
        text = f.read()
    m.edit_config(config(text), target="candidate", test_option="test-then-set", error_option="rollback-on-error")
    m.validate("candidate")
    m.commit()
    d = running(m)
    assert "<spi>4096</spi>" in d and "192.0.2.2" in d, d
    other = connect("bob")
    d = running(other)
    assert "<spi>4096</spi>" in d and "a0:a1:a2:a3" not in d, d
    other.close_session()


def main():
    m = connect()
    for f in (behaviour_1, behaviour_8, behaviour_9, behaviour_10, behaviour_11, behaviour_12, behaviour_13, behaviour_15, behaviour_16,
              behaviour_17, behaviour_19, behaviour_20, behaviour_21, behaviour_22, behaviour_23, behaviour_25, behaviour_26,
              behaviour_28, behaviour_29, behaviour_30, copies, tunnel):
        try:
            f(m)
        except Exception:
            traceback.print_exc()
            sys.exit("FAILED: " + f.__name__)
        print("ok", f.__name__)
    m.close_session()


main()
