//! The audit trail: what is recorded when, and with which facts. No signature leaves without its records accepted.

pub mod journal;
pub mod ledger;
pub mod refusals;

use crate::config;
use crate::warrant::{Kind, Piece, Quota};
use base64ct::{Base64, Encoding};
use journal::{Journal, JournalError};
use ledger::chain::Place;
use ledger::count::Count;
use ledger::{Ledger, LedgerError};
use refusals::Refusals;
use std::time::{Duration, SystemTime};

/// What happened. The codes are journald's MESSAGE_IDs, 128-bit, chosen once at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A build has said that it made what the next intent is about.
    Endorsement,
    /// Somebody has approved it.
    Approval,
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
            Event::Endorsement => "endorsement",
            Event::Approval => "approval",
            Event::Intent => "intent",
            Event::Signed => "signed",
            Event::Refused => "refused",
            Event::Failed => "failed",
        }
    }

    fn message_id(self) -> &'static str {
        match self {
            Event::Endorsement => "4c1f0e6a9d3b4f7f8a52c7d90b6e1f05",
            Event::Approval => "a93e52b7146c4d0b9fe08d61c4275a06",
            Event::Intent => "6f3d6c0d2b5a4be8a6f0b5a3f1d94e01",
            Event::Signed => "b1c4de0a94a24a4c8a5c6a0e1f7d3c02",
            Event::Refused => "0e9b7f4b6cf84cf49d35f1f0c2a8b603",
            Event::Failed => "d27a51c86e034d6c9b7b8e4f5a190c04",
        }
    }

    fn priority(self) -> &'static str {
        match self {
            Event::Endorsement | Event::Approval | Event::Intent | Event::Signed => "6",
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
    /// What is signed: `artifact`, `text`, `cleartext`; `tar` and `tar-text` of many; `state`, of which sigsh has seen no byte.
    pub const MODE: Field = Field("SIGSH_MODE");
    /// Which signature of its session it is, from 1, where one makes many.
    pub const ENTRY: Field = Field("SIGSH_ENTRY");
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
    /// By what the build has endorsed the artifact: `ssh`, `openpgp`, `mac`.
    pub const ENDORSED: Field = Field("SIGSH_ENDORSED");
    /// Who has permitted the build: the fingerprint of the authority or operator.
    pub const PERMIT_BY: Field = Field("SIGSH_PERMIT_BY");
    /// The permit's serial.
    pub const PERMIT_SERIAL: Field = Field("SIGSH_PERMIT_SERIAL");
    /// What the permit is called, percent-encoded.
    pub const PERMIT_ID: Field = Field("SIGSH_PERMIT_ID");
    /// By what names that which permits the signature is counted.
    pub const PERMITS: Field = Field("SIGSH_PERMITS");
    /// Who has approved it, by the names in the list of approvers.
    pub const APPROVERS: Field = Field("SIGSH_APPROVERS");
    /// Until when an approval holds.
    pub const NOT_AFTER: Field = Field("SIGSH_NOT_AFTER");
    /// Where an approval holds: `host H` or `fleet F`.
    pub const PLACE: Field = Field("SIGSH_PLACE");
    /// `yes` when it was an emergency.
    pub const BREAK_GLASS: Field = Field("SIGSH_BREAK_GLASS");
}

impl Field {
    /// Whether somebody else chose it, and how long it is.
    fn is_free_text(self) -> bool {
        [Field::REQUEST, Field::NAME, Field::CERT_ID, Field::PRINCIPALS].contains(&self)
    }
}

/// The longest value of a field in bytes. Where all of them together exceed 4 KiB, the journal leaves out the last.
pub(crate) const MAX_VALUE: usize = 768;

fn cut(text: &str) -> String {
    text.char_indices().take_while(|(at, c)| at + c.len_utf8() <= MAX_VALUE).map(|(_, c)| c).collect()
}

/// What is known: of a session, or of one of its signatures.
#[derive(Clone, Debug, Default)]
pub struct Facts(Vec<(Field, String)>);

