//! What a key demands beside a client, and what a request brings: that a build which was permitted to has made the artifact, and that
//! enough people have approved it. Whoever holds a [`Warrant`] has seen that, for this artifact.
//!
//! All of it that comes with a request is parsed here, in the monitor, once nothing but its channels is within its reach: it has no
//! secret, and whoever takes it over gains none.

pub mod approval;
pub mod mac;
pub mod openpgp;
pub mod ssh;
pub mod sshsig;
pub mod terms;

use crate::audit::{Facts, Field};
use crate::config::values::Name;
use crate::config::{Approvals, Config, ConfigError, Revoked};
use crate::hash_state::HashState;
use crate::identity::Identity;
use crate::openpgp::SigningKey;
use crate::policy::Grant;
use crate::request::{Bytes, Digest, Evidence};
use crate::trusted::{self, Trusted};
use approval::{Panel, Requester};
use sshsig::SshSig;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};
pub use terms::{Place, Terms};

/// Why an artifact is not signed, although its client may use the key.
#[derive(Debug, thiserror::Error)]
pub enum WarrantError {
    /// The build's word does not count. Says why.
    #[error("the endorsement {0}")]
    Endorsement(String),
    /// Not enough people have approved it: how many have, how many must, and why others do not count.
    #[error("{given} of {need} approvals{}{why}", if .why.is_empty() { "" } else { "; " })]
    Approvals {
        /// So many people.
        given: usize,
        /// So many must.
        need: usize,
        /// Why others do not count.
        why: String,
    },
    /// It is left open which key, or which bytes, it is about.
    #[error("the certificate has several signing keys, or one of version 6: nobody can endorse or approve what they sign")]
    Key,
    /// A list of people or revocations is no longer the one that was read, or the file for MACs another one.
    #[error("what says who may endorse or approve has changed")]
    ListChanged,
    /// By the clock, what permits it has not begun: the ledger's count does not look so far back.
    #[error("the clock has gone back to before what permits this could be used")]
    Clock,
}

/// What a build or a person speaks of. Texts are rebuilt from this; those that come with a request are never parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The signing key's name.
    pub key: Name,
    /// Its fingerprint, in upper-case hexadecimal digits.
    pub fingerprint: String,
    /// The artifact's size in bytes.
    pub size: u64,
    /// Its digest, by the key's hash.
    pub digest: Digest,
    /// Where it is to be signed.
    pub place: Place,
    /// The client that asks for the signature.
    pub requester: Name,
}

/// What is demanded, with the files that it rests on: read before the monitor is confined.
pub struct Demands {
    endorsement: Option<Endorsers>,
    approvals: Option<Panel>,
    break_glass: Option<Panel>,
    place: Place,
}

/// Whose word about builds counts.
struct Endorsers {
    ssh: ssh::Authorities,
    openpgp: Option<openpgp::Operators>,
    mac_file: Option<PathBuf>,
    /// The same where a MAC is to be judged: whether it stays as it is. Its bytes are for the token process alone.
    mac_watch: Option<Trusted>,
    revoked: Rc<Revoked>,
    max_age: Duration,
}

/// That the demands are met.
#[derive(Default)]
pub struct Warrant {
    /// What the records say of it.
    facts: Facts,
    /// What goes into the ledger as it came.
    evidence: Vec<Piece>,
    /// How often it may be used, where that is counted.
    quotas: Vec<Quota>,
    /// When it ends; `None` where nothing was demanded.
    expires: Option<SystemTime>,
    /// A signature over the artifact's bytes, which only its hash state can show.
    over_bytes: Option<openpgp::OverBytes>,
    /// Whether the lists that it rests on are still those that were read.
    lists: Vec<Unchanged>,
}

/// Whether a list is still the one that was read.
type Unchanged = Box<dyn Fn() -> bool>;

/// A piece of evidence, as it came.
#[derive(Clone, Debug)]
pub struct Piece {
    /// What it is: `endorsement` or `approval`.
    pub kind: Kind,
    /// What the records say of it.
    pub facts: Facts,
    /// It.
    pub bytes: Bytes,
}

/// What a piece of evidence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A build's.
    Endorsement,
    /// A person's.
    Approval,
}

/// How often something may be used: so many intents in the ledger have its name as a word of their `permits`, and no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Its name: printable ASCII without blanks, `"` and `\`.
    pub name: String,
    /// So often.
    pub max: u64,
    /// None of them is older than this.
    pub since: SystemTime,
}

