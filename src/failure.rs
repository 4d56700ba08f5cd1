//! Any error → what the client may know, what the journal must know, and the exit code. The only place that translates.

use crate::audit::journal::JournalError;
use crate::audit::ledger::LedgerError;
use crate::audit::{AuditError, Event};
use crate::config::ConfigError;
use crate::hash_state::StateError as Unreached;
use crate::hasher::{DocumentError, Fault as Input, HasherError, MAX_LINE};
use crate::identity::IdentityError;
use crate::limits::{LimitError, seconds};
use crate::openpgp::OpenpgpError;
use crate::policy::{Mismatch, Refusal};
use crate::request::RequestError;
use crate::sandbox::SandboxError;
use crate::state::StateError;
use crate::token::{Fault, TokenError};
use crate::trusted::TrustError;
use crate::warrant::WarrantError;
use nix::errno::Errno;
use std::fmt::Write;

/// Exit codes, by the names of `sysexits(3)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// EX_USAGE: a bad request.
    Usage = 64,
    /// EX_DATAERR: the artifact is not what was declared, or did not come whole.
    Data = 65,
    /// EX_UNAVAILABLE: the token.
    Unavailable = 69,
    /// EX_SOFTWARE: a bug.
    Software = 70,
    /// EX_IOERR: audit or output.
    Io = 74,
    /// EX_TEMPFAIL: try later.
    TempFail = 75,
    /// EX_NOPERM: not identified, or not permitted.
    NoPermission = 77,
    /// EX_CONFIG: configuration or certificate.
    Configuration = 78,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// A session that ends without a signature.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// Which of many artifacts it is about, where it is about one: the client's word, encoded.
    artifact: String,
    /// What the client reads behind `sigsh: error:` and that. No path, no secret.
    pub line: String,
    /// What the client can do, if anything.
    pub hint: Option<String>,
    /// What the journal gets.
    pub reason: String,
}

impl Failure {
    fn new(exit: Exit, line: impl Into<String>, hint: &str, reason: &impl ToString) -> Failure {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        Failure { exit, artifact: String::new(), line: line.into(), hint, reason: reason.to_string() }
    }

    /// The standard output, or the client behind it, is gone.
    pub fn client_gone(reason: &str) -> Failure {
        Failure::new(Exit::Data, "the client has gone away", "", &reason)
    }

    /// A signature that was made and recorded, and that nobody took.
    pub fn undelivered(error: Errno) -> Failure {
        Failure::new(Exit::Io, "cannot write to standard output", "", &format!("undelivered: {error}"))
    }

    /// Says which of many artifacts it is about.
    #[must_use]
    pub fn about(mut self, artifact: &str) -> Failure {
        self.artifact = artifact.to_owned();
        self
    }

    /// No descriptor to write to.
    pub fn no_output() -> Failure {
        Failure::new(Exit::Io, "standard output is closed", "", &"standard input or output is closed, or is /dev/null")
    }

    /// The whole input took too long.
    pub fn total() -> Failure {
        Failure::new(Exit::Data, "the input took longer than a session may", "", &"total time is over")
    }

    fn busy(reason: &impl ToString) -> Failure {
        Failure::new(Exit::TempFail, "this host is busy", "try again later", reason)
    }

    /// How it is recorded: sigsh said no, or something broke.
    pub fn event(&self) -> Event {
        match self.exit {
            Exit::Usage | Exit::TempFail | Exit::NoPermission | Exit::Configuration => Event::Refused,
            Exit::Data | Exit::Unavailable | Exit::Software | Exit::Io => Event::Failed,
        }
    }

    /// Whether it lies with this host, and not with what the client has sent: it costs the client no signature.
    pub fn is_ours(&self) -> bool {
        !matches!(self.exit, Exit::Usage | Exit::Data | Exit::NoPermission)
    }

    /// Whether a process of ours, the token or the ledger went wrong: that is always recorded, for it may be an attack.
    pub fn is_odd(&self) -> bool {
        matches!(self.exit, Exit::Software | Exit::Unavailable | Exit::Io)
    }

