//! What is said on ssh's standard error, by the host or by ssh itself.

use super::{Attempt, SSH};
use crate::error::{Error, say};
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// How much of what a host says on stderr is kept, in lines.
const MOST_LINES: usize = 100;

/// The longest line of them, in bytes.
const MAX_LINE: u64 = 1000;

/// What ssh says when it would say it again, and what that is: nobody there, nobody let in, or a matter of settings.
const LASTING: [(&str, u8); 8] = [
    ("Name or service not known", 69),
    ("Permission denied (", 77),
    ("Too many authentication failures", 77),
    ("Host key verification failed", 78),
    ("Bad configuration option", 78),
    ("Can't open user config file", 78),
    ("Bad owner or permissions on", 78),
    ("No user exists for uid", 78),
];

/// Takes the lines of standard error as they come. What ssh itself asks or says is for the person at the terminal, at once.
///
/// # Errors
/// When there is no thread for it.
pub(super) fn follow(stderr: impl Read + Send + 'static) -> io::Result<Receiver<String>> {
    let (sender, lines) = sync_channel(MOST_LINES);
    let read = move || {
        let live = io::stderr().is_terminal();
        let mut stderr = BufReader::new(stderr);
        loop {
            let mut line = Vec::new();
            match stderr.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            // Who says more than that is read, so that it goes on, and not heard.
            let shown = live && !line.starts_with("sigsh: ");
            if !is_noise(&line) && sender.try_send(line.clone()).is_ok() && shown {
                say(&line);
            }
        }
    };
    std::thread::Builder::new().spawn(read).map(|_| lines)
}

/// All lines; but a connection that stays open may keep standard error open, too.
pub(super) fn collect(lines: &Receiver<String>) -> Vec<String> {
    std::iter::from_fn(|| lines.recv_timeout(Duration::from_millis(500)).ok()).take(MOST_LINES).collect()
}

/// What ssh says when it cannot share a connection and goes on with one of its own.
fn is_noise(line: &str) -> bool {
    line.is_empty()
        || line.contains("disabling multiplexing")
        || line.starts_with("mux_client_")
        || line.starts_with("Control socket connect(")
}

/// What was said on standard error: sigsh's own error and hint, and ssh's last words.
pub(super) struct Said {
    error: Option<String>,
    hint: Option<String>,
    last: Option<String>,
}

impl Said {
    /// Of these lines.
    pub(super) fn of(lines: Vec<String>) -> Said {
        let after = |prefix: &str| lines.iter().find_map(|line| line.strip_prefix(prefix)).map(str::to_owned);
        let (error, hint) = (after("sigsh: error: "), after("sigsh: hint: "));
        let last = lines.into_iter().rfind(|line| !line.starts_with("sigsh: "));
        Said { error, hint, last }
    }

    /// The connection broke in the middle.
    pub(super) fn cut(self, host: &str) -> Error {
        let last = self.error.or(self.last).map(|line| format!(" ({})", line.trim_end_matches('.'))).unwrap_or_default();
        Error::Cut(format!("{host}: the connection broke{last}"))
    }

    /// What an exit code other than 0 means; `signed` when a signature has come before. ssh's own only when no host has accepted anything.
    pub(super) fn attempt(self, host: &str, code: i32, signed: bool) -> Attempt {
        let silent = self.error.is_none() && self.last.is_none();
        let line = self.error.or(self.last).unwrap_or_else(|| "it gives no reason".to_owned());
        let (known, lasting) = match code {
            SSH if silent => return Attempt::Nothing { error: Error::Unexplained(host.to_owned()), lasting: false },
            SSH => LASTING.iter().find(|(words, _)| line.contains(words)).map_or((69, false), |(_, code)| (*code, true)),
            // A shell that has found no sigsh.
            126 | 127 => (69, true),
            code => (u8::try_from(code).ok().filter(|code| (64..=78).contains(code)).unwrap_or(69), code == 78),
        };
        let line = line.trim_end_matches('.').to_owned();
        let error = Error::Refused { host: host.to_owned(), code: known, line, hint: self.hint };
        match code {
            SSH | 75 | 78 | 126 | 127 if !signed => Attempt::Nothing { error, lasting },
            _ => Attempt::Final(error),
        }
    }
}
