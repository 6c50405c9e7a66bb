#!/usr/bin/python3
"""Subscriptions as ncclient meets them: live, interleaved with other operations, replayed, to a stopTime.

subscribe.py PORT KEYFILE   prints one line per step; exits 0 if all held."""
import re, sys, datetime
from ncclient import manager
from ncclient.operations import RPCError

port, key = int(sys.argv[1]), sys.argv[2]
IF = "urn:ietf:params:xml:ns:yang:ietf-interfaces"
NCN = "urn:ietf:params:xml:ns:yang:ietf-netconf-notifications"


def connect():
    return manager.connect(host="127.0.0.1", port=port, username="admin", key_filename=key, hostkey_verify=False,
                           allow_agent=False, look_for_keys=False, timeout=30)


def describe(m, text):
    m.edit_config(target="running", config="""<nc:config xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"><interfaces xmlns="%s">
      <interface><name>lo1</name><type xmlns:t="urn:ietf:params:xml:ns:yang:iana-if-type">t:softwareLoopback</type><description>%s</description></interface>
      </interfaces></nc:config>""" % (IF, text))


def now(seconds=0):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)).isoformat()


def take(m, what, *wanted):
    n = m.take_notification(timeout=20)
    assert n is not None, "no " + what
    text = re.sub(r"\s*\n\s*", "", n.notification_xml)
    for w in (what,) + wanted:
        assert re.search(w, text), "%s: no %s in %s" % (what, w, text)
    assert re.search(r"<eventTime>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z</eventTime>", text), text
    return text


began = now(-1)
a, b = connect(), connect()
assert ":notification" in a.server_capabilities and ":interleave" in a.server_capabilities
streams = a.get(filter=("subtree", '<netconf xmlns="urn:ietf:params:xml:ns:netmod:notification"/>')).data_xml
assert "<name>NETCONF</name>" in streams and "<name>data-plane</name>" in streams and streams.count("<replaySupport>true") == 2, streams
a.create_subscription()
describe(b, "one")
mine = "<session-id>%s</session-id>" % b.session_id
take(a, "netconf-config-change", "<username>admin</username>", mine, "<source-host>127.0.0.1</source-host>",
     "<datastore>running</datastore>", "<operation>create</operation>")
describe(a, "two")  # in the session that is subscribed
assert "two" in a.get_config("running").data_xml
take(a, "netconf-config-change", "<session-id>%s</session-id>" % a.session_id, "<operation>replace</operation>",
     r":interface\[[\w-]+:name='lo1'\]/[\w-]+:description</target>")
print("ok live, interleaved")

b.commit(confirmed=True, timeout="60")
take(a, "netconf-confirmed-commit", "<confirm-event>start", "<timeout>60</timeout>")
b.commit()
take(a, "netconf-confirmed-commit", "<confirm-event>complete")
c = connect()
take(a, "netconf-session-start", "<session-id>%s</session-id>" % c.session_id)
a.kill_session(c.session_id)
take(a, "netconf-session-end", "<killed-by>%s</killed-by>" % a.session_id, "<termination-reason>killed")
b.close_session()
take(a, "netconf-session-end", mine, "<termination-reason>closed")
print("ok sessions and confirmed commits")

try:
    a.create_subscription()
    raise AssertionError("a second subscription")
except RPCError as e:
    assert e.tag == "operation-failed", e.tag
d = connect()
for what, tag, args in (("stream", "invalid-value", dict(stream_name="nowhere")), ("stopTime", "bad-element", dict(start_time=began, stop_time=now(-3600))),
                        ("startTime", "bad-element", dict(start_time=now(3600)))):
    try:
        d.create_subscription(**args)
        raise AssertionError(what)
    except RPCError as e:
        assert e.tag == tag, "%s: %s" % (what, e.tag)
print("ok refused")

d.create_subscription(start_time=began, stop_time=now(2), filter=("xpath", ({"n": NCN}, "/n:netconf-config-change")))
take(d, "netconf-config-change", mine, "<operation>create</operation>")
take(d, "netconf-config-change", "<session-id>%s</session-id>" % a.session_id)
take(d, "replayComplete")
describe(a, "three")
take(d, "netconf-config-change")
take(d, "notificationComplete")
d.create_subscription(filter=("subtree", '<netconf-config-change xmlns="%s"/>' % NCN))
describe(d, "four")
take(d, "netconf-config-change", "<session-id>%s</session-id>" % d.session_id)
print("ok replayed, to a stopTime, and once more")
d.close_session()
a.close_session()
