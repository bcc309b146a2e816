//! What is wrong with a config, where, and what to do: shown as a compiler shows it.

use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::source::{Sources, Span};

/// Enough to work on; more are counted only.
const MOST_SHOWN: usize = 30;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The config cannot be used.
    Error,
    /// The config works, but hardly as it was meant.
    Warning,
}

/// One thing to tell.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    severity: Severity,
    message: String,
    marks: Vec<(Span, String)>,
    help: Option<String>,
}

impl Diagnostic {
    /// An error without a place.
    pub fn error(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), marks: Vec::new(), help: None }
    }

    /// A warning without a place.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// Marks a place. The first one is where the caret goes.
    pub fn at(self, span: Span) -> Self {
        self.mark(span, "")
    }

    /// Marks a place and says what is there.
    pub fn mark(mut self, span: Span, label: impl Into<String>) -> Self {
        self.marks.push((span, label.into()));
        self
    }

    /// Says what to do.
    pub fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }

    /// Its text, without its place.
    pub fn message(&self) -> &str {
        &self.message
    }

    fn render(&self, sources: &Sources, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(self.message.as_str()));
        let mut rest: Vec<_> =
            self.marks.iter().enumerate().filter_map(|(n, mark)| Some((n, mark, sources.locate(&mark.0)?))).collect();
        // Marks in one file share a snippet; the first mark's file comes first.
        while let Some((_, _, (source, _))) = rest.first() {
            let source = *source;
            let (here, others) = rest.into_iter().partition(|(_, _, (other, _))| std::ptr::eq(*other, source));
            rest = others;
            let here: Vec<_> = here;
            group =
                group.element(Snippet::source(source.text.as_str()).path(source.path.to_string_lossy()).annotations(
                    here.into_iter().map(|(n, (_, label), (_, span))| {
                        let kind = if n == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
                        kind.span(span).label((!label.is_empty()).then_some(label.as_str()))
                    }),
                ));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }
}

/// All there is to tell about a config, with the texts to show it in.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    pub(super) sources: Sources,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Adds one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    /// Whether there is an error among them.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|d| d.severity == Severity::Error)
    }

    /// Those without their places.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(Diagnostic::message)
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Forgets the warnings: with errors, they are only in the way.
    pub(super) fn keep_errors(&mut self) {
        self.list.retain(|d| d.severity == Severity::Error);
    }

    /// Sorts by place, errors without a place first, and says each thing once.
    pub(super) fn sort(&mut self) {
        let place = |d: &Diagnostic| d.marks.first().map(|(span, _)| (span.start, span.end));
        self.list.sort_by(|a, b| place(a).cmp(&place(b)).then(a.severity.cmp(&b.severity)));
        self.list.dedup_by(|a, b| a.message == b.message && place(a) == place(b));
    }

    /// As text for a person, in colour for a terminal.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for diagnostic in self.list.iter().take(MOST_SHOWN) {
            text.push_str(&diagnostic.render(&self.sources, &renderer));
            text.push_str("\n\n");
        }
        if let Some(more) = self.list.len().checked_sub(MOST_SHOWN).filter(|n| *n > 0) {
            text.push_str(&format!("and {more} more\n"));
        }
        text
    }
}

/// Plain text, without colour.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// `did you mean …?` for the known word nearest to `word`; the known words when none is near and they are few.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    let lower = word.to_lowercase().replace('_', "-");
    let near = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(&lower, &k.to_lowercase()), *k))
        .filter(|(distance, k)| *distance <= (k.len().max(lower.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance);
    match near {
        Some((_, name)) => Some(format!("did you mean `{name}`?")),
        None if known.is_empty() => None,
        None if known.len() <= 16 => Some(format!("known here: {}", known.join(", "))),
        None => Some(format!("known here: {}, … ({} in all)", known[..12].join(", "), known.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_meant() {
        let known = ["baud", "port", "parity"];
        assert_eq!(did_you_mean("buad", known), Some("did you mean `baud`?".into()));
        assert_eq!(did_you_mean("Port", known), Some("did you mean `port`?".into()));
        assert_eq!(did_you_mean("max_gap", ["max-gap"]), Some("did you mean `max-gap`?".into()));
        assert_eq!(did_you_mean("colour", known), Some("known here: baud, port, parity".into()));
        assert_eq!(did_you_mean("x", []), None);
    }

    #[test]
    fn marks_in_two_files_are_both_shown() {
        let mut all = Diagnostics::default();
        all.sources.add("a.toml".into(), "x = 1\n".into());
        all.sources.add("b.toml".into(), "y = 2\n".into());
        all.push(Diagnostic::error("twice").at(7..8).mark(0..1, "first here").help("keep one".to_owned()));
        let text = all.to_string();
        for part in ["error: twice", "b.toml:1:1", "a.toml:1:1", "first here", "help: keep one"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
        assert!(all.render(true).contains('\u{1b}'));
    }
}
