//! Whether records that were accepted can be found again: a canary, and journald's settings that drop records.

use crate::check::Findings;
use nix::unistd::Uid;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A name for this run's canary.
pub(crate) fn canary_name() -> String {
    let mut name = [0; 16];
    // A name that is not random is found by an earlier run's record at worst.
    let _ = getrandom::fill(&mut name);
    hex::encode(name)
}

/// The record: it looks like those of a session, but for its event.
pub(crate) fn canary(name: &str) -> [(&'static str, &str); 5] {
    [
        ("SYSLOG_IDENTIFIER", "sigsh"),
        ("PRIORITY", "6"),
        ("MESSAGE", "checked by sigsh-admin"),
        ("SIGSH_EVENT", "check"),
        ("SIGSH_SESSION", name),
    ]
}

/// journalctl, for the journal of this socket.
pub(crate) fn journalctl(socket: &Path) -> Command {
    let mut journalctl = Command::new("journalctl");
    // /run/systemd/journal.NAME/socket belongs to a namespace of journald.
    let parent = socket.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    if let Some(namespace) = parent.and_then(|name| name.strip_prefix("journal.")) {
        journalctl.arg(format!("--namespace={namespace}"));
    }
    journalctl
}

/// Looks for the canary, as an auditor would.
pub(crate) fn read_back(findings: &mut Findings, socket: &Path, name: &str, uid: Uid) {
    let mut journalctl = journalctl(socket);
    journalctl.args(["--quiet", "--output=cat", &format!("SIGSH_SESSION={name}"), &format!("_UID={uid}")]);
    for _ in 0..20 {
        match journalctl.stderr(Stdio::null()).output() {
            Ok(output) if !output.stdout.is_empty() => return findings.ok("journal: the record was found again"),
            Ok(_) => std::thread::sleep(Duration::from_millis(100)),
            Err(error) => return findings.warning(&format!("journal: cannot run journalctl: {error}")),
        }
    }
    if uid.is_root() || nix::unistd::geteuid().is_root() {
        findings.error("journal: the record was accepted, and is not to be found with journalctl");
    } else {
        findings.warning("journal: this user cannot read the journal, so the record was not looked for; run check as root");
    }
}

/// Names settings of journald that drop records without a word; of a batch's the most, by the rate limit.
pub(crate) fn settings(findings: &mut Findings, batches: bool) {
    let output = match Command::new("systemd-analyze").args(["cat-config", "systemd/journald.conf"]).stderr(Stdio::null()).output()
    {
        Ok(output) if output.status.success() => output,
        _ => return findings.warning("journald: cannot run systemd-analyze to see its settings"),
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // The last word counts.
    let setting = |name: &str| {
        text.lines().rev().find_map(|line| line.trim().strip_prefix(name)?.trim_start().strip_prefix('=').map(str::trim))
    };
    let quiet = ["emerg", "alert", "crit", "err", "warning", "notice", "0", "1", "2", "3", "4", "5"];
    let mut dropping = Vec::new();
    if setting("Storage") == Some("none") {
        dropping.push("Storage=none keeps no record".to_owned());
    }
    if let Some(level) = setting("MaxLevelStore").filter(|level| quiet.contains(level)) {
        dropping.push(format!("MaxLevelStore={level} drops records of signatures (info)"));
    }
    for line in &dropping {
        findings.error(&format!("journald: {line}"));
    }
    if setting("Storage") == Some("volatile") {
        findings.warning("journald: Storage=volatile forgets all records at a reboot");
    }
    // journald.conf(5): either value turns it off.
    let limited = !["RateLimitBurst", "RateLimitIntervalSec"].iter().any(|name| matches!(setting(name), Some("0" | "0s")));
    if limited && batches {
        let cure = "let a drop-in say RateLimitBurst=0, as sigsh(8) does";
        findings
            .warning(&format!("journald: its rate limit, 10,000 records in 30 s by default, drops those of large batches; {cure}"));
    }
    if dropping.is_empty() && !(limited && batches) {
        findings.ok("journald: no setting drops records of this size and level");
    }
}
