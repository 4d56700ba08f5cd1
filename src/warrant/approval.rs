//! What people have approved.
//!
//! Whoever approves signs a short [`text`] with an ssh key. Its lines are rebuilt here of what was granted, and never parsed.

use super::sshsig::{SshSig, Touch, plain_key};
use super::terms::rough;
use super::{Kind, Piece, Quota, Subject, Warrant, WarrantError};
use crate::audit::{Facts, Field};
use crate::config::values::{Name, SshFingerprint};
use crate::config::who::Person;
use crate::config::{Approvals, Approver, Approvers, ConfigError, Revoked};
use crate::identity::certificate::Certificate;
use crate::identity::{Identity, Login};
use crate::policy::Known;
use crate::request::{Bytes, Moment, Statement};
use sha2::{Digest, Sha256};
use ssh_key::public::KeyData;
use std::cmp::Reverse;
use std::fmt;
use std::time::{Duration, SystemTime};

/// What an approval is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// What `ssh-keygen -Y sign` takes by `-n`.
    pub namespace: &'static str,
    /// The first line of the text.
    pub title: &'static str,
    /// What of a request brings it.
    pub option: &'static str,
    /// How long it may hold, where the operator does not say.
    pub max_age: Duration,
}

impl Purpose {
    /// How long it may hold by a key's table.
    pub fn max_age_of(&self, table: &Approvals) -> Duration {
        table.max_age().unwrap_or(self.max_age)
    }
}

/// As many people as are needed.
pub const APPROVE: Purpose =
    Purpose { namespace: "approve@sigsh", title: "approve-v1", option: "--approval", max_age: Duration::from_secs(24 * 60 * 60) };

/// Those who may stand in for them: on this host alone, once, and loudly.
pub const BREAK_GLASS: Purpose = Purpose {
    namespace: "break-glass@sigsh",
    title: "break-glass-v1",
    option: "--break-glass",
    max_age: Duration::from_secs(60 * 60),
};

/// So many approvals that do not count are told why.
const MAX_FAULTS: usize = 4;

/// Who asks for a signature, as far as an approver could be the same.
#[derive(Clone, Debug)]
pub struct Requester {
    /// The key that has logged in, be it inside a certificate.
    pub key: Option<SshFingerprint>,
    /// What it is called: client, person, and the key id and principals of its certificate.
    pub names: Vec<String>,
}

impl Requester {
    /// That of a session.
    pub fn of(client: &Known<'_>, identity: &Identity) -> Requester {
        let mut names = vec![client.name.to_string()];
        names.extend(client.person().map(Person::to_string));
        if let Some(Login::Certificate(Certificate { key_id, principals, .. })) = &identity.login {
            // What is not UTF-8 is no person's name.
            names.extend(principals.iter().chain([key_id]).filter_map(|name| String::from_utf8(name.clone()).ok()));
        }
        Requester { key: identity.key().cloned(), names }
    }

    /// Whether it is this person, by name or by any of his keys.
    fn is(&self, person: &Person, approvers: &Approvers) -> bool {
        let is_own = |key: &KeyData| self.key == Some(SshFingerprint::of(key));
        self.names.iter().any(|name| name.eq_ignore_ascii_case(person)) || approvers.keys_of(person).any(is_own)
    }
}

/// Who may approve, and how many must.
pub struct Panel {
    purpose: Purpose,
    approvers: Approvers,
    need: usize,
    max_age: Duration,
    user_verification: bool,
    hardware_only: bool,
    /// Who does not count.
    excluded: Option<Requester>,
    revoked: Revoked,
}

/// An approval that counts.
pub struct Good {
    /// Whose it is.
    pub person: Person,
    not_after: Moment,
    /// Where it holds: `host H` or `fleet F`.
    pub place: String,
    /// Until when: its own time, and its key's.
    until: SystemTime,
    /// What it was: its person and text, as one word.
    pub name: String,
    signature: Bytes,
}

impl Panel {
    /// Reads what a key's table names. Whose key is revoked does not count.
    ///
    /// # Errors
    /// Any [`ConfigError`].
    pub fn open(table: &Approvals, purpose: Purpose, requester: Requester, revoked: Revoked) -> Result<Panel, ConfigError> {
        let approvers = Approvers::of(table, purpose.namespace)?;
        Ok(Panel { revoked, ..Panel::of(table, purpose, requester, approvers) })
    }

    /// The same with these approvers.
    pub fn of(table: &Approvals, purpose: Purpose, requester: Requester, approvers: Approvers) -> Panel {
        Panel {
            purpose,
            approvers,
            need: table.need(),
            max_age: purpose.max_age_of(table),
            user_verification: table.user_verification,
            hardware_only: table.hardware_only,
            excluded: table.exclude_requester.then_some(requester),
            revoked: Revoked::default(),
        }
    }

