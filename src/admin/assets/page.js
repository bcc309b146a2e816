// Keeps the page as it is on the gateway: sets the cells that /events says have changed, and lets ages tick.
"use strict";

(() => {
  // The gateway says something at least every 15 s; a power cut closes no connection, it only falls silent.
  const SILENCE = 40_000;
  const AGAIN = 5_000;

  const contact = document.getElementById("contact");
  const name = document.getElementById("gateway").textContent;
  let offset = Number(document.body.dataset.now) - Date.now(); // the gateway's clock, ahead of this one
  let heard = Date.now();
  let stream = null;
  let lost = false;
  let fetching = false;

  // The same as words::span on the gateway.
  function span(ms) {
    const s = Math.max(0, Math.floor(ms / 1000));
    const m = Math.floor(s / 60), h = Math.floor(m / 60), d = Math.floor(h / 24);
    if (m < 1) return `${s} s`;
    if (h < 1) return `${m} min`;
    if (d < 1) return `${h} h ${m % 60} min`;
    return `${d} d ${h % 24} h`;
  }

  function put(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  function tone(element, name) {
    if (name) element.dataset.tone = name;
    else delete element.dataset.tone;
  }

  function setCell(td, cell) {
    const [text, note] = td.children;
    if (cell.at === undefined) {
      delete text.dataset.at;
      text.removeAttribute("title");
      put(text, cell.text);
    } else {
      text.dataset.at = cell.at;
      text.title = new Date(cell.at).toLocaleString();
    }
    put(note, cell.note ?? "");
    tone(td, cell.tone);
  }

  function setVerdict(verdict) {
    const section = document.getElementById("verdict");
    tone(section, verdict.tone);
    put(section.querySelector("h2"), verdict.title);
    section.querySelector("ul").replaceChildren(...verdict.lines.map((line) => {
      const item = document.createElement("li");
      item.textContent = line.text;
      tone(item, line.tone);
      return item;
    }));
    document.title = `${name}: ${verdict.title}`;
  }

  function tick() {
    const now = Date.now() + offset;
    for (const element of document.querySelectorAll("[data-at]")) put(element, span(now - element.dataset.at));
    if (Date.now() - heard > SILENCE) {
      lose();
      open();
    }
  }

  // Rows came or went: takes the whole page anew.
  async function renew() {
    if (fetching) return;
    fetching = true;
    try {
      const answer = await fetch("/");
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        document.querySelector("main").replaceWith(fresh.querySelector("main"));
        open(); // what changed meanwhile comes with the new stream's first event
      }
    } catch {
      // The next event finds the shape still different.
    } finally {
      fetching = false;
    }
  }

  function update(delta) {
    heard = Date.now();
    offset = delta.now - heard;
    document.getElementById("started").dataset.at = delta.started;
    lost = false;
    document.body.classList.remove("lost");
    tone(contact, "good");
    put(contact, "Live");
    if (delta.version !== document.body.dataset.version) {
      location.reload();
    } else if (delta.shape !== document.querySelector("main").dataset.shape) {
      renew();
    } else {
      if (delta.verdict) setVerdict(delta.verdict);
      for (const [id, change] of Object.entries(delta.rows ?? {})) {
        const row = document.getElementById(id);
        tone(row, change.tone);
        for (const [i, cell] of Object.entries(change.cells)) setCell(row.cells[i], cell);
      }
      tick();
    }
  }

  function lose() {
    if (lost) return;
    lost = true;
    document.body.classList.add("lost");
    tone(contact, "bad");
    const since = new Date(heard).toLocaleTimeString();
    put(contact, `No contact with the gateway since ${since}. What you see is old. Trying again…`);
  }

  function open() {
    stream?.close();
    heard = lost ? Date.now() : heard; // gives the new stream its time
    stream = new EventSource("/events");
    stream.onmessage = (event) => update(JSON.parse(event.data));
    stream.onerror = () => {
      lose();
      // The browser tries again by itself, unless it was told no (busy, another password).
      const refused = stream.readyState === EventSource.CLOSED;
      if (refused) setTimeout(open, AGAIN);
    };
  }

  setInterval(tick, 1000);
  open();
})();
