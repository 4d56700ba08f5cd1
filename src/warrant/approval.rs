//! What people have approved.

use super::{Subject, Warrant, WarrantError};
use crate::config::values::SshFingerprint;
use crate::config::{Approvals, ConfigError};
use crate::identity::Identity;
use crate::policy::Known;
use crate::request::{Moment, Statement};
use std::time::{Duration, SystemTime};

/// What an approval is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// What `ssh-keygen -Y sign` takes by `-n`.
    pub namespace: &'static str,
    /// The first line of the text.
    pub title: &'static str,
    /// How long it may hold, where the operator does not say.
    pub max_age: Duration,
}

/// As many people as are needed.
pub const APPROVE: Purpose =
    Purpose { namespace: "approve@sigsh", title: "approve-v1", max_age: Duration::from_secs(24 * 60 * 60) };

/// Those who may stand in for them.
pub const BREAK_GLASS: Purpose =
    Purpose { namespace: "break-glass@sigsh", title: "break-glass-v1", max_age: Duration::from_secs(60 * 60) };

/// Who asks for a signature, as far as an approver could be the same.
#[derive(Clone, Debug)]
pub struct Requester {
    /// The key that has logged in.
    pub key: Option<SshFingerprint>,
    /// What it is called: client, person, and the principals of its certificate.
    pub names: Vec<String>,
}

impl Requester {
    /// That of a session.
    pub fn of(client: &Known<'_>, identity: &Identity) -> Requester {
        Requester { key: identity.key().cloned(), names: vec![client.name.to_string()] }
    }
}

/// Who may approve, and how many must.
pub struct Panel {
    purpose: Purpose,
    requester: Requester,
}

impl Panel {
    /// Reads what a key's table names.
    ///
    /// # Errors
    /// Any [`ConfigError`].
    pub fn open(table: &Approvals, purpose: Purpose, requester: Requester) -> Result<Panel, ConfigError> {
        let _ = table;
        Ok(Panel { purpose, requester })
    }

    /// Whether enough of them have approved this.
    ///
    /// # Errors
    /// [`WarrantError::Approvals`].
    pub fn judge(
        &self,
        subject: &Subject,
        given: &[Statement],
        now: SystemTime,
        warrant: &mut Warrant,
    ) -> Result<(), WarrantError> {
        let _ = (self.purpose, &self.requester, subject, given, now, warrant);
        Err(WarrantError::Approvals { given: 0, need: 1, why: String::new() })
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

/// The text that an approver signs: each line ends with a newline.
pub fn text(purpose: Purpose, subject: &Subject, not_after: Moment, place: Where<'_>) -> String {
    let Subject { fingerprint, size, digest, requester, .. } = subject;
    let (title, digest) = (purpose.title, format!("{}:{}", digest.algorithm.name(), hex::encode(&digest.bytes)));
    let place = match place {
        Where::Host(name) => format!("host {name}"),
        Where::Fleet(name) => format!("fleet {name}"),
    };
    format!(
        "{title}\nkey {fingerprint}\ntype 0x00\nsize {size}\ndigest {digest}\nnot-after {not_after}\n{place}\nrequester {requester}\n"
    )
}
