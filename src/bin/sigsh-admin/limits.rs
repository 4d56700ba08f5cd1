//! What `sigsh-admin check` tells of a client's limits.

use crate::account;
use crate::check::Findings;
use nix::unistd::User;
use sigsh::config::values::{Name, Rate};
use sigsh::config::{Client, Config};
use sigsh::limits::{Signatures, bucket};
use sigsh::process::Child;
use sigsh::state::State;
use std::error::Error;

/// A line for its sessions and one for its signatures.
pub(crate) fn tell(findings: &mut Findings, config: &Config, user: Option<&User>, name: &Name, client: &Client) {
    findings.ok(&format!("client '{name}': at most {} sessions at once", config.limits.sessions()));
    let Some((rate, burst)) = client.rate() else {
        return findings.ok(&format!("client '{name}': as many signatures as it asks for"));
    };
    match left(config, user, name, (rate, burst)) {
        Ok(left) => findings.ok(&format!("client '{name}': {rate} signatures, at most {burst} at once; {left} left now")),
        Err(reason) => findings.error(&format!("client '{name}': nobody can tell how many signatures are left: {reason}")),
    }
}

/// Warns of records that were left out, and that no later record has told of yet. As the account.
pub(crate) fn left_out(findings: &mut Findings, config: &Config) {
    let Ok(entries) = std::fs::read_dir(config.audit.state()) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.starts_with("refusals")) else {
            continue;
        };
        if let Some(number) = std::fs::read(&path).ok().and_then(|line| bucket::refused(&line)).filter(|number| *number > 0) {
            findings.warning(&format!("{name}: {number} refusals or failures have no record"));
        }
    }
}

/// How many signatures are left: in a child that has become the account, whose count it is.
fn left(config: &Config, user: Option<&User>, name: &Name, rate: (Rate, u64)) -> Result<u64, String> {
    let count = || -> Result<u64, Box<dyn Error>> {
        account::enter(user)?;
        let state = State::open(config.audit.state())?;
        Ok(Signatures::open(&state, name, Some(rate))?.left()?.unwrap_or(u64::MAX))
    };
    let child = Child::fork(c"sigsh-check", &[0, 1, 2], |channel| {
        // A message has 2 KiB: a reason may name a long path.
        let _ = channel.send(&count().map_err(|error| error.to_string().chars().take(400).collect::<String>()));
    });
    child.map_err(|error| error.to_string())?.channel().receive().unwrap_or_else(|error| Err(error.to_string()))
}