/// From how long ago what permits a signature may be, where anything does that is counted.
pub fn reach(grant: &Grant<'_>) -> Option<Duration> {
    let break_glass = |table: &crate::config::Approvals| approval::BREAK_GLASS.max_age_of(table);
    let of = |key: &crate::config::Key| {
        key.endorsement.as_ref().map(|table| table.max_age()).max(key.break_glass.as_ref().map(break_glass))
    };
    grant.keys.iter().filter_map(|granted| of(granted.key)).max()
}

impl Demands {
    /// Reads the files that a grant's key names.
    ///
    /// # Errors
    /// Any [`ConfigError`] about them.
    pub fn open(config: &Config, grant: &Grant<'_>, identity: &Identity) -> Result<Demands, ConfigError> {
        let place = Place { host: config.host().to_owned(), fleet: config.fleet().map(str::to_owned) };
        // Of several keys there should be none, by policy; if there is, judge() refuses.
        let Some(key) = grant.keys.iter().map(|granted| granted.key).find(|key| key.is_guarded()) else {
            return Ok(Demands { endorsement: None, approvals: None, break_glass: None, place });
        };
        let endorsers = |table: &crate::config::Endorsement| -> Result<Endorsers, ConfigError> {
            let mac_file = table.mac_file.as_deref();
            let is_mac = grant.evidence.endorsement.as_ref().is_some_and(|bytes| mac::is_one(bytes));
            let revoked = table.revoked.as_ref().map_or_else(|| Ok(Revoked::default()), |path| Revoked::open(path))?;
            let revoked = Rc::new(revoked.or(config.revoked()?));
            Ok(Endorsers {
                ssh: ssh::Authorities::of(table, &revoked),
                openpgp: openpgp::Operators::open(config, table, &revoked)?,
                mac_file: mac_file.map(Path::to_owned),
                // What is wrong with it, the token process says.
                mac_watch: mac_file.filter(|_| is_mac).and_then(|path| trusted::watch(path).ok()),
                revoked,
                max_age: table.max_age(),
            })
        };
        let panel = |table: &Option<Approvals>, purpose| -> Result<Option<Panel>, ConfigError> {
            let open = |table| Panel::open(table, purpose, Requester::of(&grant.client, identity), config.revoked()?);
            table.as_ref().map(open).transpose()
        };
        Ok(Demands {
            endorsement: key.endorsement.as_ref().map(endorsers).transpose()?,
            approvals: panel(&key.approvals, approval::APPROVE)?,
            break_glass: panel(&key.break_glass, approval::BREAK_GLASS)?,
            place,
        })
    }

    /// The file whose secret the token process must know to judge this evidence.
    pub fn mac_file(&self, evidence: &Evidence) -> Option<&Path> {
        // Who breaks the glass needs no endorsement: none is looked at.
        if self.break_glass.is_some() && !evidence.break_glass.is_empty() {
            return None;
        }
        let file = self.endorsement.as_ref()?.mac_file.as_deref()?;
        evidence.endorsement.as_ref().is_some_and(|bytes| mac::is_one(bytes)).then_some(file)
    }

    /// Looks at all that a request brings, to have it signed by these keys. `vouch` asks the token process whether a MAC is right.
    ///
    /// # Errors
    /// Any [`WarrantError`], or what `vouch` says.
    pub fn judge<E: From<WarrantError>>(
        self,
        grant: &Grant<'_>,
        keys: &[SigningKey],
        now: SystemTime,
        vouch: impl FnOnce(mac::Question) -> Result<bool, E>,
    ) -> Result<Warrant, E> {
        let Demands { endorsement, approvals, break_glass, place } = self;
        let mut warrant = Warrant::default();
        if endorsement.is_none() && approvals.is_none() {
            return Ok(warrant);
        }
        // One key, and its hash over the bytes alone: what people and builds can speak of.
        let subject = match keys {
            [key] if key.can_be_guarded() => grant.subject(key.fingerprint(), place),
            _ => None,
        };
        let subject = subject.ok_or(WarrantError::Key)?;
        let evidence = &grant.evidence;
        if let Some(panel) = break_glass.filter(|_| !evidence.break_glass.is_empty()) {
            panel.judge(&subject, &evidence.break_glass, now, &mut warrant)?;
            return Ok(warrant);
        }
        if let Some(endorsers) = endorsement {
            endorsers.judge(&subject, evidence.endorsement.as_ref(), now, vouch, &mut warrant)?;
        }
        if let Some(panel) = approvals {
            panel.judge(&subject, &evidence.approvals, now, &mut warrant)?;
        }
        Ok(warrant)
    }
}

