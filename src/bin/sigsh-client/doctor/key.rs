//! One key: its certificate here and there, and a signature of each kind.

use super::host::{ask, reason};
use super::{Findings, title};
use crate::error::{Error, GUARDED};
use crate::input::Input;
use crate::settings::{Key, Settings};
use crate::sign::{WAIT, sign};
use sequoia_openpgp::Cert;
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::SerializeInto;
use sequoia_openpgp::types::RevocationStatus;
use sigsh::hash_state::Form;
use sigsh::openpgp::certificate::date;
use sigsh::openpgp::{Pinned, SigningKey};
use std::time::{Duration, SystemTime};

/// How long before a certificate expires we begin to warn.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// How far the host's clock may be behind.
const BEHIND: Duration = Duration::from_secs(30);

/// The exit code of a host for what this client may not do.
const NO_PERMISSION: u8 = 77;

/// What is signed. The host's log knows it by this name.
const NAME: &str = "sigsh-client-doctor";
const TEXT: &[u8] = b"- sigsh-client doctor: this signature is thrown away \n";

/// A signature, and what of.
pub(super) struct Sample {
    /// In which way it was asked for.
    pub(super) kind: &'static str,
    pub(super) bytes: Vec<u8>,
    /// Nothing for a message that holds its text.
    pub(super) text: Option<&'static [u8]>,
    /// Of version 6, which GnuPG does not know.
    pub(super) is_v6: bool,
}

/// What is wrong with a pinned certificate by itself.
pub(super) fn certificate(findings: &mut Findings, key: &Key) {
    let title = title(key);
    let read = |cert: &Cert| cert.export_to_vec().ok().map(|bytes| SigningKey::read(&bytes, key.hash, SystemTime::now()));
    match key.certificate().and_then(read) {
        Some(Ok(known)) => {
            let primary = known.primary().unwrap_or_else(|| known.fingerprint());
            let until = known.expires().map_or_else(|| "without expiry".to_owned(), |when| format!("until {}", date(when)));
            findings.ok(&format!("{title}: pinned certificate {primary} of {}, {until}", known.user_id()));
            let left = known.expires().and_then(|when| when.duration_since(SystemTime::now()).ok());
            if let Some(left) = left.filter(|left| *left <= SOON) {
                let days = left.as_secs() / (24 * 3600);
                findings.warning(&format!("{title}: it expires in {days} days; have its operator extend it, and fetch it again"));
            }
        }
        Some(Err(error)) => {
            findings.error(&format!("{title}: {error}; fetch the certificate again, or have its operator renew it"))
        }
        None => findings.error(&format!("{title}: there is no certificate")),
    }
}

/// Compares certificates, and has a test signed in every way. Tells by how many seconds the host's clock is ahead of ours.
///
/// # Errors
/// [`Error::Io`], [`Error::File`] when there is no place for what is signed.
pub(super) fn examine(
    findings: &mut Findings,
    settings: &Settings,
    host: &str,
    key: &Key,
) -> Result<(Vec<Sample>, Option<i64>), Error> {
    let what = format!("{host}: {}", title(key));
    if !same(findings, settings, host, key, &what) {
        return Ok((Vec::new(), None));
    }
    if key.guarded {
        findings.ok(&format!("{what} is guarded: no test is signed by it"));
        return Ok((Vec::new(), None));
    }
    let directory = tempfile::tempdir().map_err(|error| Error::Io("a temporary directory", error))?;
    let path = directory.path().join(NAME);
    std::fs::write(&path, TEXT).map_err(|error| Error::File(path.clone(), error))?;
    let inputs = [Input::open(&path)?, Input::open(&path)?];
    let (one, both) = (inputs.get(..1).unwrap_or_default(), &inputs[..]);
    let by_state = Settings { state_above: 0, ..settings.clone() };
    let whole = Settings { state_above: u64::MAX, ..settings.clone() };
    let whole_files = settings.state_above == u64::MAX;
    let (mut samples, mut skew) = (Vec::new(), None);
    for (kind, settings, inputs, form) in [
        ("binary", &whole, one, Form::Binary),
        ("text", &whole, one, Form::Text),
        ("cleartext", &whole, one, Form::Cleartext),
        ("tar", &whole, both, Form::Binary),
        ("state", &by_state, one, Form::Binary),
    ] {
        let before = SystemTime::now();
        let signed = sign(settings, std::slice::from_ref(key), inputs, form, |_, _, signed| {
            skew = skew.max(Some(apart(before, signed.good.created, signed.ahead)));
            let text = Some(TEXT).filter(|_| form != Form::Cleartext);
            let is_v6 = signed.detached.packet().version() == 6;
            samples.push(Sample { kind, bytes: signed.bytes(form == Form::Cleartext)?, text, is_v6 });
            Ok(())
        });
        match signed {
            Ok(()) => {}
            Err(Error::Ahead(_, ahead)) => {
                skew = i64::try_from(ahead).ok();
                break;
            }
            Err(Error::Refused { code: NO_PERMISSION, line, .. }) => {
                let finding = format!("{what}: {kind}: {line}; {}", remedy(kind, &line));
                match kind {
                    "state" if whole_files => {}
                    "binary" | "state" => findings.error(&finding),
                    _ => findings.warning(&finding),
                }
            }
            Err(error) => {
                findings.error(&format!("{what}: {kind}: {}", reason(&error, host)));
                break;
            }
        }
    }
    let mut kinds = samples.iter().map(|sample| sample.kind).collect::<Vec<_>>();
    kinds.dedup();
    if !kinds.is_empty() {
        findings.ok(&format!("{what} signs: {}", kinds.join(", ")));
    }
    Ok((samples, skew))
}

