//! The page: a verdict, and tables of cells. The same cells are rendered at first and sent live afterwards.

use std::hash::{DefaultHasher, Hash, Hasher};

use askama::Template;
use serde::Serialize;

use super::rows;
use super::snapshot::Snapshot;
use super::verdict::{Tone, Verdict, judge};
use super::words;
use crate::clock::{Moment, Timestamp};
use crate::status::{Gateway, State};

/// All that the page shows at one moment.
#[derive(Clone, Debug, Template)]
#[template(
    ext = "html",
    source = r##"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ gateway.id }}: {{ verdict.title }}</title>
<link rel="icon" href="/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/page.css">
<script src="/page.js" defer></script>
</head>
<body data-now="{{ now.0 }}" data-version="{{ gateway.version }}">
<header>
<h1 id="gateway">{{ gateway.id }}</h1>
<p>Fieldpost {{ gateway.version }}, running for <span id="started" data-at="{{ started.0 }}" title="{{ started }}">{{ self.age(started.0) }}</span></p>
<p id="contact" role="status" data-tone="wait">As of <time datetime="{{ now }}">{{ now }}</time></p>
<noscript><p>Live updates need JavaScript. Without it, reload the page to see how things stand.</p></noscript>
</header>
<main data-shape="{{ shape }}">
<section id="verdict" data-tone="{{ verdict.tone.name() }}" aria-live="polite" aria-label="Verdict">
<h2>{{ verdict.title }}</h2>
<ul>
{% for line in verdict.lines %}<li data-tone="{{ line.tone.name() }}">{{ line.text }}</li>
{% endfor %}</ul>
</section>
<nav aria-label="On this page">{% for table in tables %}<a href="#{{ table.id }}">{{ table.title }}</a>
{% endfor %}</nav>
{% for table in tables %}<section id="{{ table.id }}">
<h2 id="{{ table.id }}-title">{{ table.title }}</h2>
{% if table.rows.is_empty() %}<p class="empty">{{ table.empty }}</p>
{% else %}<table role="table" aria-labelledby="{{ table.id }}-title">
<thead role="rowgroup"><tr role="row">{% for column in table.columns %}<th role="columnheader" scope="col" class="{{ column.class }}">{{ column.title }}</th>{% endfor %}</tr></thead>
<tbody role="rowgroup">
{% for row in table.rows %}<tr role="row" id="{{ row.id }}" data-tone="{{ row.tone.name() }}">
{%- for cell in row.cells %}{% let column = table.columns[loop.index0] %}
{%- if loop.first %}<th role="rowheader" scope="row"{% else %}<td role="cell" class="{{ column.class }}" data-label="{{ column.title }}"{% endif %}
{%- if let Some(tone) = cell.tone %} data-tone="{{ tone.name() }}"{% endif %}>
{%- if let Some(at) = cell.at %}<span data-at="{{ at }}" title="{{ Self::moment(at) }}">{{ self.age(at) }}</span>
{%- else %}<span>{{ cell.text }}</span>{% endif %}<small>{{ cell.note }}</small>
{%- if loop.first %}</th>{% else %}</td>{% endif %}
{%- endfor %}</tr>
{% endfor %}</tbody>
</table>
{% endif %}</section>
{% endfor %}</main>
<footer>
<p>The same for programs: <a href="/api/status">/api/status</a>, <a href="/api/points">/api/points</a>,
<a href="/api/uplinks">/api/uplinks</a>, <a href="/metrics">/metrics</a></p>
</footer>
</body>
</html>
"##
)]
pub(crate) struct Page {
    pub(crate) gateway: Gateway,
    pub(crate) now: Timestamp,
    /// When the gateway started.
    pub(crate) started: Timestamp,
    pub(crate) verdict: Verdict,
    pub(crate) tables: Vec<Table>,
    /// Changes when rows come or go: then cells cannot be set one by one.
    pub(crate) shape: String,
}

/// Rows of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    id: &'static str,
    title: &'static str,
    columns: &'static [Column],
    pub(crate) rows: Vec<Row>,
    /// What stands there instead of no rows.
    empty: &'static str,
}

/// The head of a column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    class: &'static str,
}

/// One thing, in as many cells as its table has columns.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Unique on the page.
    pub(crate) id: String,
    pub(crate) tone: Tone,
    pub(crate) cells: Vec<Cell>,
}

/// One fact. The page's script reads these names.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Cell {
    text: String,
    /// Beside it, smaller.
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tone: Option<Tone>,
    /// Instead of text: the age of this moment, in milliseconds since 1970, ticking.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<i64>,
}

impl Page {
    /// Lays a snapshot out.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let tables = rows::tables(snapshot);
        let mut hasher = DefaultHasher::new();
        tables.iter().flat_map(|table| &table.rows).for_each(|row| row.id.hash(&mut hasher));
        Self {
            gateway: snapshot.gateway.clone(),
            now: snapshot.now.wall,
            started: snapshot.gateway.started.shown_at(snapshot.now),
            verdict: judge(snapshot),
            tables,
            shape: format!("{:016x}", hasher.finish()),
        }
    }

    // By reference, because that is how a template hands things on.
    fn age(&self, at: &i64) -> String {
        words::span(Self::moment(at).age_at(self.now))
    }

    fn moment(at: &i64) -> Timestamp {
        Timestamp(*at)
    }
}

impl Column {
    /// A column of words.
    pub(super) const fn text(title: &'static str) -> Self {
        Self { title, class: "text" }
    }

    /// A column of numbers, set flush right.
    pub(super) const fn figure(title: &'static str) -> Self {
        Self { title, class: "figure" }
    }

    /// The same with a class of its own, for the style sheet.
    pub(super) const fn class(self, class: &'static str) -> Self {
        Self { class, ..self }
    }
}

impl Table {
    /// A table with an `id` on the page; `empty` stands there instead of no rows.
    pub(super) fn new(
        id: &'static str,
        title: &'static str,
        columns: &'static [Column],
        empty: &'static str,
        rows: impl IntoIterator<Item = Row>,
    ) -> Self {
        Self { id, title, columns, rows: rows.into_iter().collect(), empty }
    }
}

impl Cell {
    /// Just text.
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A count.
    pub(super) fn number(n: u64) -> Self {
        Self::plain(words::number(n))
    }

    /// A number that should be zero.
    pub(super) fn loss(n: u64) -> Self {
        Self { tone: (n > 0).then_some(Tone::Warn), ..Self::number(n) }
    }

    /// How long ago; `never` when there is no such moment.
    pub(super) fn age(at: Option<Moment>, never: &str) -> Self {
        match at {
            Some(at) => Self { at: Some(at.shown_at(Moment::now()).0), ..Self::default() },
            None => Self::plain(never),
        }
    }

    /// What is reached or not, in words for both, and why not.
    pub(super) fn state(state: &State, up: &str, down: &str) -> Self {
        let cell = match state {
            State::Up => Self::plain(up),
            State::Unknown => Self::plain("trying"),
            State::Down(why) => Self::plain(down).note(&**why),
        };
        cell.tone(Tone::of(state))
    }

    /// With something smaller beside it.
    pub(super) fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    /// With a tone.
    pub(super) fn tone(self, tone: Tone) -> Self {
        Self { tone: Some(tone), ..self }
    }
}