impl Endorsers {
    /// Whether a build's word counts: whichever of the three it is.
    fn judge<E: From<WarrantError>>(
        self,
        subject: &Subject,
        endorsement: Option<&Bytes>,
        now: SystemTime,
        vouch: impl FnOnce(mac::Question) -> Result<bool, E>,
        warrant: &mut Warrant,
    ) -> Result<(), E> {
        let wrong = |why: &str| Err(WarrantError::Endorsement(why.to_owned()).into());
        let Some(bytes) = endorsement else { return wrong("is missing: this key signs what a build has endorsed") };
        if SshSig::is_one(bytes) {
            self.ssh.judge(subject, bytes, now, warrant)?;
        } else if mac::is_one(bytes) {
            if self.mac_file.is_none() {
                return wrong("is a MAC, which this key does not take");
            }
            let (question, permit) = mac::ask(subject, bytes, now, self.max_age, &self.revoked)?;
            if !vouch(question)? {
                return wrong("is a MAC by another nonce, or of something else");
            }
            permit.enter(warrant);
            let watch = self.mac_watch;
            warrant.lists.push(Box::new(move || watch.as_ref().is_some_and(Trusted::is_unchanged)));
        } else {
            let Some(operators) = self.openpgp else { return wrong("is of no kind that this key takes") };
            operators.judge(subject, bytes, now, warrant)?;
        }
        let revoked = self.revoked;
        warrant.lists.push(Box::new(move || revoked.is_unchanged()));
        warrant.evidence.push(Piece { kind: Kind::Endorsement, facts: Facts::default(), bytes: bytes.clone() });
        Ok(())
    }
}

/// That a build may endorse: by whom, until when, how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// By what it is shown: `ssh`, `openpgp`, `mac`.
    pub kind: &'static str,
    /// Who has given it: a fingerprint; empty where it is this host itself.
    pub by: String,
    /// Its serial, where it has one.
    pub serial: String,
    /// What it is called, encoded for a log.
    pub id: String,
    /// How often it may be used.
    pub quota: Quota,
    /// When it ends.
    pub expires: SystemTime,
}

impl Permit {
    /// Enters it into a warrant.
    fn enter(self, warrant: &mut Warrant) {
        let Permit { kind, by, serial, id, quota, expires } = self;
        for (field, value) in
            [(Field::ENDORSED, kind), (Field::PERMIT_BY, &by), (Field::PERMIT_SERIAL, &serial), (Field::PERMIT_ID, &id)]
        {
            warrant.facts.learn(field, value);
        }
        warrant.ends(expires);
        warrant.counts(quota);
    }
}

impl Warrant {
    /// Ends at this time, unless earlier.
    fn ends(&mut self, time: SystemTime) {
        self.expires = Some(self.expires.map_or(time, |end| end.min(time)));
    }

    /// Is counted by this, too.
    fn counts(&mut self, quota: Quota) {
        self.quotas.push(quota);
        let names = self.quotas.iter().map(|quota| quota.name.as_str()).collect::<Vec<_>>().join(" ");
        self.facts.learn(Field::PERMITS, names);
    }

    /// Whether the artifact's bytes are what was endorsed. `state` is theirs.
    ///
    /// # Errors
    /// [`WarrantError::Endorsement`].
    pub fn fits(&self, state: &HashState) -> Result<(), WarrantError> {
        self.over_bytes.as_ref().map_or(Ok(()), |signature| signature.check(state))
    }

    /// Whether it still holds.
    ///
    /// # Errors
    /// [`WarrantError::ListChanged`], [`WarrantError::Clock`], or that it has expired.
    pub fn check(&self, now: SystemTime) -> Result<(), WarrantError> {
        if !self.lists.iter().all(|is_unchanged| is_unchanged()) {
            return Err(WarrantError::ListChanged);
        }
        if self.quotas.iter().any(|quota| now < quota.since) {
            return Err(WarrantError::Clock);
        }
        match self.expires {
            Some(end) if end <= now => Err(WarrantError::Endorsement("or an approval has expired meanwhile".to_owned())),
            _ => Ok(()),
        }
    }

    /// Whether nobody has yet seen that [`Warrant::fits`]: that the endorsement is by whoever has the build's key.
    pub fn is_open(&self) -> bool {
        self.over_bytes.is_some()
    }

    /// What the records say of it.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What goes into the ledger as it came.
    pub fn evidence(&self) -> &[Piece] {
        &self.evidence
    }

    /// How often it may be used, where that is counted.
    pub fn quotas(&self) -> &[Quota] {
        &self.quotas
    }
}