    /// Whether enough of them have approved this.
    ///
    /// # Errors
    /// [`WarrantError::Approvals`].
    pub fn judge(self, subject: &Subject, given: &[Statement], now: SystemTime, warrant: &mut Warrant) -> Result<(), WarrantError> {
        let (mut good, mut faults) = (Vec::<Good>::new(), Vec::new());
        for statement in given {
            match self.weigh(subject, statement, now) {
                Err(fault) => faults.push(fault),
                Ok(new) => match good.iter_mut().find(|old| old.person == new.person) {
                    None => good.push(new),
                    Some(old) => {
                        faults.push(format!("{} approved twice", new.person));
                        if old.until < new.until {
                            *old = new;
                        }
                    }
                },
            }
        }
        good.sort_by_key(|good| Reverse(good.until));
        let Some(last) = self.need.checked_sub(1).and_then(|last| good.get(last)) else {
            let why = self.explain(given, &faults);
            return Err(WarrantError::Approvals { given: good.len(), need: self.need, why });
        };
        warrant.ends(last.until);
        // Who is not needed may have no say any more when the last byte has come: a record of him would look invented.
        good.truncate(self.need);
        self.enter(good, now, warrant);
        Ok(())
    }

    /// Whether an approval counted then, of what this one had asked for.
    ///
    /// # Errors
    /// Why not.
    pub fn look_back(
        &mut self,
        requester: Requester,
        subject: &Subject,
        given: &Statement,
        then: SystemTime,
    ) -> Result<Good, String> {
        if let Some(excluded) = &mut self.excluded {
            *excluded = requester;
        }
        self.weigh(subject, given, then)
    }

    /// Enters what counts into a warrant.
    fn enter(self, mut good: Vec<Good>, now: SystemTime, warrant: &mut Warrant) {
        good.sort_by(|one, other| one.person.cmp(&other.person));
        warrant.facts.learn(Field::APPROVERS, good.iter().map(|good| &*good.person).collect::<Vec<_>>().join(" "));
        for Good { person, not_after, place, name, signature, .. } in good {
            let mut facts = Facts::default();
            facts.learn(Field::APPROVERS, person);
            facts.learn(Field::NOT_AFTER, not_after);
            facts.learn(Field::PLACE, place);
            warrant.evidence.push(Piece { kind: Kind::Approval, facts, bytes: signature });
            if self.purpose == BREAK_GLASS {
                warrant.facts.learn(Field::BREAK_GLASS, "yes");
                // None that could be used now was made, or used, before.
                let since = now.checked_sub(self.max_age).unwrap_or(SystemTime::UNIX_EPOCH);
                warrant.counts(Quota { name, max: 1, since });
            }
        }
        warrant.lists.push(Box::new(move || self.approvers.is_unchanged() && self.revoked.is_unchanged()));
    }

    /// Whether an approval counts, or why not: in words of the operator's list, and of nobody else's.
    fn weigh(&self, subject: &Subject, statement: &Statement, now: SystemTime) -> Result<Good, String> {
        let Statement { not_after, signature } = statement;
        let parsed = SshSig::parse(signature).ok_or("one is no signature of ssh-keygen")?;
        let key = plain_key(&parsed.key).ok_or("one is by no plain ssh key")?;
        if parsed.namespace != self.purpose.namespace.as_bytes() {
            return Err(format!("one was not signed with -n {}", self.purpose.namespace));
        }
        let signed = Signed::find(self.purpose, subject, *not_after, &parsed, &key);
        let signed = signed.ok_or("one is of another artifact, key, host, time or requester")?;
        // Only now: nobody shall learn who is on the list but by signing.
        let approver = self.approvers.by_key(&key).ok_or("one is by nobody on the list")?;
        self.may(approver, signed.touch, now)?;
        let person = approver.person.clone();
        let end = not_after.time();
        if let Ok(ago) = now.duration_since(end) {
            return Err(format!("{person}'s expired {} ago", rough(ago)));
        }
        if end.duration_since(now).is_ok_and(|left| left > self.max_age) {
            return Err(format!("{person}'s holds for longer than {}", humantime::format_duration(self.max_age)));
        }
        let name = format!("break-glass:{}", hex::encode(Sha256::digest(format!("{person}\0{}", signed.text))));
        let until = approver.end().map_or(end, |key_end| key_end.min(end));
        Ok(Good { person, not_after: *not_after, place: signed.place, until, name, signature: signature.clone() })
    }

