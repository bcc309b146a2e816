"""Subscribes and prints JSON lines: {"connected": REASON, "session": PRESENT}, {"subscribed": [REASON…]}, then each message:
{"topic", "payload", "qos", "retain", "dup"}, with MQTT 5 also "properties". Ends after --count messages, or never.

A payload that is no UTF-8 comes as "hex" instead of "payload".
"""

import mqtt

parser = mqtt.arguments(__doc__)
parser.add_argument("filters", nargs="*", help="none: take what the kept session has subscribed to")
parser.add_argument("--count", type=int, default=0, help="end after so many messages")
args = parser.parse_args()

seen = 0


def on_connect(client, _data, flags, reason, _properties):
    mqtt.say(connected=reason.value, session=flags.session_present)
    if args.filters and not reason.is_failure:
        client.subscribe([(filter, args.qos) for filter in args.filters])


def on_subscribe(_client, _data, _mid, reasons, _properties):
    mqtt.say(subscribed=[reason.value for reason in reasons])


def on_message(client, _data, message):
    global seen
    try:
        payload = {"payload": message.payload.decode()}
    except UnicodeDecodeError:
        payload = {"hex": message.payload.hex()}
    if args.v5:
        payload["properties"] = message.properties.json()
    mqtt.say(topic=message.topic, qos=message.qos, retain=message.retain, dup=message.dup, **payload)
    seen += 1
    if seen == args.count:
        client.disconnect()


client = mqtt.client(args)
client.on_connect = on_connect
client.on_subscribe = on_subscribe
client.on_message = on_message
mqtt.connect(client, args)
client.loop_forever()
