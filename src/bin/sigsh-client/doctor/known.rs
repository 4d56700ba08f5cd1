//! Whether ssh knows the host's key, so that nobody else can answer in its place.

use super::Findings;
use crate::settings::Settings;
use std::collections::HashMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Looks at what ssh makes of its configuration.
pub(super) fn examine(findings: &mut Findings, settings: &Settings, host: &str) {
    let output = Command::new("ssh")
        .current_dir("/")
        .args(&settings.ssh_options)
        .args(["-G", "-T", "--", host])
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
            return findings
                .error(&format!("{host}: ssh does not understand its configuration: {said}; see ssh-options, ~/.ssh/config"));
        }
        Err(error) => return findings.error(&format!("{host}: cannot start ssh: {error}; install openssh-client")),
    };
    let values = output.lines().filter_map(|line| line.split_once(' ')).collect::<HashMap<_, _>>();
    let value = |name: &str| values.get(name).copied().unwrap_or_default();
    match value("stricthostkeychecking") {
        "false" | "no" | "off" => {
            return findings
                .error(&format!("{host}: ssh takes any host for it; remove StrictHostKeyChecking from ssh's configuration"));
        }
        "accept-new" => findings.warning(&format!(
            "{host}: ssh takes any host for it the first time; write its key to known_hosts and remove StrictHostKeyChecking"
        )),
        _ => {}
    }
    let names = names(value("hostkeyalias"), value("hostname"), value("port"));
    let name = names.first().map_or(host, String::as_str);
    let files = [value("userknownhostsfile"), value("globalknownhostsfile")].into_iter().flat_map(str::split_whitespace);
    let files = files.map(expand).collect::<Vec<_>>();
    let write = format!("get it from its operator, and write '{name} ssh-ed25519 AAAA…' to ~/.ssh/known_hosts");
    let known = names.iter().flat_map(|name| files.iter().flat_map(move |file| known(file, name))).collect::<Vec<_>>();
    // Whatever line has it, ssh takes no key that is revoked.
    let revoked = |key: &str| known.iter().find(|known| known.revoked && known.key == key);
    match known.iter().find(|known| !known.revoked && revoked(&known.key).is_none()) {
        Some(known) => findings.ok(&format!("{host}: its host key is pinned in {}", known.file.display())),
        None => match known.iter().find(|known| known.revoked) {
            Some(known) => findings
                .error(&format!("{host}: its host key is revoked in {}; if it has a new one, {write}", known.file.display())),
            None if !["", "none"].contains(&value("knownhostscommand")) => {
                findings.ok(&format!("{host}: its host key is pinned by KnownHostsCommand"));
            }
            None => findings.error(&format!("{host}: its host key is not pinned; {write}")),
        },
    }
}

/// The names under which ssh looks for the key, one after the other.
fn names(alias: &str, hostname: &str, port: &str) -> Vec<String> {
    match (alias, port) {
        ("" | "none", "22" | "") => vec![hostname.to_owned()],
        ("" | "none", port) => vec![format!("[{hostname}]:{port}"), hostname.to_owned()],
        (alias, _) => vec![alias.to_owned()],
    }
}

/// A line of a file.
struct Known<'a> {
    file: &'a Path,
    key: String,
    revoked: bool,
}

/// The lines that are about a name.
fn known<'a>(file: &'a Path, name: &str) -> Vec<Known<'a>> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-F", name, "-f"]).arg(file).stdin(Stdio::null()).stderr(Stdio::null());
    let output = if file.is_file() { command.output().map(|output| output.stdout).unwrap_or_default() } else { Vec::new() };
    let text = String::from_utf8_lossy(&output);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let known = |line: &str| {
        let key = line.split_whitespace().filter(|word| !word.starts_with('@')).nth(2)?.to_owned();
        Some(Known { file, key, revoked: line.starts_with("@revoked") })
    };
    lines.filter_map(known).collect()
}

fn expand(file: &str) -> PathBuf {
    match (file.strip_prefix("~/"), env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => file.into(),
    }
}