    /// Both lines, as the client sees them.
    pub fn text(&self) -> String {
        let colon = if self.artifact.is_empty() { "" } else { ": " };
        let mut text = format!("sigsh: error: {}{colon}{}\n", self.artifact, self.line);
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "sigsh: hint: {hint}");
        }
        text
    }
}

const ASK_THE_OPERATOR: &str = "the operator of this host finds the reason in the journal";
const NOT_SET_UP: &str = "sigsh is not set up properly on this host";
const SIGN_ITS_BYTES: &str = "sign its bytes instead: --type binary";

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Failure {
        match &error {
            RequestError::Start(_) => Failure::new(Exit::Configuration, NOT_SET_UP, ASK_THE_OPERATOR, &error),
            RequestError::Long | RequestError::Unprintable => Failure::new(Exit::Usage, error.to_string(), "", &error),
            RequestError::Syntax(_) => {
                Failure::new(Exit::Usage, error.to_string(), "'ssh signer@host help' shows what can be asked", &error)
            }
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::new(Exit::Configuration, NOT_SET_UP, ASK_THE_OPERATOR, &error)
    }
}

impl From<TrustError> for Failure {
    fn from(error: TrustError) -> Failure {
        ConfigError::from(error).into()
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Failure {
        let (line, hint) = match &error {
            IdentityError::Expired(_) => ("your ssh certificate has expired", "log in with a new one"),
            IdentityError::NotYet(_) => ("your ssh certificate is not valid yet", "wait, or look at the clocks"),
            IdentityError::Revoked(_) => ("your ssh key or certificate is revoked", ASK_THE_OPERATOR),
            IdentityError::ListChanged => return Failure::new(Exit::TempFail, error.to_string(), "try again", &error),
            _ => ("you are not identified", ASK_THE_OPERATOR),
        };
        Failure::new(Exit::NoPermission, line, hint, &error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        let hint = match refusal {
            Refusal::Client(_) | Refusal::Place(_) | Refusal::Two(..) => {
                return Failure::new(Exit::NoPermission, "you are not identified", ASK_THE_OPERATOR, &refusal);
            }
            Refusal::Key => "without a key's name you get your default key",
            Refusal::Size(_) | Refusal::Input(_) | Refusal::Guarded => "",
            Refusal::Undeclared(_) => "declare what you send, so that half a file is never signed",
            Refusal::Hash(_) | Refusal::Salted | Refusal::Unguarded | Refusal::NoBreakGlass => {
                return Failure::new(Exit::Usage, refusal.to_string(), "", &refusal);
            }
        };
        Failure::new(Exit::NoPermission, refusal.to_string(), hint, &refusal)
    }
}

impl From<WarrantError> for Failure {
    fn from(error: WarrantError) -> Failure {
        let (line, hint) = match &error {
            WarrantError::ListChanged | WarrantError::Clock => {
                return Failure::new(Exit::TempFail, error.to_string(), "try again", &error);
            }
            WarrantError::Key => return Failure::new(Exit::Configuration, NOT_SET_UP, ASK_THE_OPERATOR, &error),
            WarrantError::Approvals { given, need, why } => (format!("{given} of {need} approvals"), why.as_str()),
            WarrantError::Endorsement(_) => (error.to_string(), ""),
        };
        Failure::new(Exit::NoPermission, line, hint, &error)
    }
}

impl From<Mismatch> for Failure {
    fn from(mismatch: Mismatch) -> Failure {
        let hint = match mismatch {
            Mismatch::Empty => "if an empty file is meant, say --size 0",
            Mismatch::Size(_) | Mismatch::Digest => "it was cut off on its way, or changed",
            Mismatch::Nothing => "",
        };
        Failure::new(Exit::Data, mismatch.to_string(), hint, &mismatch)
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Failure {
        match error {
            StateError::Busy => Failure::busy(&error),
            error => Failure::new(Exit::Configuration, NOT_SET_UP, ASK_THE_OPERATOR, &error),
        }
    }
}

impl From<LimitError> for Failure {
    fn from(error: LimitError) -> Failure {
        match &error {
            LimitError::Sessions(_) => {
                Failure::new(Exit::TempFail, "too many sessions at once", "try again when one of them has ended", &error)
            }
            LimitError::Rate { wait, .. } => {
                let (seconds, plural) = (seconds(wait), if seconds(wait) == 1 { "" } else { "s" });
                let hint = format!("try again in {seconds} second{plural}");
                Failure::new(Exit::TempFail, "too many signatures", &hint, &error)
            }
            LimitError::Burst { burst, .. } => {
                let hint = format!("name at most {burst} of them");
                Failure::new(Exit::NoPermission, "more keys than you may sign with at once", &hint, &error)
            }
            LimitError::State(_, StateError::Busy) => Failure::busy(&error),
            LimitError::State(..) | LimitError::Io(..) | LimitError::Garbage(_) => {
                Failure::new(Exit::Configuration, NOT_SET_UP, ASK_THE_OPERATOR, &error)
            }
        }
    }
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Failure {
        Failure::new(Exit::Configuration, "this host cannot confine sigsh", ASK_THE_OPERATOR, &error)
    }
}

impl From<HasherError> for Failure {
    fn from(error: HasherError) -> Failure {
        let (line, hint) = match &error {
            HasherError::Input(Input::Idle, _) => {
                ("the input stopped coming", "send it without pauses, or ask for a longer idle limit")
            }
            HasherError::Input(Input::Slow, _) => {
                ("the input comes too slowly", "send it faster, or ask for a lower throughput limit")
            }
            HasherError::Input(Input::Overlong, _) => ("the input is longer than declared or allowed", ""),
            HasherError::Input(Input::LongCleartext, _) => {
                ("the input is longer than the 16 MiB that can be signed as cleartext", "ask for a detached signature: --type text")
            }
            HasherError::Input(Input::LongLine, _) => {
                let line = format!("the text has a line of more than {MAX_LINE} bytes, which verifiers cut off");
                return Failure::new(Exit::Data, line, SIGN_ITS_BYTES, &error);
            }
            HasherError::Input(Input::CarriageReturn, _) => {
                ("the text has a carriage return without a line feed, which verifiers read differently", SIGN_ITS_BYTES)
            }
            HasherError::Input(Input::Nul, _) => {
                ("the text has a line that ends with a NUL byte, which verifiers read differently", SIGN_ITS_BYTES)
            }
            HasherError::Input(Input::State(Unreached::TooLong), _) => {
                ("the hash state is of an artifact that is longer than allowed", "")
            }
            HasherError::Input(Input::State(_), _) => ("the hash state is none that hashing leads to", ""),
            HasherError::Input(Input::OtherHash, _) => ("the hash state is of another hash than the key's", ""),
            HasherError::Input(Input::Document(error), _) => return (*error).into(),
            HasherError::Input(Input::Read(_), _) => ("the input cannot be read", ""),
            HasherError::Input(Input::TarCut, _) => {
                ("the tar is cut off", "send all of it: tar writes two blocks of zeros at its end")
            }
            HasherError::Input(Input::TarHeader, _) => {
                ("the input is not a tar, or a broken one", "send what 'tar -c' writes, not compressed")
            }
            HasherError::Input(Input::TarAmbiguous, _) => {
                ("the tar has an entry that programs read differently", "write it again: tar --create --format=posix")
            }
            HasherError::Input(Input::TarLink, _) => {
                ("the tar has an entry that is a link", "sign files only: tar --dereference --hard-dereference")
            }
            HasherError::Input(Input::TarDevice, _) => ("the tar has an entry that is a device or a fifo", "sign files only"),
            HasherError::Input(Input::TarKind, _) => {
                ("the tar has an entry that is neither file nor directory", "write it without labels, volumes and increments")
            }
            HasherError::Input(Input::TarName, _) => {
                ("the tar has a name that cannot be used", "names are relative, without '..', and at most 4000 bytes long")
            }
            HasherError::Input(Input::TarSparse, _) => {
                ("the tar has a sparse file whose map is wrong", "write it without --sparse")
            }
            HasherError::Input(Input::TarLarge, _) => {
                ("the tar says too much of one entry", "write it without --sparse, --xattrs and --acls")
            }
            HasherError::Input(Input::TarHoles, _) => {
                ("the tar has more holes than can be signed at once", "send fewer sparse files at a time")
            }
            HasherError::Input(Input::TarTrailing, _) => ("the tar has something behind its end", "send one tar at a time"),
            _ => return Failure::new(Exit::Software, "internal error", ASK_THE_OPERATOR, &error),
        };
        Failure::new(Exit::Data, line, hint, &error)
    }
}

impl From<DocumentError> for Failure {
    fn from(error: DocumentError) -> Failure {
        let hint = match error {
            DocumentError::Long | DocumentError::Malformed => "send one JSON document a line, as sigsh(8) shows",
            DocumentError::Version => "1.0.0 is spoken here",
            DocumentError::Unknown => "put what is not required under 'optional'",
            DocumentError::Input => "sha2-0.11-SHA512-state and sha2-0.11-SHA256-state are taken",
            DocumentError::Output => "OpenPGPv4 is made",
            DocumentError::Length => "a state of SHA-512 has 208 bytes, one of SHA-256 has 104",
        };
        Failure::new(Exit::Data, format!("it {error}"), hint, &HasherError::Input(Input::Document(error), Vec::new()))
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Failure {
        let line = match &error {
            TokenError::Fault(Fault::Trust(_) | Fault::Sandbox(_)) => {
                return Failure::new(Exit::Configuration, NOT_SET_UP, ASK_THE_OPERATOR, &error);
            }
            TokenError::Fault(Fault::Busy | Fault::Full | Fault::Taken(_)) | TokenError::Busy(_) => {
                return Failure::new(Exit::TempFail, "the token is busy", "try again later", &error);
            }
            TokenError::Fault(Fault::Tokens(..) | Fault::Keys(_) | Fault::Half) => {
                "the signing key is not in the token, or not alone"
            }
            TokenError::Fault(Fault::PinIncorrect | Fault::PinTried | Fault::PinLow(_)) => "the token does not accept its PIN",
            TokenError::Fault(Fault::Files(_) | Fault::Module(_) | Fault::Exists(_)) => "the token failed",
            TokenError::Hung => "the token did not answer in time",
            TokenError::Died(_) | TokenError::Nonsense | TokenError::System(_) => "the token process failed",
        };
        Failure::new(Exit::Unavailable, line, ASK_THE_OPERATOR, &error)
    }
}

impl From<OpenpgpError> for Failure {
    fn from(error: OpenpgpError) -> Failure {
        let (exit, line) = match &error {
            OpenpgpError::Changed => {
                return Failure::new(Exit::TempFail, "the key's certificate has changed", "try again", &error);
            }
            OpenpgpError::Certificate(_) | OpenpgpError::OtherKey | OpenpgpError::Clock => {
                (Exit::Configuration, "the key's certificate cannot be used")
            }
            OpenpgpError::Raw(_) | OpenpgpError::SelfCheck(_) => (Exit::Unavailable, "the token made a wrong signature"),
            OpenpgpError::Library(_) | OpenpgpError::OnlyV6 => (Exit::Software, "internal error"),
        };
        Failure::new(exit, line, ASK_THE_OPERATOR, &error)
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Failure {
        Failure::new(Exit::Io, "the journal cannot record this, so nothing is signed", "", &error)
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Failure {
        match error {
            LedgerError::Trust(error) | LedgerError::State(StateError::Trust(error)) => error.into(),
            LedgerError::UsedUp(_) => Failure::new(Exit::NoPermission, error.to_string(), "", &error),
            LedgerError::Past => Failure::new(Exit::Configuration, NOT_SET_UP, ASK_THE_OPERATOR, &error),
            LedgerError::Rotated(_) => Failure::new(Exit::TempFail, "the ledger was just rotated", "try again", &error),
            _ => Failure::new(Exit::Io, "the ledger cannot record this, so nothing is signed", ASK_THE_OPERATOR, &error),
        }
    }
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Failure {
        match error {
            AuditError::Journal(error) => error.into(),
            AuditError::Ledger(error) => error.into(),
        }
    }
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Failure {
        match error {
            Errno::EAGAIN | Errno::ENOMEM => Failure::busy(&error),
            _ => Failure::new(Exit::Software, "internal error", ASK_THE_OPERATOR, &error),
        }
    }
}
