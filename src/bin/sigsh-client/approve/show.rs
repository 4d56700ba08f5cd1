//! What an approver sees, and is asked.

use crate::error::say;
use indicatif::BinaryBytes;
use rustix::termios::QueueSelector;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How wide the first column is.
const LABEL: usize = 12;

/// How wide a terminal is that does not say so.
const COLUMNS: usize = 80;

/// The least width of the second column.
const NARROW: usize = 16;

/// Whether somebody can see it and answer.
pub(super) fn is_seen() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Shows rows.
pub(super) fn show(rows: &[(&str, String)]) {
    let columns = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    lines(rows, if columns == 0 { COLUMNS } else { columns }).iter().for_each(|line| say(line));
}

/// Breaks each value by itself: what a terminal wraps would begin where labels do.
fn lines(rows: &[(&str, String)], columns: usize) -> Vec<String> {
    let width = columns.saturating_sub(LABEL).max(NARROW);
    let mut lines = Vec::new();
    for (label, value) in rows {
        let value = value.chars().collect::<Vec<_>>();
        // Digits are compared by eights.
        let digits = value.len() >= 64 && value.iter().all(char::is_ascii_hexdigit);
        let width = if digits { width / 8 * 8 } else { width };
        let (mut label, mut rest) = (*label, value.as_slice());
        while !rest.is_empty() {
            let blank = rest.iter().take(width).rposition(|c| *c == ' ').filter(|_| rest.len() > width);
            let (piece, more) = rest.split_at(blank.map_or(width, |blank| blank + 1).min(rest.len()));
            lines.push(format!("{label:LABEL$}{}", piece.iter().collect::<String>()));
            (label, rest) = ("", more);
        }
    }
    lines
}

/// A path that nothing can be hidden in: as it is where it is plain, else in quotes and printable ASCII.
pub(crate) fn escaped(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    if bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"/._+~:@%=,-".contains(byte)) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut text = "\"".to_owned();
    for byte in bytes {
        let _ = match byte {
            b'"' | b'\\' => write!(text, "\\{}", char::from(*byte)),
            b' '..=b'~' => write!(text, "{}", char::from(*byte)),
            byte => write!(text, "\\x{byte:02x}"),
        };
    }
    text + "\""
}

/// In bytes, and in words where these are many.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        1 => "1 byte".to_owned(),
        0..1024 => format!("{bytes} bytes"),
        _ => format!("{bytes} bytes ({})", BinaryBytes(bytes)),
    }
}

/// Asks at the terminal. Only a yes is one, and only one that comes after the question.
pub(super) fn ask() -> bool {
    let (stdin, mut stderr) = (io::stdin(), io::stderr());
    if rustix::termios::tcflush(&stdin, QueueSelector::IFlush).is_err() {
        return false;
    }
    let _ = stderr.write_all(b"approve? [y/N] ").and_then(|()| stderr.flush());
    // A terminal gives one line at a time, and what stays in it is dropped before the next question.
    let mut answer = [0; 64];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(&stdin, &mut answer)).unwrap_or_default();
    let line = answer.get(..length).and_then(|answer| answer.strip_suffix(b"\n")).unwrap_or_default();
    ["y", "yes"].iter().any(|yes| line.trim_ascii().eq_ignore_ascii_case(yes.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_in_its_column() {
        let rows = [
            ("file", "x".repeat(30)),
            ("sha256", "0123456789abcdef".repeat(4)),
            ("by", "a word is not cut unless it must".to_owned()),
        ];
        let narrow = [
            "file        xxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "            xx",
            "sha256      0123456789abcdef01234567",
            "            89abcdef0123456789abcdef",
            "            0123456789abcdef",
            "by          a word is not cut unless it ",
            "            must",
        ];
        assert_eq!(lines(&rows, 40), narrow);
        let wide = lines(&rows, 80);
        assert_eq!(wide.len(), 3);
        assert_eq!(wide[1].len(), 12 + 64);
        assert_eq!(lines(&rows, 1)[0], "file        xxxxxxxxxxxxxxxx");
    }

    #[test]
    fn nothing_hides_in_a_name() {
        for (name, shown) in [
            (&b"dist/f-1.0~rc1_x+y:z@%=,.tar"[..], "dist/f-1.0~rc1_x+y:z@%=,.tar"),
            (b"f size 1", "\"f size 1\""),
            (b"a\"\\", "\"a\\\"\\\\\""),
            (b"a\r\x1b[2Jb\n", "\"a\\x0d\\x1b[2Jb\\x0a\""),
            ("\u{202e}ä".as_bytes(), "\"\\xe2\\x80\\xae\\xc3\\xa4\""),
            (b"\xff\x7f", "\"\\xff\\x7f\""),
        ] {
            assert_eq!(escaped(Path::new(std::ffi::OsStr::from_bytes(name))), shown);
        }
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [(0, "0 bytes"), (1, "1 byte"), (1023, "1023 bytes"), (1536, "1536 bytes (1.50 KiB)")] {
            assert_eq!(size(bytes), text);
        }
    }
}
