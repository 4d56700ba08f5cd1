//! The audit trail: what is recorded when, and with which facts. No signature leaves without its records accepted.

pub mod journal;
pub mod ledger;
pub mod refusals;

use crate::config;
use journal::{Journal, JournalError};
use ledger::chain::Place;
use ledger::{Ledger, LedgerError};
use refusals::Refusals;
use std::time::SystemTime;

/// What happened. The codes are journald's MESSAGE_IDs, 128-bit, chosen once at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The token is about to be asked.
    Intent,
    /// A signature was made, checked, and is about to leave.
    Signed,
    /// sigsh said no.
    Refused,
    /// Something broke.
    Failed,
}

impl Event {
    /// Its name, in SIGSH_EVENT.
    pub fn name(self) -> &'static str {
        match self {
            Event::Intent => "intent",
            Event::Signed => "signed",
            Event::Refused => "refused",
            Event::Failed => "failed",
        }
    }

    fn message_id(self) -> &'static str {
        match self {
            Event::Intent => "6f3d6c0d2b5a4be8a6f0b5a3f1d94e01",
            Event::Signed => "b1c4de0a94a24a4c8a5c6a0e1f7d3c02",
            Event::Refused => "0e9b7f4b6cf84cf49d35f1f0c2a8b603",
            Event::Failed => "d27a51c86e034d6c9b7b8e4f5a190c04",
        }
    }

    fn priority(self) -> &'static str {
        match self {
            Event::Intent | Event::Signed => "6",
            Event::Refused => "4",
            Event::Failed => "3",
        }
    }
}

/// The facts of a session, by journald field, as they become known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field(&'static str);

impl Field {
    /// The client's name.
    pub const CLIENT: Field = Field("SIGSH_CLIENT");
    /// Fingerprint of the ssh key.
    pub const SSH_KEY: Field = Field("SIGSH_SSH_KEY");
    /// Fingerprint of the authority that signed the ssh certificate.
    pub const SSH_CA: Field = Field("SIGSH_SSH_CA");
    /// The ssh certificate's key id, percent-encoded.
    pub const CERT_ID: Field = Field("SIGSH_CERT_ID");
    /// The ssh certificate's serial.
    pub const CERT_SERIAL: Field = Field("SIGSH_CERT_SERIAL");
    /// The ssh certificate's principals, percent-encoded.
    pub const PRINCIPALS: Field = Field("SIGSH_PRINCIPALS");
    /// The unix user that sigsh runs as.
    pub const UNIX_USER: Field = Field("SIGSH_UNIX_USER");
    /// The other end's address and port.
    pub const PEER: Field = Field("SIGSH_PEER");
    /// What the client asked, percent-encoded.
    pub const REQUEST: Field = Field("SIGSH_REQUEST");
    /// The signing key's name.
    pub const KEY: Field = Field("SIGSH_KEY");
    /// Fingerprint of the signing key.
    pub const FINGERPRINT: Field = Field("SIGSH_FINGERPRINT");
    /// What of the artifact is signed: `artifact`, `text`, `cleartext`.
    pub const MODE: Field = Field("SIGSH_MODE");
    /// `yes` when size and digest of the artifact are the hasher's word.
    pub const CLAIMED: Field = Field("SIGSH_CLAIMED");
    /// The file's name as the client tells it, percent-encoded.
    pub const NAME: Field = Field("SIGSH_NAME");
    /// Size of the artifact in bytes.
    pub const SIZE: Field = Field("SIGSH_SIZE");
    /// Digest of the artifact, by each hash.
    pub const SHA256: Field = Field("SIGSH_SHA256");
    /// The same.
    pub const SHA384: Field = Field("SIGSH_SHA384");
    /// The same.
    pub const SHA512: Field = Field("SIGSH_SHA512");
    /// SHA-256 of the signature as it leaves.
    pub const SIGNATURE: Field = Field("SIGSH_SIGNATURE_SHA256");
    /// Creation time of the signature.
    pub const DATE: Field = Field("SIGSH_DATE");
}

