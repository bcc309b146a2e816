//! The files of a config, laid one after the other, so that one pair of numbers is a place in any of them.

use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Bytes from `start` to `end` of all files together; [`Sources::locate`] says of which file.
pub type Span = Range<usize>;

/// No config is larger; what is, was named by mistake.
const MOST: u64 = 4 << 20;

/// All files read so far.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Source>,
}

/// One file.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path, as it was named.
    pub path: PathBuf,
    /// Its text, without a byte order mark.
    pub text: String,
    base: usize,
}

impl Sources {
    /// Reads a file and gives its number.
    ///
    /// # Errors
    /// When it cannot be read or is not UTF-8; the text names it and says what to do.
    pub fn read(&mut self, path: &Path) -> Result<usize, String> {
        let text = read(path)?;
        Ok(self.add(path.to_owned(), text))
    }

    /// Adds a text as a file of this name and gives its number.
    pub fn add(&mut self, path: PathBuf, mut text: String) -> usize {
        if text.starts_with('\u{feff}') {
            text.drain(..'\u{feff}'.len_utf8());
        }
        // One byte more than the text, so that the end of a file is not the begin of the next.
        let base = self.files.last().map_or(0, |last| last.base + last.text.len() + 1);
        self.files.push(Source { path, text, base });
        self.files.len() - 1
    }

    /// The text of a file, moved to its place among all: what a parser says of it is a [`Span`].
    pub fn in_place(&self, file: usize) -> String {
        let source = &self.files[file];
        let mut text = " ".repeat(source.base);
        text.push_str(&source.text);
        text
    }

    /// The file that a span is in, and the span within its text.
    pub fn locate(&self, span: &Span) -> Option<(&Source, Span)> {
        let at = self.files.partition_point(|file| file.base <= span.start).checked_sub(1)?;
        let source = &self.files[at];
        let within = |n: usize| {
            let mut n = n.saturating_sub(source.base).min(source.text.len());
            while !source.text.is_char_boundary(n) {
                n -= 1;
            }
            n
        };
        let start = within(span.start);
        Some((source, start..within(span.end).max(start)))
    }
}

fn read(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let cannot = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => format!("{shown} is not there; name another file, or make this one"),
        io::ErrorKind::PermissionDenied => format!("{shown} may not be read by this user"),
        _ => format!("{shown} cannot be read: {e}"),
    };
    if fs::metadata(path).map_err(cannot)?.is_dir() {
        return Err(format!("{shown} is a folder; name the file in it"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path).and_then(|file| file.take(MOST + 1).read_to_end(&mut bytes)).map_err(cannot)?;
    if bytes.len() as u64 > MOST {
        return Err(format!("{shown} is larger than {} and no config", crate::units::Size(MOST)));
    }
    String::from_utf8(bytes).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count();
        format!("{shown} is not UTF-8 text: line {line} has a byte that is none; save the file as UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_finds_its_file() {
        let mut sources = Sources::default();
        let one = sources.add("one".into(), "\u{feff}a = 1".into());
        let two = sources.add("two".into(), "b = 'ü'".into());
        for (file, path) in [(one, "one"), (two, "two")] {
            let text = sources.in_place(file);
            let start = text.find('=').expect("there is one");
            let (source, span) = sources.locate(&(start..start + 1)).expect("a place");
            assert_eq!((source.path.to_str(), span), (Some(path), 2..3));
        }
        // A span that ends within a character or beyond the file is cut, never a panic.
        let (source, span) = sources.locate(&(12..99)).expect("a place");
        assert_eq!(&source.text[span], "'ü'".get(1..).expect("a char"));
        assert!(Sources::default().locate(&(0..1)).is_none());
    }
}
