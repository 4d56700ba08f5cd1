//! What `sigsh-admin check` tells of a key that demands more than a client.

use crate::check::{Findings, SOON, owned_by_root};
use crate::{AdminError, client};
use sequoia_openpgp::policy::StandardPolicy;
use sigsh::config::approvers::{Approver, Approvers};
use sigsh::config::values::{Name, SshFingerprint};
use sigsh::config::who::Pattern;
use sigsh::config::{self, Client, Config, Endorsement, Key, Revoked};
use sigsh::openpgp::Pinned;
use sigsh::openpgp::certificate::{MAX_CERTIFICATE, date};
use sigsh::token::vouch;
use sigsh::trusted;
use sigsh::warrant::approval::{APPROVE, BREAK_GLASS, Purpose};
use sigsh::warrant::openpgp::Operators;
use ssh_key::HashAlg;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;
use std::rc::Rc;
use std::time::SystemTime;

/// A line for each thing that a key demands, or that is wrong with it.
pub(crate) fn check(findings: &mut Findings, config: &Config, name: &Name, key: &Key) {
    if key.is_guarded() && client::read_key(key).is_some_and(|certificate| !certificate.can_be_guarded()) {
        findings.error(&AdminError::Unguardable(name.to_string()).to_string());
    }
    let signs_as = |other: &Key| client::read_key(other).map(|certificate| certificate.fingerprint());
    let same = |(other, table): &(&Name, &Key)| *other != name && signs_as(table).is_some_and(|own| Some(own) == signs_as(key));
    if let Some((other, _)) = config.keys().find(same).filter(|_| key.is_guarded()) {
        findings.error(&format!("key '{name}': key '{other}' has the same certificate, and not its demands"));
    }
    let panels = [(&key.approvals, "approvals", APPROVE), (&key.break_glass, "break-glass", BREAK_GLASS)];
    if let Some(table) = &key.endorsement {
        endorsement(findings, &format!("key '{name}': endorsement"), config, table);
    }
    for (table, what, purpose) in panels {
        if let Some(table) = table {
            panel(findings, &format!("key '{name}': {what}"), table, purpose, config, name);
        }
    }
}

fn endorsement(findings: &mut Findings, what: &str, config: &Config, table: &Endorsement) {
    let authorities = table.ssh_ca.len();
    let kinds = [
        (authorities > 0).then(|| format!("ssh keys, by {authorities} authorit{}", if authorities == 1 { "y" } else { "ies" })),
        table.openpgp.is_some().then(|| "OpenPGP keys".to_owned()),
        table.mac_file.is_some().then(|| "MACs".to_owned()),
    ];
    let kinds = kinds.into_iter().flatten().collect::<Vec<_>>().join("; ");
    findings.ok(&format!("{what}: {kinds}; for at most {}", humantime::format_duration(table.max_age())));
    let mut revoked = Revoked::default();
    if let Some(path) = &table.revoked
        && let Some(list) = read(findings, &format!("{what}: revoked {}", path.display()), path, Revoked::open(path))
    {
        findings.ok(&format!("{what}: revoked {}: {} entries", path.display(), list.entries()));
        revoked = list;
    }
    if let Some(path) = &table.openpgp {
        let what = format!("{what}: operators {}", path.display());
        if read(findings, &what, path, Operators::open(config, table, &Rc::new(revoked))).is_some() {
            operators(findings, &what, path);
        }
    }
    if let Some(path) = &table.mac_file {
        let what = format!("{what}: mac-file {}", path.display());
        if let Some(file) = read(findings, &what, path, vouch::open(path)) {
            findings.ok(&format!("{what}: {} bytes, mode {:03o}", file.stat.st_size, file.stat.st_mode & 0o777));
        }
    }
}

