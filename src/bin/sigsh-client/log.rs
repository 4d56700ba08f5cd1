//! The gpg front end's own log: makepkg and repo-add throw away what it says on standard error.

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::SystemTime;

/// Where the system takes log lines (RFC 3164, as syslog(3) sends them).
const SOCKET: &str = "/dev/log";

/// The facility `user` with the severities `info` and `err`.
const INFO: u8 = 8 + 6;
const ERROR: u8 = 8 + 3;

/// Where lines go. That one cannot be written changes nothing: the exit code has said it already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Log {
    /// To the system's log.
    #[default]
    Syslog,
    /// To the end of this file.
    File(PathBuf),
    /// Nowhere.
    Off,
}

impl Log {
    /// What went well.
    pub(crate) fn info(&self, line: &str) {
        self.write(INFO, line);
    }

    /// What did not.
    pub(crate) fn error(&self, line: &str) {
        self.write(ERROR, line);
    }

    fn write(&self, priority: u8, line: &str) {
        let line = format!("sigsh-client[{}]: {}", std::process::id(), crate::error::clean(line));
        let _ = match self {
            Log::Syslog => UnixDatagram::unbound()
                .and_then(|socket| {
                    socket.set_nonblocking(true).and_then(|()| socket.send_to(format!("<{priority}>{line}").as_bytes(), SOCKET))
                })
                .map(drop),
            Log::File(path) => File::options().append(true).create(true).open(path).and_then(|mut file| {
                let time = humantime::format_rfc3339_seconds(SystemTime::now());
                file.write_all(format!("{time} {line}\n").as_bytes())
            }),
            Log::Off => Ok(()),
        };
    }
}
