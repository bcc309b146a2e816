"""Publishes numbered messages and prints JSON lines: {"connected": REASON, "session": PRESENT}, {"acked": N} for each that
the broker has acknowledged (PUBACK, PUBCOMP; at QoS 0: sent), and {"done": COUNT} when all are.

A broker that goes and comes back is connected to again, and what it did not acknowledge is sent again.
"""

import time

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

import mqtt

parser = mqtt.arguments(__doc__)
parser.add_argument("--topic", required=True)
parser.add_argument("--count", type=int, default=1)
parser.add_argument("--first", type=int, default=0, help="the first number")
parser.add_argument("--payload", help="this text and no number")
parser.add_argument("--size", type=int, default=0, help="fill the payload up with spaces to so many bytes")
parser.add_argument("--expiry", type=int, help="the message expiry interval, in seconds; with --v5")
parser.add_argument("--retain", action="store_true")
parser.add_argument("--window", type=int, default=20, help="so many unacknowledged at most")
parser.add_argument("--every", type=float, default=0, help="seconds from one message to the next")
args = parser.parse_args()

numbers = {}
acked = 0


def on_connect(_client, _data, flags, reason, _properties):
    mqtt.say(connected=reason.value, session=flags.session_present)


def on_publish(_client, _data, mid, _reason, _properties):
    global acked
    # Called on the network's thread, maybe before publish() has said what its id is.
    while mid not in numbers:
        time.sleep(0.001)
    mqtt.say(acked=numbers.pop(mid))
    acked += 1


client = mqtt.client(args)
client.on_connect = on_connect
client.on_publish = on_publish
client.max_inflight_messages_set(args.window)
client.max_queued_messages_set(0)
mqtt.connect(client, args)
client.loop_start()
properties = None
if args.expiry is not None:
    properties = Properties(PacketTypes.PUBLISH)
    properties.MessageExpiryInterval = args.expiry
for number in range(args.first, args.first + args.count):
    while number - args.first - acked >= args.window:
        time.sleep(0.001)
    payload = args.payload if args.payload is not None else str(number)
    info = client.publish(args.topic, payload.ljust(args.size), args.qos, args.retain, properties)
    numbers[info.mid] = number
    time.sleep(args.every)
while acked < args.count:
    time.sleep(0.005)
mqtt.say(done=args.count)
client.disconnect()
client.loop_stop()
