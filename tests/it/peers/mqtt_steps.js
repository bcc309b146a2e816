// Does on MQTT.js what mqtt_steps.py does on paho-mqtt, with the same steps, answers and names of properties; without
// "manual". In "connect" it knows "reconnect" as well: after how many milliseconds it connects again by itself.
//
// again       waits until it has connected again by itself -> {"session"}
"use strict";

const { randomUUID } = require("node:crypto");
const fs = require("node:fs");
const readline = require("node:readline");
const { parseArgs } = require("node:util");
const mqtt = require("mqtt");

const PATIENCE = 15_000;

// What comes, for whoever waits for it.
class Queue {
  items = [];
  takers = [];

  put(item) {
    const taker = this.takers.shift();
    if (taker) taker(item);
    else this.items.push(item);
  }

  get(what) {
    if (this.items.length) return Promise.resolve(this.items.shift());
    return patient(new Promise((resolve) => this.takers.push(resolve)), what);
  }
}

function patient(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} in time`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// What a call with a callback answers: the packet, with the reason for a failure.
function called(what, call) {
  return patient(new Promise((resolve) => call((error, ...rest) => resolve({ error, rest }))), what);
}

// Names as the specification has them, to those of MQTT.js.
function properties(given) {
  if (!given) return undefined;
  const mine = {};
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    if (name === "UserProperty") {
      const all = (mine.userProperties = {});
      for (const [key, one] of value) (all[key] ??= []).push(one);
    } else if (name === "CorrelationData") mine.correlationData = Buffer.from(value);
    else if (name === "PayloadFormatIndicator") mine.payloadFormatIndicator = Boolean(value);
    else mine[name[0].toLowerCase() + name.slice(1)] = value;
  }
  return mine;
}

// And back, as paho-mqtt shows them.
function shown(mine) {
  const all = {};
  for (const [name, value] of Object.entries(mine ?? {})) {
    if (name === "userProperties") {
      all.UserProperty = Object.entries(value).flatMap(([key, ones]) => [ones].flat().map((one) => [key, one]));
    } else if (name === "correlationData") all.CorrelationData = value.toString("hex");
    else if (name === "subscriptionIdentifier") all.SubscriptionIdentifier = [value].flat();
    else all[name[0].toUpperCase() + name.slice(1)] = typeof value === "boolean" ? Number(value) : value;
  }
  return all;
}

class Peer {
  constructor(port) {
    this.port = port;
  }

  async connect(step) {
    const version = (this.version = step.v ?? 4);
    const v5 = version === 5;
    const scheme = step.websocket ? (step.ca ? "wss" : "ws") : step.ca ? "mqtts" : "mqtt";
    const { will } = step;
    const it = (this.client = mqtt.connect(`${scheme}://127.0.0.1:${step.port ?? this.port}`, {
      protocolVersion: version,
      protocolId: version === 3 ? "MQIsdp" : "MQTT",
      // 3.1 has no empty one.
      clientId: step.id ?? (version === 3 ? randomUUID().slice(0, 23) : ""),
      clean: step.clean ?? true,
      keepalive: step.keepalive ?? 60,
      reconnectPeriod: step.reconnect ?? 0,
      connectTimeout: PATIENCE,
      username: step.user,
      password: step.password,
      ca: step.ca && fs.readFileSync(step.ca),
      cert: step.certificate && fs.readFileSync(step.certificate),
      key: step.key && fs.readFileSync(step.key),
      autoAssignTopicAlias: v5 && step.aliases !== undefined,
      will: will && {
        topic: will.topic,
        payload: will.payload ?? "",
        qos: will.qos ?? 0,
        retain: will.retain ?? false,
        properties: v5 ? properties({ ...will.properties, WillDelayInterval: will.delay }) : undefined,
      },
      properties: v5
        ? properties({
            SessionExpiryInterval: step.expiry,
            ReceiveMaximum: step.receive,
            MaximumPacketSize: step.packet,
            TopicAliasMaximum: step.aliases,
          })
        : undefined,
    }));
    this.connects = new Queue();
    this.losses = new Queue();
    this.messages = new Queue();
    let reason = 0;
    it.on("connect", (ack) => this.connects.put({ ack }));
    it.on("error", (error) => this.connects.put({ error }));
    it.on("disconnect", (packet) => (reason = packet.reasonCode ?? 0));
    it.on("close", () => this.losses.put(reason));
    it.on("message", (topic, payload, packet) => this.messages.put({ topic, payload, packet }));
    const { ack, error } = await this.connects.get("CONNACK");
    if (error && !(error.code > 0)) throw error;
    if (error) return { reason: error.code, session: false, properties: {} };
    return { reason: 0, session: ack.sessionPresent, properties: shown(ack.properties) };
  }

  async again() {
    for (;;) {
      const { ack } = await this.connects.get("connection");
      if (ack) return { session: ack.sessionPresent };
    }
  }

  async subscribe(step) {
    const filters = {};
    for (const [name, given] of step.filters) {
      const of = typeof given === "number" ? { qos: given } : given;
      const { qos = 1, local = true, published = false, handling = 0 } = of;
      filters[name] = this.version === 5 ? { qos, nl: !local, rap: published, rh: handling } : { qos };
    }
    const more = step.id && { properties: { subscriptionIdentifier: step.id } };
    const { error, rest } = await called("SUBACK", (done) => this.client.subscribe(filters, more ?? {}, done));
    const ack = rest[1] ?? error?.packet;
    if (!ack) throw error;
    return { reasons: ack.granted };
  }

  async unsubscribe(step) {
    const { error, rest } = await called("UNSUBACK", (done) => this.client.unsubscribe(step.filters, done));
    if (error) throw error;
    return { reasons: rest[0].granted ?? [] };
  }

  async publish(step) {
    const options = { qos: step.qos ?? 1, retain: step.retain ?? false };
    if (this.version === 5) options.properties = properties(step.properties);
    const payload = (step.payload ?? "").padEnd(step.size ?? 0);
    const { error, rest } = await called("acknowledgement", (done) =>
      this.client.publish(step.topic, payload, options, done));
    if (error && !(error.code > 0)) throw error;
    return { reason: error?.code ?? rest[0]?.reasonCode ?? 0 };
  }

  async burst(step) {
    const { topic, qos = 1, first = 0, count } = step;
    const all = Array.from({ length: count }, (_, n) => this.client.publishAsync(topic, String(first + n), { qos }));
    return { acked: (await patient(Promise.all(all), "acknowledgement of all")).length };
  }

  async take(step) {
    const taken = [];
    while (taken.length < step.count) taken.push(await this.messages.get(`message ${taken.length} of ${step.count}`));
    if (step.payloads) return { messages: taken.map(({ payload }) => payload.toString()) };
    return { messages: taken.map((message) => this.described(message)) };
  }

  described({ topic, payload, packet }) {
    const size = payload.length;
    const text = size > 1000 ? payload.toString().trimEnd() : payload.toString();
    const it = { topic, payload: text, qos: packet.qos, retain: packet.retain, dup: packet.dup, size };
    if (this.version === 5) it.properties = shown(packet.properties);
    return it;
  }

  async disconnect(step) {
    const options = step.reason === undefined ? {} : { reasonCode: step.reason };
    await called("end", (done) => this.client.end(false, options, done));
    return {};
  }

  async drop() {
    this.client.stream.destroy();
    await this.losses.get("end");
    return {};
  }

  async lost() {
    return { reason: await this.losses.get("end") };
  }
}

async function main() {
  const { values } = parseArgs({ options: { port: { type: "string" } } });
  const peers = new Map();
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const step = JSON.parse(line);
    if (!peers.has(step.as)) peers.set(step.as, new Peer(Number(values.port)));
    let answer;
    try {
      answer = await peers.get(step.as)[step.do](step);
    } catch (error) {
      answer = { error: String(error) };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  // Clients that are still connected would keep it alive.
  process.exit();
}

main();
