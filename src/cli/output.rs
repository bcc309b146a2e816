//! What the commands print.

use std::io::{self, Write};
use std::process::ExitCode;

use super::exit;

/// Prints data on stdout. A reader that has seen enough and left, as `head` does, is no error.
pub(super) fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => {
            complain(&format!("cannot write the output: {e}\n"));
            exit::IO.into()
        }
    }
}

/// Prints a message on stderr.
pub(super) fn complain(text: &str) {
    // There is nowhere left to say that stderr is closed.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Rows in columns as wide as their widest cell, two spaces apart, each line after `indent`.
pub(super) fn columns(rows: &[Vec<String>], indent: &str) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |n: usize| rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|n| width(n).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = format!("{indent}{}", cells.collect::<Vec<_>>().join("  "));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [vec!["°C".to_owned(), "a".to_owned()], vec!["long".to_owned(), String::new()]];
        assert_eq!(columns(&rows, " "), " °C    a\n long\n");
        assert_eq!(columns(&[], ""), "");
    }
}
