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
    let name = name(value("hostkeyalias"), value("hostname"), value("port"));
    let files = [value("userknownhostsfile"), value("globalknownhostsfile")].into_iter().flat_map(str::split_whitespace);
    match files.map(expand).find(|file| knows(file, &name)) {
        Some(file) => findings.ok(&format!("{host}: its host key is pinned in {}", file.display())),
        None if !["", "none"].contains(&value("knownhostscommand")) => {
            findings.ok(&format!("{host}: its host key is pinned by KnownHostsCommand"));
        }
        None => findings.error(&format!(
            "{host}: its host key is not pinned; get it from its operator, and write '{name} ssh-ed25519 AAAA…' to ~/.ssh/known_hosts"
        )),
    }
}

/// The name under which ssh looks for the key.
fn name(alias: &str, hostname: &str, port: &str) -> String {
    match (alias, port) {
        ("" | "none", "22" | "") => hostname.to_owned(),
        ("" | "none", port) => format!("[{hostname}]:{port}"),
        (alias, _) => alias.to_owned(),
    }
}

fn expand(file: &str) -> PathBuf {
    match (file.strip_prefix("~/"), env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => file.into(),
    }
}

fn knows(file: &Path, name: &str) -> bool {
    let mut command = Command::new("ssh-keygen");
    command.args(["-F", name, "-f"]).arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    file.is_file() && command.status().is_ok_and(|status| status.success())
}
