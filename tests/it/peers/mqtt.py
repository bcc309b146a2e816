"""What the MQTT clients on paho-mqtt have in common: their arguments and how they connect."""

import argparse
import json
import ssl

from paho.mqtt.client import CallbackAPIVersion, Client, MQTTv5, MQTTv311
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, required=True, help="of the broker on 127.0.0.1")
    parser.add_argument("--v5", action="store_true", help="MQTT 5 and not 3.1.1")
    parser.add_argument("--id", default="", help="client id; by default the broker gives one")
    parser.add_argument("--qos", type=int, default=1)
    parser.add_argument("--persistent", action="store_true", help="keep the session when gone")
    parser.add_argument("--keepalive", type=int, default=60)
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--tls", help="connect with TLS; the file of the authority's certificate")
    parser.add_argument("--websocket", action="store_true")
    parser.add_argument("--will", nargs=2, metavar=("TOPIC", "PAYLOAD"), help="at --qos, not retained")
    return parser


def client(args):
    """A client that connects again by itself when its connection is lost, and prints {"lost": REASON}."""
    transport = "websockets" if args.websocket else "tcp"
    if args.v5:
        it = Client(CallbackAPIVersion.VERSION2, args.id, protocol=MQTTv5, transport=transport)
    else:
        clean = not args.persistent
        it = Client(CallbackAPIVersion.VERSION2, args.id, clean, protocol=MQTTv311, transport=transport)
    if args.user:
        it.username_pw_set(args.user, args.password)
    if args.tls:
        it.tls_set(args.tls, cert_reqs=ssl.CERT_REQUIRED)
    if args.will:
        it.will_set(args.will[0], args.will[1], args.qos)
    it.reconnect_delay_set(1, 1)
    it.on_disconnect = on_disconnect
    return it


def on_disconnect(_client, _data, _flags, reason, _properties):
    if reason.is_failure:
        say(lost=reason.value)


def connect(it, args):
    if args.v5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600 if args.persistent else 0
        it.connect("127.0.0.1", args.port, args.keepalive, clean_start=not args.persistent, properties=properties)
    else:
        it.connect("127.0.0.1", args.port, args.keepalive)


def say(**what):
    print(json.dumps(what), flush=True)
