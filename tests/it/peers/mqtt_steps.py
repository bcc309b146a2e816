"""Does what it is told, one JSON object a line on stdin, and answers each with one JSON line. Several clients, each with
a name, live in it. {"as": NAME, "do": WHAT, …}:

connect     "v" (3, 4, 5), "id", "clean", "expiry", "keepalive", "user", "password", "will", "receive", "packet", "manual"
            -> {"reason", "session", "properties"}; "will" is a publish with "delay"; "manual" leaves acknowledgements out
            "aliases" is how many topic aliases the broker may set, which are then left as they come
            "port" (another than the usual), "websocket" (true), "ca" (TLS), "certificate" and "key" (a client's own)
subscribe   "filters" [[FILTER, QOS or {"qos", "local", "published", "handling"}]…], "id" -> {"reasons"}
unsubscribe "filters" -> {"reasons"}
publish     "topic", "payload", "qos", "retain", "size", "properties" -> {"reason"}, once it is acknowledged
burst       "topic", "qos", "first", "count", as fast as it goes: payloads are numbers -> {"acked"}, once all are
take        "count" -> {"messages"}, the next ones; "payloads": true gives their payloads only
disconnect  "reason", "expiry" (of the session, from now on) -> {}
drop        closes the connection without a word -> {}
lost        waits until the broker has closed the connection -> {"reason"}

A step that fails or takes too long answers {"error": WHY}.
"""

import argparse
import json
import queue
import socket
import sys
import threading

from paho.mqtt.client import CallbackAPIVersion, Client
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

PATIENCE = 15


def properties(kind, **values):
    wire = Properties(kind)
    for name, value in values.items():
        if value is not None:
            setattr(wire, name, value)
    return wire


def message_properties(given, kind=PacketTypes.PUBLISH, **more):
    given = dict(given or {})
    if "CorrelationData" in given:
        given["CorrelationData"] = given["CorrelationData"].encode()
    if "UserProperty" in given:
        given["UserProperty"] = [tuple(pair) for pair in given["UserProperty"]]
    return properties(kind, **given, **more)


