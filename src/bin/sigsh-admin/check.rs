//! `sigsh-admin check`: one line a finding. Everything that a session does is tried, as the account, in the same way.

use crate::{AdminError, account, client, demands, journald, sshd};
use nix::unistd::{User, geteuid};
use sigsh::audit::journal::{self, Journal};
use sigsh::config::values::Name;
use sigsh::config::{Client, Config, Input, Key, Revoked, Token};
use sigsh::hash_state::{Form, HashState, Wanted};
use sigsh::openpgp::certificate::{MAX_CERTIFICATE, date};
use sigsh::openpgp::{Draft, SigningKey};
use sigsh::process::Child;
use sigsh::sandbox::paths;
use sigsh::trusted;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

/// How long before a key or certificate expires `check` begins to warn.
pub(crate) const SOON: Duration = Duration::from_secs(60 * 24 * 3600);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Tell also what this client may do
    #[arg(long, value_name = "NAME", conflicts_with = "ssh_key")]
    client: Option<String>,
    /// Tell also who the holder of this public ssh key or certificate is, and what it may do
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
    /// sshd's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/ssh/sshd_config")]
    sshd_config: PathBuf,
}

/// Prints findings and remembers whether one of them is an error.
#[derive(Default)]
pub(crate) struct Findings {
    errors: bool,
}

impl Findings {
    pub(crate) fn errors(&self) -> bool {
        self.errors
    }

    pub(crate) fn ok(&self, what: &str) {
        println!("ok: {what}");
    }

    pub(crate) fn warning(&self, what: &str) {
        println!("warning: {what}");
    }

    pub(crate) fn error(&mut self, what: &str) {
        println!("error: {what}");
        self.errors = true;
    }

    pub(crate) fn outcome<E: std::fmt::Display>(&mut self, what: &str, outcome: Result<String, E>) {
        match outcome {
            Ok(detail) => self.ok(&format!("{what}{detail}")),
            Err(error) => self.error(&format!("{what}: {error}")),
        }
    }
}

/// Runs all checks. `false` when one found an error.
pub(crate) fn run(options: &Options, path: &Path) -> Result<bool, AdminError> {
    let mut findings = Findings::default();
    let config = Config::for_admin(path, true)?;
    let user = account::find(&config)?;
    findings.ok(&format!("configuration {}", path.display()));
    let canary = journald::canary_name();
    let (good, recorded) = as_account(user.as_ref(), path, &canary)?;
    findings.errors |= !good;
    if recorded {
        journald::read_back(&mut findings, config.audit.journal(), &canary, user.as_ref().map_or(geteuid(), |user| user.uid));
    }
    let batches = |client: &Client| client.inputs().iter().any(|input| *input != Input::Artifact);
    journald::settings(&mut findings, config.clients().any(|(_, client)| batches(client)));
    let certificates = config.clients().any(|(_, client)| client.ssh_ca.is_some());
    sshd::settings(&mut findings, &config.account, &options.sshd_config, certificates);
    let revoked = match config.revoked() {
        Ok(revoked) => revoked,
        Err(error) => {
            // Where the account has read it, this user may still be stricter.
            if good {
                findings.error(&format!("revoked keys: {error}"));
            }
            return Ok(false);
        }
    };
    client::warnings(&mut findings, &config, &revoked);
    if let Some(name) = &options.client {
        match config.clients().find(|(other, _)| ***other == **name) {
            Some((name, known)) => client::explain(&mut findings, &config, user.as_ref(), name, known),
            None => findings.error(&format!("client '{name}': no client of the configuration")),
        }
    }
    if let Some(file) = &options.ssh_key {
        let login = client::read(file).map_err(|error| AdminError::SshKey(file.clone(), error))?;
        client::who(&mut findings, &config, user.as_ref(), &revoked, &login);
    }
    Ok(!findings.errors)
}

/// The part that a session does, in a child that has become the account. Tells whether it found no error, and whether the journal took
/// the canary.
fn as_account(user: Option<&User>, path: &Path, canary: &str) -> Result<(bool, bool), AdminError> {
    let mut child = Child::fork(c"sigsh-check", &[0, 1, 2], |channel| {
        let mut findings = Findings::default();
        let recorded = match account::enter(user).map_err(AdminError::from).and_then(|()| Ok(Config::for_admin(path, true)?)) {
            Ok(config) => session_parts(&mut findings, &config, path, canary),
            Err(error) => {
                findings.error(&error.to_string());
                false
            }
        };
        let _ = channel.send(&(!findings.errors, recorded));
    })?;
    let outcome = child.channel().receive().unwrap_or((false, false));
    child.end();
    Ok(outcome)
}