/// How many people there are, and until when.
fn panel(findings: &mut Findings, what: &str, table: &config::Approvals, purpose: Purpose, config: &Config, key: &Name) {
    let path = table.approvers.get_ref();
    let what = format!("{what}: {}", path.display());
    let Some(approvers) = read(findings, &what, path, Approvers::of(table, purpose.namespace)) else { return };
    let (now, list) = (SystemTime::now(), config.revoked().unwrap_or_default());
    let revoked = |line: &Approver| list.has(&SshFingerprint::of(&line.key));
    let lives = |line: &&Approver| line.has_begun(now) && line.end().is_none_or(|end| end > now) && !revoked(line);
    let may = || approvers.able(table, purpose.namespace);
    for line in may() {
        let whose = format!("{what}: the key {} of {}", line.key.fingerprint(HashAlg::Sha256), line.person);
        match line.end() {
            _ if revoked(line) => findings.warning(&format!("{whose} is revoked")),
            Some(end) if end <= now => findings.warning(&format!("{whose} has ended on {}", date(end))),
            Some(end) if end <= now + SOON => findings.warning(&format!("{whose} ends on {}", date(end))),
            _ if !line.has_begun(now) => findings.warning(&format!("{whose} may not be used yet")),
            _ => {}
        }
    }
    let people = may().filter(lives).map(|line| &*line.person).collect::<BTreeSet<_>>().len();
    let line = format!("{what}: {} of {people} people with {} keys must approve", table.need(), may().filter(lives).count());
    if people < table.need() {
        findings.error(&line)
    } else {
        findings.ok(&line)
    }
    let asks = |client: &Client| table.exclude_requester && client.keys.iter().any(|own| own.get_ref() == key);
    for (name, _) in config.clients().filter(|(name, client)| asks(client) && !is_told(name, client, &may().collect::<Vec<_>>())) {
        findings.warning(&format!("{what}: who client '{name}' is among these people is not told; give it a 'person'"));
    }
}

/// Whether it can be seen which of these people a client is.
fn is_told(name: &Name, client: &Client, lines: &[&Approver]) -> bool {
    let is = |called: &str| lines.iter().any(|line| line.person.eq_ignore_ascii_case(called));
    let fits = |id: &Pattern| lines.iter().any(|line| id.fits(line.person.as_bytes()));
    let has = |key: &SshFingerprint| lines.iter().any(|line| SshFingerprint::of(&line.key) == *key);
    client.person.is_some()
        || is(name)
        || client.principals.iter().flatten().any(|principal| is(&principal.to_string()))
        || client.key_ids.iter().flatten().any(fits)
        || client.ssh_keys.as_ref().is_some_and(|keys| keys.iter().all(|key| has(key.get_ref())))
}

/// How many operators there are, and until when they can permit anything.
fn operators(findings: &Findings, what: &str, path: &Path) {
    let (now, policy) = (SystemTime::now(), StandardPolicy::new());
    let pinned = trusted::read(path, MAX_CERTIFICATE).ok().and_then(|bytes| Pinned::read(&bytes).ok());
    let certs = pinned.as_ref().map_or(&[][..], Pinned::certs);
    for cert in certs {
        let end = cert.with_policy(&policy, now).ok().and_then(|valid| valid.primary_key().key_expiration_time());
        if let Some(end) = end.filter(|end| *end <= now + SOON) {
            findings.warning(&format!("{what}: the certificate {} ends on {}", cert.fingerprint().to_hex(), date(end)));
        }
    }
    findings.ok(&format!("{what}: {} certificate{}", certs.len(), if certs.len() == 1 { "" } else { "s" }));
}

/// What was read, if it could be. It should be root's.
fn read<T, E: Display>(findings: &mut Findings, what: &str, path: &Path, outcome: Result<T, E>) -> Option<T> {
    match outcome {
        Ok(value) => {
            owned_by_root(findings, path);
            Some(value)
        }
        Err(error) => {
            findings.error(&format!("{what}: {error}"));
            None
        }
    }
}