class Peer:
    def __init__(self, port):
        self.port = port

    def connect(self, step):
        self.version = step.get("v", 4)
        v5 = self.version == 5
        clean = None if v5 else step.get("clean", True)
        self.client = it = Client(
            CallbackAPIVersion.VERSION2,
            step.get("id", ""),
            clean,
            protocol=self.version,
            reconnect_on_failure=False,
            manual_ack=step.get("manual", False),
            transport="websockets" if step.get("websocket") else "tcp",
        )
        if "ca" in step:
            it.tls_set(step["ca"], step.get("certificate"), step.get("key"))
        self.connects, self.losses, self.suback = queue.Queue(), queue.Queue(), queue.Queue()
        self.messages, self.acks, self.acked = queue.Queue(), {}, threading.Condition()
        it.max_inflight_messages_set(500)
        it.on_connect = lambda _c, _d, flags, reason, props: self.connects.put((flags, reason, props))
        it.on_disconnect = lambda _c, _d, _flags, reason, _props: self.losses.put(reason)
        it.on_subscribe = it.on_unsubscribe = lambda _c, _d, _mid, reasons, _props: self.suback.put(reasons)
        it.on_message = lambda _c, _d, message: self.messages.put(message)
        it.on_publish = self.on_publish
        if "user" in step:
            it.username_pw_set(step["user"], step.get("password"))
        if will := step.get("will"):
            wire = message_properties(will.get("properties"), PacketTypes.WILLMESSAGE, WillDelayInterval=will.get("delay"))
            payload, qos, retain = will.get("payload"), will.get("qos", 0), will.get("retain", False)
            it.will_set(will["topic"], payload, qos, retain, wire if v5 else None)
        more = {}
        if v5:
            more["clean_start"] = step.get("clean", True)
            more["properties"] = properties(
                PacketTypes.CONNECT,
                SessionExpiryInterval=step.get("expiry"),
                ReceiveMaximum=step.get("receive"),
                MaximumPacketSize=step.get("packet"),
                TopicAliasMaximum=step.get("aliases"),
            )
        it.connect("127.0.0.1", step.get("port", self.port), step.get("keepalive", 60), **more)
        it.loop_start()
        flags, reason, props = self.connects.get(timeout=PATIENCE)
        return {"reason": reason.value, "session": flags.session_present, "properties": props.json() if props else {}}

    def on_publish(self, _client, _data, mid, reason, _properties):
        with self.acked:
            self.acks[mid] = reason.value
            self.acked.notify_all()

    def subscribe(self, step):
        if self.version != 5:
            self.client.subscribe([(name, qos) for name, qos in step["filters"]])
        else:
            filters = [(name, options(given)) for name, given in step["filters"]]
            self.client.subscribe(filters, properties=properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=step.get("id")))
        return {"reasons": [reason.value for reason in self.suback.get(timeout=PATIENCE)]}

    def unsubscribe(self, step):
        self.client.unsubscribe(step["filters"])
        return {"reasons": [reason.value for reason in self.suback.get(timeout=PATIENCE)]}

    def publish(self, step):
        payload = step.get("payload", "")
        wire = message_properties(step.get("properties")) if self.version == 5 else None
        info = self.client.publish(
            step["topic"], payload.ljust(step.get("size", 0)), step.get("qos", 1), step.get("retain", False), wire
        )
        return {"reason": self.wait({info.mid})[info.mid]}

    def burst(self, step):
        first, count = step.get("first", 0), step["count"]
        ids = set()
        for number in range(first, first + count):
            ids.add(self.client.publish(step["topic"], str(number), step.get("qos", 1)).mid)
        return {"acked": len(self.wait(ids))}

    def wait(self, ids):
        with self.acked:
            if not self.acked.wait_for(lambda: ids <= self.acks.keys(), PATIENCE):
                raise TimeoutError(f"{len(ids - self.acks.keys())} publishes are not acknowledged")
            return {mid: self.acks.pop(mid) for mid in ids}

    def take(self, step):
        taken = []
        for _ in range(step["count"]):
            try:
                taken.append(self.messages.get(timeout=PATIENCE))
            except queue.Empty:
                raise TimeoutError(f"only {[describe(m, 4) for m in taken[-3:]]}, {len(taken)} of {step['count']}") from None
        if step.get("payloads"):
            return {"messages": [message.payload.decode() for message in taken]}
        return {"messages": [describe(message, self.version) for message in taken]}

    def disconnect(self, step):
        reason = ReasonCode(PacketTypes.DISCONNECT, identifier=step["reason"]) if "reason" in step else None
        wire = properties(PacketTypes.DISCONNECT, SessionExpiryInterval=step["expiry"]) if "expiry" in step else None
        self.client.disconnect(reason, wire)
        self.losses.get(timeout=PATIENCE)
        self.client.loop_stop()
        return {}

    def drop(self, _step):
        # Half open at first: the thread sees the end, and what is not read makes it a reset.
        self.client.socket().shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()
        return {}

    def lost(self, _step):
        return {"reason": self.losses.get(timeout=PATIENCE).value}


def options(given):
    if isinstance(given, int):
        return SubscribeOptions(qos=given)
    return SubscribeOptions(
        qos=given.get("qos", 1),
        noLocal=not given.get("local", True),
        retainAsPublished=given.get("published", False),
        retainHandling=given.get("handling", 0),
    )


def describe(message, version):
    size = len(message.payload)
    payload = message.payload.decode().rstrip() if size > 1000 else message.payload.decode()
    it = {"topic": message.topic, "payload": payload, "qos": message.qos, "retain": message.retain, "size": size}
    if version == 5:
        it["properties"] = message.properties.json()
    return it


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--port", type=int, required=True)
args = parser.parse_args()
peers = {}
for line in sys.stdin:
    step = json.loads(line)
    peer = peers.setdefault(step["as"], Peer(args.port))
    try:
        answer = getattr(peer, step["do"])(step)
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