impl Field {
    /// Whether somebody else chose it, and how long it is.
    fn is_free_text(self) -> bool {
        [Field::REQUEST, Field::NAME, Field::CERT_ID, Field::PRINCIPALS].contains(&self)
    }
}

/// The longest value of a field in bytes. Where all of them together exceed 4 KiB, the journal leaves out the last.
const MAX_VALUE: usize = 768;

fn cut(text: &str) -> String {
    text.char_indices().take_while(|(at, c)| at + c.len_utf8() <= MAX_VALUE).map(|(_, c)| c).collect()
}

/// Why a record was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// By the journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// By the ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Where durable records go.
enum Keeping {
    /// Not known yet, or it has failed: nothing can be signed.
    Unopened,
    /// Nowhere, as the operator has decided.
    Nowhere,
    /// Into the ledger. `asked`: it has an intent of this session, which shall have an end.
    Ledger { ledger: Ledger, asked: bool },
}

/// One session's trail.
pub struct Audit {
    journal: Result<Journal, JournalError>,
    keeping: Keeping,
    session: String,
    facts: Vec<(Field, String)>,
    /// Whether its end is recorded, if it ends before the token is asked.
    pub refusals: Refusals,
    has_intent: bool,
}

impl Audit {
    /// Begins a trail.
    pub fn begin() -> Audit {
        let (journal, keeping, refusals) = (Err(JournalError::Unopened), Keeping::Unopened, Refusals::unconfigured());
        Audit { journal, keeping, session: String::new(), facts: Vec::new(), refusals, has_intent: false }
    }

    /// Gives the session a random name of 128 bits: after the fork, so that no two processes draw the same.
    pub fn name_session(&mut self) {
        let mut session = [0; 16];
        // Without randomness sessions are hard to tell apart, no more.
        let _ = getrandom::fill(&mut session);
        self.session = hex::encode(session);
    }

    /// Connects to the journal. Whether that worked counts once a signature is asked for.
    pub fn open(&mut self, journal: &std::path::Path) {
        self.journal = Journal::open(journal);
    }

    /// Learns a fact. A later value replaces an earlier one.
    pub fn learn(&mut self, field: Field, value: impl ToString) {
        let value = cut(&value.to_string());
        match self.facts.iter_mut().find(|(known, _)| *known == field) {
            Some((_, old)) => *old = value,
            None => self.facts.push((field, value)),
        }
    }

    /// Whether nobody has said yet where the journal is.
    pub fn is_unopened(&self) -> bool {
        matches!(self.journal, Err(JournalError::Unopened))
    }

    /// Demands that records can be written at all, before anybody does any work; opens the ledger.
    ///
    /// # Errors
    /// Any [`AuditError`].
    pub fn ready(&mut self, config: &config::Audit) -> Result<(), AuditError> {
        self.journal.as_ref().map_err(Clone::clone)?;
        self.keeping = match config.ledger() {
            Some(path) => Keeping::Ledger { ledger: Ledger::open(path, config.state())?, asked: false },
            None => Keeping::Nowhere,
        };
        Ok(())
    }

    /// Records that the token is about to be asked.
    ///
    /// # Errors
    /// Any [`AuditError`]: nothing must be signed then.
    pub fn intent(&mut self) -> Result<(), AuditError> {
        self.has_intent = true;
        self.record(Event::Intent, &format!("asking the token to sign for {}", self.who()), &[])
    }

    /// Whether that was tried.
    pub fn has_intent(&self) -> bool {
        self.has_intent
    }

    /// Records that a signature was made.
    ///
    /// # Errors
    /// Any [`AuditError`]: the signature must not leave then.
    pub fn signed(&mut self) -> Result<(), AuditError> {
        let message = format!("signed an artifact of {} bytes for {}", self.fact(Field::SIZE), self.who());
        self.record(Event::Signed, &message, &[])
    }

