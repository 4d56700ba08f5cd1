//! Whatever goes wrong: one line, a hint, an exit code of sysexits.h.

use sigsh::config::ConfigError;
use sigsh::openpgp::{BadSignature, OpenpgpError};
use sigsh::trusted::TrustError;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::OnceLock;

/// EX_TEMPFAIL: try again later.
pub(crate) const BUSY: u8 = 75;

/// How a host begins to say that it wants more than a file.
pub(crate) const GUARDED: &str = "this key signs what is endorsed or approved";

/// Why there is no signature, or no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0}: {1}")]
    Setting(&'static str, String),
    #[error("git's setting {0}: {1}")]
    Git(String, String),
    #[error("no host is configured")]
    NoHost,
    #[error("no certificate is configured")]
    NoCertificate,
    #[error("there is no [key.{0}] in the configuration")]
    NoKey(String),
    #[error("{path}: the certificate {what}", path = .0.display(), what = .1.to_string().trim_start_matches("the certificate "))]
    Certificate(PathBuf, OpenpgpError),
    #[error("{path}: {why}", path = .0.display(), why = lower(.1))]
    Input(PathBuf, io::Error),
    #[error("{path} changed in the meantime", path = .0.display())]
    Changed(PathBuf),
    #[error("{path} exists already", path = .0.display())]
    Exists(PathBuf),
    /// The same, where others write, too: this command tells what to append.
    #[error("{path} exists already", path = .0.display())]
    Append(PathBuf, String),
    #[error("{path}: {why}", path = .0.display(), why = lower(.1))]
    File(PathBuf, io::Error),
    #[error("{0}: {why}", why = lower(.1))]
    Io(&'static str, io::Error),
    /// The host has answered: its exit code, its line, its hint.
    #[error("{host}: {line}")]
    Refused { host: String, code: u8, line: String, hint: Option<String> },
    /// No host has accepted anything.
    #[error("{0}")]
    Down(String, Reached),
    #[error("{0} after the host had begun: it may have signed")]
    Cut(String),
    /// ssh has failed, and nobody says why: it may be down, and it may be something else.
    /// The same, or another end in the middle, where what was shown is good for so many signatures.
    #[error("{0}")]
    Spent(Box<Error>),
    #[error("{0}: it gives no reason")]
    Unexplained(String),
    #[error("{0}: it does not answer")]
    Silent(String),
    /// The host reads no more; why, it says itself.
    #[error("the host has stopped reading")]
    Gone,
    #[error("{0}: the answer ended too early")]
    Short(String),
    #[error("{0}: the answer is not what was asked for: {1}")]
    Answer(String, String),
    #[error("{0}: the signature is not good: {1}")]
    Bad(String, BadSignature),
    #[error("{0}: the signature is not good: it was made {1} seconds in the future: one of the two clocks is wrong")]
    Ahead(String, u64),
    #[error("the local fallback: {0}")]
    Fallback(String),
    /// ssh-keygen or gpg.
    #[error("{0}: {1}")]
    Program(String, String),
    /// What a build or a person has given is no such thing.
    #[error("{path}: {1}", path = .0.display())]
    Evidence(PathBuf, String),
    #[error("it is not known which ssh key approves")]
    NoIdentity,
    #[error("it is not known where it may be signed")]
    NoPlace,
    #[error("it is not known who will ask for the signature")]
    NoRequester,
    #[error("{0} is not approved")]
    NotApproved(String),
}

/// What the hosts of [`Error::Down`] have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reached {
    /// Nobody has answered.
    None,
    /// One was busy.
    Busy,
    /// One was there, and this is its code, but it could not even begin.
    Refused(u8),
}