/// Whether the host's certificate is the pinned one, or at least a newer state of it.
fn same(findings: &mut Findings, settings: &Settings, host: &str, key: &Key, what: &str) -> bool {
    let request = ["certificate"].into_iter().chain(key.name.as_deref()).collect::<Vec<_>>().join(" ");
    let theirs = match ask(settings, host, &request).map(|bytes| Pinned::read(&bytes)) {
        Ok(Ok(theirs)) => theirs,
        Ok(Err(error)) => {
            let why = error.to_string();
            findings.error(&format!("{what}: its certificate {}; tell its operator", why.trim_start_matches("the certificate ")));
            return false;
        }
        Err(error) => {
            findings.error(&format!("{what}: {}", reason(&error, host)));
            return false;
        }
    };
    let (Some(ours), Some(theirs)) = (key.certificate(), theirs.certs().first()) else { return false };
    if ours.fingerprint() != theirs.fingerprint() {
        findings.error(&format!(
            "{what}: its certificate is {}, the pinned one is {}; do not replace it before its operator has confirmed the new one",
            theirs.fingerprint(),
            ours.fingerprint()
        ));
        return false;
    }
    let fetch = format!(
        "fetch it to a new file ('ssh {host} {request} > new.pgp'), have its operator confirm the fingerprint, and rename it to the pinned one"
    );
    if is_revoked(theirs) {
        findings.warning(&format!("{what}: the host's certificate is revoked; ask its operator for another key"));
    } else if theirs.keys().any(|key| ours.keys().all(|known| known.key().fingerprint() != key.key().fingerprint())) {
        findings.warning(&format!("{what}: the host's certificate has new subkeys; {fetch}"));
    } else if expiry(theirs) > expiry(ours) {
        findings.warning(&format!("{what}: the host's certificate is good for longer than the pinned one; {fetch}"));
    } else if theirs.export_to_vec().ok() != ours.export_to_vec().ok() {
        findings.warning(&format!("{what}: the host's certificate is not the same as the pinned one; {fetch}"));
    } else {
        findings.ok(&format!("{what}: the host's certificate is the pinned one"));
    }
    true
}

fn is_revoked(cert: &Cert) -> bool {
    matches!(cert.revocation_status(&StandardPolicy::new(), None), RevocationStatus::Revoked(_))
}

/// When it expires, never being the latest.
fn expiry(cert: &Cert) -> Option<u64> {
    let policy = StandardPolicy::new();
    let ends = cert.with_policy(&policy, None).ok().and_then(|valid| valid.primary_key().key_expiration_time());
    let since = |when: SystemTime| when.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Some(ends.map_or(u64::MAX, since))
}

/// Seconds by which the host's clock is ahead of ours; behind, when negative.
fn apart(before: SystemTime, created: SystemTime, ahead: Duration) -> i64 {
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match before.duration_since(created) {
        Ok(behind) => -seconds(behind),
        Err(_) => seconds(ahead),
    }
}

/// Says what becomes of signatures that a host makes whose clock is so many seconds ahead.
pub(super) fn clocks(findings: &mut Findings, host: &str, skew: i64) {
    let remedy = "run timedatectl on both, and let NTP set the wrong one";
    let seconds = skew.unsigned_abs();
    let refused = "sqv (apt on Debian 13) refuses signatures from the future";
    match skew {
        1.. if seconds > WAIT.as_secs() => {
            findings
                .error(&format!("{host}: its clock is {seconds} s ahead: no signature is taken from it, as {refused}; {remedy}"));
        }
        1.. => findings.warning(&format!(
            "{host}: its clock is {seconds} s ahead, and {refused}: each one is waited for until then; {remedy}"
        )),
        _ if seconds > BEHIND.as_secs() => findings.warning(&format!("{host}: its clock is {seconds} s behind; {remedy}")),
        _ => findings.ok(&format!("{host}: its clock agrees with this one")),
    }
}

fn remedy(kind: &str, line: &str) -> &'static str {
    match kind {
        _ if line.starts_with(GUARDED) => "say guarded = true in the key's table of client.toml",
        "tar" => "several files in one call need inputs = [\"artifact\", \"tar\"] in this client's table of the host",
        "state" => "remove state-above here, or have \"state\" put into inputs of this client's table of the host",
        _ => "ask its operator to permit it, if it is needed",
    }
}