    /// Records how a session ended without a signature, as far as the journal can be reached: what the client was told, the whole
    /// reason, and the exit code. Unless it is `odd`, or has an intent, it may be one of those that are left out because there are too
    /// many. The ledger gets it only where it has an intent: nobody can fill it with refusals.
    pub fn ended(&mut self, event: Event, line: &str, reason: &str, code: u8, odd: bool) {
        let admitted = if odd || self.has_intent { Some(0) } else { self.refusals.admit() };
        let Some(left_out) = admitted else { return };
        let (reason, code, left_out) = (cut(reason), code.to_string(), left_out.to_string());
        let message = format!("{} {}: {line}", event.name(), self.who());
        let more = [("SIGSH_REASON", reason.as_str()), ("SIGSH_CODE", &code), ("SIGSH_SUPPRESSED", &left_out)];
        let _ = self.record(event, &message, if left_out == "0" { &more[..2] } else { &more });
    }

    /// Ledger first, then journal. A session that ends tells the journal even so.
    fn record(&mut self, event: Event, message: &str, more: &[(&str, &str)]) -> Result<(), AuditError> {
        let mut keeping = std::mem::replace(&mut self.keeping, Keeping::Unopened);
        let mut facts = vec![("SIGSH_EVENT", event.name()), ("SIGSH_SESSION", &self.session)];
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        if self.fact(Field::DATE).is_empty() {
            facts.push((Field::DATE.0, &now));
        }
        // First what must not be missing where a record is so long that it is cut.
        facts.extend(more);
        let known = self.facts.iter().filter(|(_, value)| !value.is_empty());
        let (free, own): (Vec<_>, Vec<_>) = known.partition(|(field, _)| field.is_free_text());
        facts.extend(own.into_iter().chain(free).map(|(field, value)| (field.0, value.as_str())));
        let kept = keep(&mut keeping, event, &facts);
        if kept.is_ok() {
            self.keeping = keeping;
        }
        let ends = matches!(event, Event::Refused | Event::Failed);
        let (seq, hash) = match &kept {
            Ok(Some(place)) => (place.seq.to_string(), hex::encode(place.hash)),
            _ => Default::default(),
        };
        let mut fields = vec![
            ("SYSLOG_IDENTIFIER", "sigsh"),
            ("MESSAGE_ID", event.message_id()),
            ("PRIORITY", event.priority()),
            ("MESSAGE", message),
        ];
        if !seq.is_empty() {
            fields.extend([("SIGSH_SEQ", seq.as_str()), ("SIGSH_LEDGER", &hash)]);
        }
        fields.extend(facts);
        if kept.is_ok() || ends {
            self.journal.as_ref().map_err(Clone::clone)?.send(&fields)?;
        }
        Ok(kept.map(drop)?)
    }

    /// Client and key by the names that the operator has given them: not a word of the client's stands in a message.
    fn who(&self) -> String {
        let or = |field, otherwise: &'static str| Some(self.fact(field)).filter(|value| !value.is_empty()).unwrap_or(otherwise);
        match self.fact(Field::KEY) {
            "" => format!("client {}", or(Field::CLIENT, "(unknown)")),
            key => format!("client {} with key {key}", or(Field::CLIENT, "(unknown)")),
        }
    }

    fn fact(&self, field: Field) -> &str {
        self.facts.iter().find(|(known, _)| *known == field).map_or("", |(_, value)| value)
    }
}

/// Writes a record to the ledger, if it belongs there. `facts` are the journal's fields; `SIGSH_SSH_KEY` is `ssh_key` here.
fn keep(keeping: &mut Keeping, event: Event, facts: &[(&str, &str)]) -> Result<Option<Place>, LedgerError> {
    let ends = matches!(event, Event::Refused | Event::Failed);
    let (ledger, asked) = match keeping {
        Keeping::Ledger { ledger, asked } if *asked || !ends => (ledger, asked),
        Keeping::Unopened if !ends => return Err(LedgerError::Unopened),
        _ => return Ok(None),
    };
    let fields = facts.iter().filter_map(|(name, value)| Some((name.strip_prefix("SIGSH_")?.to_ascii_lowercase(), *value)));
    let fields = fields.collect::<Vec<_>>();
    let place = ledger.record(&fields.iter().map(|(name, value)| (name.as_str(), *value)).collect::<Vec<_>>())?;
    *asked = true;
    Ok(Some(place))
}