impl Error {
    /// Why an answer cannot be read.
    pub(crate) fn unread(host: &str, error: &io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::TimedOut => Error::Silent(host.to_owned()),
            _ => Error::Answer(host.to_owned(), lower(error)),
        }
    }

    /// Why nothing more can be sent: who does not read at all is silent, the others say why.
    pub(crate) fn unsent(error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::TimedOut => Error::Silent("the host".to_owned()),
            _ => Error::Gone,
        }
    }

    /// The same of a key that is guarded.
    pub(crate) fn guarded(self) -> Error {
        match self {
            Error::Cut(_) | Error::Silent(_) | Error::Short(_) | Error::Answer(..) => Error::Spent(Box::new(self)),
            error => error,
        }
    }

    /// The code to exit with.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Error::Spent(error) => error.code(),
            Error::Usage(_) => 64,
            Error::Changed(_) | Error::Evidence(..) => 65,
            Error::Input(..) => 66,
            Error::Down(_, Reached::None)
            | Error::Unexplained(_)
            | Error::Cut(_)
            | Error::Silent(_)
            | Error::Fallback(_)
            | Error::Program(..) => 69,
            Error::Exists(_) | Error::Append(..) => 73,
            Error::File(..) | Error::Io(..) => 74,
            Error::Down(_, Reached::Busy) => BUSY,
            Error::Gone | Error::Short(_) | Error::Answer(..) | Error::Bad(..) | Error::Ahead(..) => 76,
            Error::NotApproved(_) => 77,
            Error::Config(_)
            | Error::Setting(..)
            | Error::Git(..)
            | Error::NoHost
            | Error::NoCertificate
            | Error::NoKey(_)
            | Error::NoIdentity
            | Error::NoPlace
            | Error::NoRequester
            | Error::Certificate(..) => 78,
            Error::Refused { code, .. } | Error::Down(_, Reached::Refused(code)) => *code,
        }
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Refused { line, .. } if line.starts_with(GUARDED) => {
                "say guarded = true in the key's table of client.toml, or name what vouches for the file: --endorsement, --approval"
            }
            // It is for those who write the request themselves.
            Error::Refused { hint: Some(hint), .. } if hint.contains("--approval TIME=BASE64") => {
                "'sigsh-client approve' makes one person's: FILE.NAME.approval beside the file, or what --approval names"
            }
            Error::Spent(_) => {
                "it may have used up a permit, or what was approved for an emergency: before you sign again, look in the host's journal, \
                 or ask its operator"
            }
            Error::Refused { host, hint, .. } => return hint.as_ref().map(|hint| format!("{host}: {hint}")),
            Error::Config(ConfigError::Trust(TrustError::Writable(path, mode))) => {
                let whose = if mode & 0o002 == 0 { "g" } else { "go" };
                return Some(format!("chmod {whose}-w {}", path.display()));
            }
            Error::Append(path, command) => return Some(format!("append: {command} >> {}", path.display())),
            Error::NoHost => "name it by --host, in SIGSH_HOST, or as hosts = [\"signer@…\"] in ~/.config/sigsh/client.toml",
            Error::NoCertificate => {
                "fetch it once with 'ssh HOST certificate > key.pgp', compare its fingerprint, and name it by --certificate, in \
                 SIGSH_CERTIFICATE or in the configuration"
            }
            Error::NoIdentity => "name it by --identity, or as identity = \"/home/…/.ssh/id_ed25519\" in client.toml",
            Error::NoPlace => "say --for-host or --for-fleet, or approve-for = \"fleet …\" in the key's table of client.toml",
            Error::NoRequester => "say --requester, or requester = \"…\" in the key's table of client.toml",
            Error::Exists(_) => "--force replaces it",
            Error::Down(_, Reached::None | Reached::Refused(_)) => "'sigsh-client doctor' looks at each host",
            Error::Down(_, Reached::Busy) => "sign again later, or ask the host's operator for a higher rate",
            Error::Cut(_) => "sign again: a second signature of the same file does no harm",
            Error::Changed(_) => "try again when nobody writes to it",
            Error::Ahead(..) => "run timedatectl on both, and let NTP set the wrong one",
            Error::Bad(..) => "compare the certificate here with the host's: 'sigsh-client doctor'",
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// One line, and at most a hint.
    pub(crate) fn print(&self) {
        say(&format!("sigsh-client: error: {self}"));
        if let Some(hint) = self.hint() {
            say(&format!("sigsh-client: hint: {hint}"));
        }
    }
}

/// What the caller of gpg has named for messages.
static INSTEAD: OnceLock<File> = OnceLock::new();

/// Has all further lines written there, and not to standard error.
pub(crate) fn say_to(file: File) {
    let _ = INSTEAD.set(file);
}

/// A line on standard error; that nobody reads there changes nothing.
pub(crate) fn say(line: &str) {
    let line = clean(line) + "\n";
    // At once: others may write there, too.
    let _ = match INSTEAD.get() {
        Some(mut file) => file.write_all(line.as_bytes()),
        None => io::stderr().write_all(line.as_bytes()),
    };
}

/// The system's own words, without the number of the error.
pub(crate) fn lower(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Text that comes from elsewhere, for a terminal: one line, and nothing that moves the cursor or turns the line around.
pub(crate) fn clean(text: &str) -> String {
    let moves =
        |c: char| c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if moves(c) { '?' } else { c }).collect()
}