impl Facts {
    /// Learns a fact. A later value replaces an earlier one. All are cut, but for names that are counted by.
    pub fn learn(&mut self, field: Field, value: impl ToString) {
        let value = value.to_string();
        let value = if field == Field::PERMITS { value } else { cut(&value) };
        match self.0.iter_mut().find(|(known, _)| *known == field) {
            Some((_, old)) => *old = value,
            None => self.0.push((field, value)),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Field, &str)> {
        self.0.iter().map(|(field, value)| (*field, value.as_str()))
    }

    fn get(&self, field: Field) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == field).map(|(_, value)| value.as_str())
    }
}

/// A record: what happened, to what.
struct Record<'a> {
    event: Event,
    message: String,
    /// Of one signature, where its session makes many.
    own: &'a Facts,
    more: &'a [(&'static str, &'a str)],
    /// What the ledger gets beside, in base64.
    evidence: &'a str,
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
    facts: Facts,
    /// Whether its end is recorded, if it ends before the token is asked.
    pub refusals: Refusals,
    has_intent: bool,
    pieces: Vec<Piece>,
    count: Count,
}

impl Audit {
    /// Begins a trail.
    pub fn begin() -> Audit {
        let (journal, keeping, refusals) = (Err(JournalError::Unopened), Keeping::Unopened, Refusals::unconfigured());
        let (session, facts) = (String::new(), Facts::default());
        Audit { journal, keeping, session, facts, refusals, has_intent: false, pieces: Vec::new(), count: Count::default() }
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

    /// Learns a fact of the session.
    pub fn learn(&mut self, field: Field, value: impl ToString) {
        self.facts.learn(field, value);
    }

    /// What its intent is recorded with, and how often such a one may be.
    ///
    /// # Errors
    /// [`LedgerError::UsedUp`], or why it cannot be counted.
    pub fn bears(&mut self, pieces: &[Piece], quotas: &[Quota]) -> Result<(), AuditError> {
        self.pieces = pieces.to_vec();
        self.count = match &self.keeping {
            _ if quotas.is_empty() => Count::default(),
            Keeping::Ledger { ledger, .. } => ledger.count(quotas)?,
            Keeping::Unopened | Keeping::Nowhere => return Err(LedgerError::Unopened.into()),
        };
        Ok(())
    }

    /// Takes the facts of one signature for those of the session, which ends with it.
    pub fn ends_with(&mut self, own: Facts) {
        self.learn_all(&own);
    }

    /// Learns all of these.
    pub fn learn_all(&mut self, facts: &Facts) {
        for (field, value) in facts.iter() {
            self.learn(field, value);
        }
    }

    /// Whether nobody has said yet where the journal is.
    pub fn is_unopened(&self) -> bool {
        matches!(self.journal, Err(JournalError::Unopened))
    }

    /// Demands that records can be written at all, before anybody does any work; opens the ledger, in which something may be counted from
    /// as long ago as `reach`.
    ///
    /// # Errors
    /// Any [`AuditError`].
    pub fn ready(&mut self, config: &config::Audit, reach: Option<Duration>) -> Result<(), AuditError> {
        self.journal.as_ref().map_err(Clone::clone)?;
        self.keeping = match config.ledger() {
            Some(path) => Keeping::Ledger { ledger: Ledger::open(path, config.state(), reach)?, asked: false },
            None => Keeping::Nowhere,
        };
        Ok(())
    }

    /// Records that these signatures were made, and that the token is about to be asked for those: all of them by one sync.
    ///
    /// # Errors
    /// Any [`AuditError`]: none of the first must leave then, and nothing be signed.
    pub fn record<'a>(
        &mut self,
        signed: impl Iterator<Item = &'a Facts>,
        intents: impl Iterator<Item = &'a Facts>,
    ) -> Result<(), AuditError> {
        let sentence = |own: &Facts| {
            let size = self.fact(own, Field::SIZE).unwrap_or_default();
            format!("signed an artifact of {size} bytes for {}", self.who(own))
        };
        let record = |event, message, own| Record { event, message, own, more: &[], evidence: "" };
        let mut records = signed.map(|own| record(Event::Signed, sentence(own), own)).collect::<Vec<_>>();
        let mut intents = intents.peekable();
        // Of a single artifact alone.
        let pieces =
            intents.peek().map(|own| self.pieces.iter().map(|piece| piece.beside(own)).collect::<Vec<_>>()).unwrap_or_default();
        for (event, own, evidence) in &pieces {
            records.push(Record { evidence, ..record(*event, format!("{} for {}", event.name(), self.who(own)), own) });
        }
        let sentence = |own: &Facts| format!("asking the token to sign for {}", self.who(own));
        let asked = records.len();
        records.extend(intents.map(|own| record(Event::Intent, sentence(own), own)));
        let has_intent = records.len() > asked;
        self.has_intent |= has_intent;
        if !has_intent {
            return self.write(&records, &mut Count::default());
        }
        let mut count = std::mem::take(&mut self.count);
        let written = self.write(&records, &mut count);
        // Another intent would be counted, too.
        self.count = count;
        written
    }