    /// Whether somebody may approve this at all, with this key, touched so.
    fn may(&self, approver: &Approver, touch: Option<Touch>, now: SystemTime) -> Result<(), String> {
        let person = &approver.person;
        let wrong = |what: &str| Err(format!("{person}{what}"));
        match touch {
            _ if self.revoked.has(&SshFingerprint::of(&approver.key)) => wrong("'s key is revoked"),
            _ if !approver.is_for(self.purpose.namespace) => wrong("'s key is not for this"),
            _ if !approver.has_begun(now) => wrong("'s key is not valid yet"),
            _ if approver.end().is_some_and(|end| end <= now) => wrong("'s key is no longer valid"),
            None if self.hardware_only => wrong("'s key is no security key"),
            Some(touch) if !touch.presence => wrong("'s key was not touched"),
            Some(touch) if self.user_verification && !touch.verification => wrong("'s key has not asked who touched it"),
            _ if self.excluded.as_ref().is_some_and(|own| own.is(person, &self.approvers)) => wrong(" asked for it himself"),
            _ => Ok(()),
        }
    }

    /// What is missing, and why what came does not count.
    fn explain(&self, given: &[Statement], faults: &[String]) -> String {
        let option = self.purpose.option;
        let mut words = Vec::<&str>::new();
        for fault in faults {
            if !words.contains(&fault.as_str()) {
                words.push(fault);
            }
        }
        let more = words.len().saturating_sub(MAX_FAULTS);
        words.truncate(MAX_FAULTS);
        let more_words = format!("and {more} more");
        if more > 0 {
            words.push(&more_words);
        }
        match words.as_slice() {
            [] if given.is_empty() => format!("{option} TIME=BASE64 brings one person's"),
            [] => format!("another {option} TIME=BASE64 brings one more"),
            words if self.purpose == BREAK_GLASS => format!("break-glass: {}", words.join("; ")),
            words => words.join("; "),
        }
    }
}

/// What somebody has signed.
pub struct Signed {
    /// The text.
    pub text: String,
    /// Where it holds: `host H` or `fleet F`.
    pub place: String,
    /// What a security key says of the moment.
    pub touch: Option<Touch>,
}

impl Signed {
    /// Finds out which text this key has signed by this signature: that of the host or of the fleet; `None` when it is neither.
    pub fn find(purpose: Purpose, subject: &Subject, not_after: Moment, signature: &SshSig, key: &KeyData) -> Option<Signed> {
        let host = Some(Where::Host(&subject.place.host));
        let fleet = subject.place.fleet.as_deref().map(Where::Fleet).filter(|_| purpose != BREAK_GLASS);
        [host, fleet].into_iter().flatten().find_map(|place| {
            let text = text(purpose, subject, not_after, place);
            let touch = signature.verify(key, &signature.digest(text.as_bytes()))?;
            Some(Signed { text, place: place.to_string(), touch })
        })
    }
}

/// Where an approved artifact may be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where<'a> {
    /// On this host.
    Host(&'a str),
    /// On any host of this fleet.
    Fleet(&'a str),
}

impl fmt::Display for Where<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Where::Host(name) => write!(f, "host {name}"),
            Where::Fleet(name) => write!(f, "fleet {name}"),
        }
    }
}

/// What a text speaks of, but for time and place.
#[derive(Clone, Copy)]
pub struct Matter<'a> {
    /// The signing key's fingerprint, in upper-case hexadecimal digits.
    pub fingerprint: &'a str,
    /// The artifact's size in bytes.
    pub size: u64,
    /// Its digest, by the key's hash.
    pub digest: &'a crate::request::Digest,
    /// The client that asks for the signature.
    pub requester: &'a Name,
}

impl<'a> From<&'a Subject> for Matter<'a> {
    fn from(Subject { fingerprint, size, digest, requester, .. }: &'a Subject) -> Matter<'a> {
        Matter { fingerprint, size: *size, digest, requester }
    }
}

/// The text that an approver signs: each line ends with a newline.
pub fn text<'a>(purpose: Purpose, matter: impl Into<Matter<'a>>, not_after: Moment, place: Where<'_>) -> String {
    let Matter { fingerprint, size, digest, requester } = matter.into();
    let (title, digest) = (purpose.title, format!("{}:{}", digest.algorithm.name(), hex::encode(&digest.bytes)));
    format!(
        "{title}\nkey {fingerprint}\ntype 0x00\nsize {size}\ndigest {digest}\nnot-after {not_after}\n{place}\nrequester {requester}\n"
    )
}

#[cfg(test)]
mod tests;
