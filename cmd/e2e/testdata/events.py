#!/usr/bin/python3
"""Subscribes to a stream of notifications with ncclient and prints each, one a line.

events.py PORT KEYFILE STREAM USER   prints "subscribed" first; runs until it is ended"""
import re, sys
from ncclient import manager
from ncclient.operations.errors import TimeoutExpiredError

port, key, stream, user = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
m = manager.connect(host="127.0.0.1", port=port, username=user, key_filename=key, hostkey_verify=False,
                    allow_agent=False, look_for_keys=False, timeout=30)
m.create_subscription(stream_name=stream)
print("subscribed", flush=True)
while m.connected:
    n = m.take_notification(timeout=1)
    if n is not None:
        print(re.sub(r"\s*\n\s*", "", n.notification_xml), flush=True)