    /// Whether an intent was recorded, or tried to.
    pub fn has_intent(&self) -> bool {
        self.has_intent
    }

    /// Records how a session ended without a signature, as far as the journal can be reached: what the client was told, the whole
    /// reason, and the exit code. Unless it is `odd`, or has an intent, or is of an emergency, it may be one of those that are left out because there are too
    /// many. The ledger gets it only where it has an intent: nobody can fill it with refusals.
    pub fn ended(&mut self, event: Event, line: &str, reason: &str, code: u8, odd: bool) {
        let emergency = self.facts.get(Field::BREAK_GLASS).is_some();
        let admitted = if odd || self.has_intent || emergency { Some(0) } else { self.refusals.admit() };
        let Some(left_out) = admitted else { return };
        let (reason, code, left_out) = (cut(reason), code.to_string(), left_out.to_string());
        let none = Facts::default();
        let message = format!("{} {}: {line}", event.name(), self.who(&none));
        let more = [("SIGSH_REASON", reason.as_str()), ("SIGSH_CODE", &code), ("SIGSH_SUPPRESSED", &left_out)];
        let more = if left_out == "0" { &more[..2] } else { &more };
        let _ = self.write(&[Record { event, message, own: &none, more, evidence: "" }], &mut Count::default());
    }

    /// Records of signatures that have an intent and will not leave, because their session ends with another one, how they ended.
    pub fn cut_off<'a>(&mut self, signatures: impl Iterator<Item = &'a Facts>, reason: &str, code: u8) {
        let (reason, code) = (cut(&format!("its session ended before: {reason}")), code.to_string());
        let more = [("SIGSH_REASON", reason.as_str()), ("SIGSH_CODE", &code)];
        let message = |own| format!("{} {}: its session ended before", Event::Failed.name(), self.who(own));
        let record = |own| Record { event: Event::Failed, message: message(own), own, more: &more, evidence: "" };
        let _ = self.write(&signatures.map(record).collect::<Vec<_>>(), &mut Count::default());
    }

    /// Ledger first, then journal. What ends a session tells the journal even so.
    fn write(&mut self, records: &[Record<'_>], count: &mut Count) -> Result<(), AuditError> {
        if records.is_empty() {
            return Ok(());
        }
        let mut keeping = std::mem::replace(&mut self.keeping, Keeping::Unopened);
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let facts = records.iter().map(|record| self.compose(record, &now)).collect::<Vec<_>>();
        let ends = records.iter().all(|record| matches!(record.event, Event::Refused | Event::Failed));
        let kept = keep(&mut keeping, ends, &facts, records, count);
        let places = kept.as_deref().unwrap_or_default();
        let mut sent = Ok(());
        if kept.is_ok() || ends {
            let each = records.iter().zip(&facts).enumerate();
            let each = each.map(|(at, (record, facts))| fields(record, facts, places.get(at))).collect::<Vec<_>>();
            sent = self.journal.as_ref().map_err(Clone::clone).and_then(|journal| journal.send(&each));
        }
        if kept.is_ok() {
            self.keeping = keeping;
        }
        sent?;
        Ok(kept.map(drop)?)
    }

    /// All facts of a record, by the journal's names, first what must not be missing where it is so long that it is cut.
    fn compose<'a>(&'a self, record: &'a Record<'_>, now: &'a str) -> Vec<(&'static str, &'a str)> {
        let mut facts = vec![("SIGSH_EVENT", record.event.name()), ("SIGSH_SESSION", self.session.as_str())];
        if self.fact(record.own, Field::DATE).is_none() {
            facts.push((Field::DATE.0, now));
        }
        facts.extend(record.more);
        let session = self.facts.0.iter().filter(|(field, _)| record.own.get(*field).is_none());
        let known = session.chain(&record.own.0).filter(|(_, value)| !value.is_empty());
        let (free, own): (Vec<_>, Vec<_>) = known.partition(|(field, _)| field.is_free_text());
        facts.extend(own.into_iter().chain(free).map(|(field, value)| (field.0, value.as_str())));
        facts
    }

    /// Client and key by the names that the operator has given them: not a word of the client's stands in a message.
    fn who(&self, own: &Facts) -> String {
        let client = self.fact(own, Field::CLIENT).unwrap_or("(unknown)");
        match self.fact(own, Field::KEY) {
            None => format!("client {client}"),
            Some(key) => format!("client {client} with key {key}"),
        }
    }

    fn fact<'a>(&'a self, own: &'a Facts, field: Field) -> Option<&'a str> {
        own.get(field).or_else(|| self.facts.get(field)).filter(|value| !value.is_empty())
    }
}

