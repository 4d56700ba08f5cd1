//! What one key demands, as the configuration has it today.

use super::{moments, statement};
use crate::AdminError;
use nix::errno::Errno;
use sequoia_openpgp::cert::Cert;
use sigsh::audit::Field;
use sigsh::audit::ledger::line::Line;
use sigsh::config::{Approvals, Approvers, Config, ConfigError, Key, Revoked};
use sigsh::openpgp::Pinned;
use sigsh::openpgp::certificate::MAX_CERTIFICATE;
use sigsh::request::Bytes;
use sigsh::trusted::{self, TrustError};
use sigsh::warrant::approval::{APPROVE, BREAK_GLASS, Panel, Purpose, Requester};
use sigsh::warrant::openpgp::Operators;
use sigsh::warrant::ssh::Authorities;
use sigsh::warrant::sshsig::SshSig;
use sigsh::warrant::{Quota, Subject, Warrant, WarrantError, mac};
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::time::SystemTime;

/// A list, for all keys: its name and text.
type List<'a> = (&'a Path, &'a [u8]);

/// What a key demands, or any one where that is not known.
#[derive(Default)]
pub(super) struct Known {
    /// Those of its certificate's keys.
    pub(super) fingerprints: BTreeSet<String>,
    approvals: Option<(Panel, usize)>,
    break_glass: Option<(Panel, usize)>,
    builds: Option<Builds>,
}

/// Whose builds may endorse.
struct Builds {
    ssh: Authorities,
    openpgp: Option<Operators>,
}

/// What is to be said of an endorsement.
pub(super) enum Verdict {
    /// It verifies, and is counted so; whether its bytes are missing for the rest.
    Good(Quota, bool),
    /// It cannot be verified here.
    Mac,
    /// Nothing is known of who may endorse.
    Unknown,
    /// It does not verify.
    Wrong(String),
}

impl Known {
    /// What a key's table says.
    pub(super) fn of(config: &Config, key: &Key, list: Option<List<'_>>) -> Result<Known, AdminError> {
        let panel = |table: &Approvals, purpose: Purpose| -> Result<_, AdminError> {
            let approvers = match list {
                Some(list) => parse(list)?,
                None => Approvers::open(table.approvers.get_ref())?,
            };
            Ok((Panel::of(table, purpose, nobody(), approvers), table.need()))
        };
        // What was taken back later was good then.
        let revoked = Rc::new(Revoked::default());
        let builds = |table| -> Result<_, ConfigError> {
            Ok(Builds { ssh: Authorities::of(table, &revoked), openpgp: Operators::open(config, table, &revoked)? })
        };
        Ok(Known {
            fingerprints: fingerprints(key)?,
            approvals: key.approvals.as_ref().map(|table| panel(table, APPROVE)).transpose()?,
            break_glass: key.break_glass.as_ref().map(|table| panel(table, BREAK_GLASS)).transpose()?,
            builds: key.endorsement.as_ref().map(builds).transpose()?,
        })
    }

    /// Only who people are.
    pub(super) fn by_list(list: List<'_>) -> Result<Known, AdminError> {
        // No number is known to be too few; and the longest time that there is, is allowed.
        let table = "need = 1\napprovers = \"/\"\nmax-age = \"30d\"\n";
        let table: Approvals = toml::from_str(table).map_err(|error| AdminError::Ledger(error.to_string()))?;
        let panel = |purpose| parse(list).map(|approvers| Some((Panel::of(&table, purpose, nobody(), approvers), 0)));
        Ok(Known { approvals: panel(APPROVE)?, break_glass: panel(BREAK_GLASS)?, ..Known::default() })
    }

    /// Whether it signs nothing that nobody vouches for.
    pub(super) fn demands(&self) -> bool {
        self.need(false) > 0 || self.endorsement()
    }

    /// Whether it demands that a build has endorsed what it signs.
    pub(super) fn endorsement(&self) -> bool {
        self.builds.is_some()
    }

    /// How many people it demands.
    pub(super) fn need(&self, emergency: bool) -> usize {
        let panel = if emergency { &self.break_glass } else { &self.approvals };
        // An emergency where the configuration knows of none is no reason for anything.
        panel.as_ref().map_or(usize::from(emergency), |(_, need)| *need)
    }