fn session_parts(findings: &mut Findings, config: &Config, path: &Path, canary: &str) -> bool {
    if geteuid().is_root() {
        findings.error("sigsh refuses to run as root; check it as root, and let it run under its account");
        return false;
    }
    match paths::missing() {
        Ok(missing) if missing.is_empty() => findings.ok("sandbox: Landlock rules for files, network, signals; seccomp"),
        Ok(missing) => findings.warning(&format!("sandbox: this kernel has no Landlock rules for {}", missing.join(", "))),
        Err(error) => findings.error(&format!("sandbox: {error}")),
    }
    if let Err(error) = paths::can_keep_to(&config.ports()) {
        findings.error(&format!("sandbox: {error}"));
    }
    owned_by_root(findings, path);
    let state = config.audit.state();
    findings.outcome(&format!("state directory {}", state.display()), trusted::private_directory(state).map(|_| String::new()));
    if let Some(list) = &config.revoked_keys {
        owned_by_root(findings, list);
        let entries = |revoked: Revoked| format!(": {} entries", revoked.entries());
        findings.outcome(&format!("revoked keys {}", list.display()), config.revoked().map(entries));
    }
    crate::ledger::check(findings, config);
    crate::limits::left_out(findings, config);
    for (name, key) in config.keys() {
        owned_by_root(findings, &key.certificate);
        if let Some((_, _, token)) = config.key(name) {
            owned_by_root(findings, &token.pin_file);
            match canary_signature(config, key, token) {
                Ok(certificate) => describe(findings, name, &certificate),
                Err(error) => findings.error(&format!("key '{name}': {error}")),
            }
        }
        demands::check(findings, config, name, key);
    }
    let socket = config.audit.journal();
    let sent = Journal::open(socket).and_then(|socket| socket.send(&[journal::encode(&journald::canary(canary))]));
    let recorded = sent.is_ok();
    findings.outcome(&format!("journal {}", socket.display()), sent.map(|()| " takes records".to_owned()));
    recorded
}

/// A session accepts files of the account itself, for trying sigsh out. In earnest they are root's.
pub(crate) fn owned_by_root(findings: &mut Findings, path: &Path) {
    match trusted::open(path) {
        Ok(opened) if opened.stat.st_uid == 0 => {}
        Ok(_) => {
            findings.warning(&format!("{} belongs to the account, which could change it; let it belong to root", path.display()))
        }
        Err(error) => findings.error(&error.to_string()),
    }
}

/// Signs a fixed text as a session would, checks the signature, and throws it away: what the key demands of artifacts is nothing to it.
fn canary_signature(config: &Config, key: &Key, token: &Token) -> Result<Rc<SigningKey>, AdminError> {
    let now = SystemTime::now();
    let certificate = SigningKey::read(&trusted::read(&key.certificate, MAX_CERTIFICATE)?, key.hash, now)?;
    let mut process = account::token(config, key, token)?;
    let certificate = Rc::new(certificate.held(process.open()?.first().and_then(Option::as_ref))?);
    let salt = certificate.salt()?;
    let mut state = HashState::begin(&Wanted { salt, ..Wanted::plain(key.hash) });
    state.update(b"sigsh-admin check: this signature is thrown away\n");
    let draft = Draft::new(&certificate, Form::Binary, salt, state, now)?;
    let (scheme, data) = draft.to_sign()?;
    process.sign(0, scheme, data)?;
    let raw = process.signature()?;
    process.leave();
    draft.complete(&raw, false)?;
    process.end();
    Ok(certificate)
}

/// Says whose signatures they are, and until when.
fn describe(findings: &Findings, name: &Name, certificate: &SigningKey) {
    let key = match certificate.primary() {
        Some(primary) => format!("subkey {} of certificate {primary}", certificate.fingerprint()),
        None => format!("certificate {}", certificate.fingerprint()),
    };
    let until = certificate.expires().map_or_else(|| "without expiry".to_owned(), |when| format!("until {}", date(when)));
    findings.ok(&format!("key '{name}' signs; {key} of {}, {until}", certificate.user_id()));
    let left = certificate.expires().and_then(|when| when.duration_since(SystemTime::now()).ok());
    if let Some((left, when)) = left.filter(|left| *left <= SOON).zip(certificate.expires()) {
        let days = left.as_secs() / (24 * 3600);
        findings.warning(&format!("key '{name}': it expires on {}, in {days} days; extend it, or replace it", date(when)));
    }
}