impl Piece {
    /// Its record, beside the intent of which these are the facts.
    fn beside(&self, intent: &Facts) -> (Event, Facts, String) {
        let event = match self.kind {
            Kind::Endorsement => Event::Endorsement,
            Kind::Approval => Event::Approval,
        };
        let mut facts = intent.clone();
        for (field, value) in self.facts.iter() {
            facts.learn(field, value);
        }
        (event, facts, Base64::encode_string(&self.bytes))
    }
}

/// What the journal gets.
fn fields(record: &Record<'_>, facts: &[(&'static str, &str)], place: Option<&Place>) -> Vec<u8> {
    let (seq, hash) = place.map(|place| (place.seq.to_string(), hex::encode(place.hash))).unwrap_or_default();
    let is_piece = matches!(record.event, Event::Endorsement | Event::Approval);
    let (loud, priority) = if !is_piece && facts.iter().any(|(field, _)| *field == Field::BREAK_GLASS.0) {
        ("break-glass: ", "2")
    } else {
        ("", record.event.priority())
    };
    let message = format!("{loud}{}", record.message);
    let mut fields = vec![
        ("SYSLOG_IDENTIFIER", "sigsh"),
        ("MESSAGE_ID", record.event.message_id()),
        ("PRIORITY", priority),
        ("MESSAGE", &message),
    ];
    if place.is_some() {
        fields.extend([("SIGSH_SEQ", seq.as_str()), ("SIGSH_LEDGER", &hash)]);
    }
    fields.extend(facts);
    journal::encode(&fields)
}

/// Writes records to the ledger, if they belong there. `facts` are the journal's fields; `SIGSH_SSH_KEY` is `ssh_key` here.
fn keep<'a>(
    keeping: &mut Keeping,
    ends: bool,
    facts: &[Vec<(&'static str, &'a str)>],
    records: &[Record<'a>],
    count: &mut Count,
) -> Result<Vec<Place>, LedgerError> {
    let (ledger, asked) = match keeping {
        Keeping::Ledger { ledger, asked } if *asked || !ends => (ledger, asked),
        Keeping::Unopened if !ends => return Err(LedgerError::Unopened),
        _ => return Ok(Vec::new()),
    };
    let name = |name: &str| Some(name.strip_prefix("SIGSH_")?.to_ascii_lowercase());
    let own = facts.iter().map(|facts| facts.iter().filter_map(|(field, value)| Some((name(field)?, *value))).collect::<Vec<_>>());
    let own = own.collect::<Vec<_>>();
    let lines = own.iter().zip(records).map(|(own, record)| {
        own.iter()
            .map(|(name, value)| (name.as_str(), *value))
            .chain((!record.evidence.is_empty()).then_some(("evidence", record.evidence)))
            .collect::<Vec<_>>()
    });
    let lines = lines.collect::<Vec<_>>();
    let places = ledger.record(&lines.iter().map(Vec::as_slice).collect::<Vec<_>>(), count)?;
    *asked = true;
    Ok(places)
}