    /// Whose approval a piece of evidence is, and by what name it is counted.
    pub(super) fn approved(
        &mut self,
        emergency: bool,
        requester: Requester,
        subject: &Subject,
        piece: &Line,
        bytes: Bytes,
        moments: &[SystemTime],
    ) -> Result<(String, String), String> {
        let panel = if emergency { &mut self.break_glass } else { &mut self.approvals };
        let (panel, _) = panel.as_mut().ok_or("the configuration demands none of this key")?;
        let statement = statement(piece, bytes).ok_or("its not-after is none")?;
        let mut verdict = Err("its record has no time".to_owned());
        for then in moments {
            verdict = verdict.or_else(|_| panel.look_back(requester.clone(), subject, &statement, *then));
        }
        let good = verdict?;
        let recorded = (piece.field("approvers"), piece.field("place"));
        if recorded != (&*good.person, good.place.as_str()) {
            return Err(format!(
                "it is by {} for {}, and is recorded as by {} for {}",
                good.person, good.place, recorded.0, recorded.1
            ));
        }
        Ok((good.person.to_string(), good.name))
    }

    /// Whether a build that may has endorsed it, and says what the record says.
    pub(super) fn endorsed(&self, subject: &Subject, bytes: &Bytes, line: &Line) -> Verdict {
        if mac::is_one(bytes) {
            return Verdict::Mac;
        }
        let Some(builds) = &self.builds else { return Verdict::Unknown };
        let mut verdict = Err("its record has no time".to_owned());
        for then in moments(line) {
            verdict = verdict.or_else(|_| builds.judge(subject, bytes, then).map_err(|error| error.to_string()));
        }
        let warrant = match verdict {
            Ok(warrant) => warrant,
            Err(why) => return Verdict::Wrong(why),
        };
        let facts = [
            (Field::ENDORSED, "endorsed"),
            (Field::PERMIT_BY, "permit_by"),
            (Field::PERMIT_SERIAL, "permit_serial"),
            (Field::PERMIT_ID, "permit_id"),
        ];
        let value = |field| warrant.facts().iter().find(|(known, _)| *known == field).map_or("", |(_, value)| value);
        if let Some((_, name)) = facts.into_iter().find(|(field, name)| value(*field) != line.field(name)) {
            return Verdict::Wrong(format!("the endorsement has another {name} than is recorded"));
        }
        match warrant.quotas() {
            [quota] => Verdict::Good(quota.clone(), !SshSig::is_one(bytes)),
            _ => Verdict::Wrong("the endorsement is not counted".to_owned()),
        }
    }
}

impl Builds {
    fn judge(&self, subject: &Subject, bytes: &Bytes, then: SystemTime) -> Result<Warrant, WarrantError> {
        let mut warrant = Warrant::default();
        match &self.openpgp {
            _ if SshSig::is_one(bytes) => self.ssh.judge(subject, bytes, then, &mut warrant)?,
            Some(operators) => operators.judge(subject, bytes, then, &mut warrant)?,
            None => return Err(WarrantError::Endorsement("is of no kind that this key takes".to_owned())),
        }
        Ok(warrant)
    }
}

/// By whatever of them it has signed, and not only by what is alive today.
fn fingerprints(key: &Key) -> Result<BTreeSet<String>, AdminError> {
    let bytes = match trusted::read(&key.certificate, MAX_CERTIFICATE) {
        // It has not signed anything yet.
        Err(TrustError::Open(_, Errno::ENOENT)) => return Ok(BTreeSet::new()),
        bytes => bytes?,
    };
    let pinned = Pinned::read(&bytes)?;
    Ok(pinned.certs().iter().flat_map(Cert::keys).map(|key| key.key().fingerprint().to_hex()).collect())
}

/// Until it is known who has asked.
fn nobody() -> Requester {
    Requester { key: None, names: Vec::new() }
}

fn parse((path, bytes): List<'_>) -> Result<Approvers, AdminError> {
    let wrong = |(line, message)| AdminError::File(path.to_owned(), std::io::Error::other(format!("line {line}: {message}")));
    Approvers::parse(bytes).map_err(wrong)
}
