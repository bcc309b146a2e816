"""Publishes the numbers 0 to COUNT - 1 on each of some topics, PREFIX/0 to PREFIX/(TOPICS - 1), in turn. Prints JSON lines:
{"acked": TOTAL} now and then, and {"done": TOTAL} when the broker has acknowledged all.

One thread does it all, so that nothing overtakes what is sent again after a lost connection: each topic's numbers set out
in order, whatever happens to the broker.
"""

import time

import mqtt

parser = mqtt.arguments(__doc__)
parser.add_argument("--prefix", default="plant/load")
parser.add_argument("--topics", type=int, default=4)
parser.add_argument("--count", type=int, required=True, help="messages on each topic")
parser.add_argument("--rate", type=float, default=0, help="messages a second; 0: as fast as they are acknowledged")
parser.add_argument("--window", type=int, default=100, help="so many unacknowledged at most")
parser.add_argument("--size", type=int, default=0, help="fill the payload up with spaces to so many bytes")
args = parser.parse_args()

total = args.topics * args.count
sent = acked = told = 0
connected = False


def on_connect(_client, _data, _flags, reason, _properties):
    global connected
    connected = not reason.is_failure


def on_disconnect(*_):
    global connected
    connected = False


def on_publish(_client, _data, _mid, reason, _properties):
    global acked
    # "Packet identifier not found" answers a PUBREL that comes again: the first PUBCOMP was lost (MQTT 5.0, 3.7.2.1).
    assert not reason.is_failure or reason.value == 0x92, reason
    acked += 1


def connect_again():
    time.sleep(0.02)
    try:
        client.reconnect()
    except OSError:
        pass


client = mqtt.client(args)
client.on_connect = on_connect
client.on_disconnect = on_disconnect
client.on_publish = on_publish
client.max_inflight_messages_set(0)
client.max_queued_messages_set(0)
mqtt.connect(client, args)
start = time.monotonic()
while acked < total:
    if client.loop(0.002) != 0:
        connect_again()
    due = total if args.rate == 0 else min(total, int((time.monotonic() - start) * args.rate) + 1)
    while connected and sent < due and sent - acked < args.window:
        number, topic = divmod(sent, args.topics)
        client.publish(f"{args.prefix}/{topic}", str(number).ljust(args.size), args.qos)
        sent += 1
    if acked - told >= 50:
        told = acked
        mqtt.say(acked=acked)
mqtt.say(done=acked)
client.disconnect()
