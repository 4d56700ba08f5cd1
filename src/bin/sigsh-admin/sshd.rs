//! Whether sshd's effective settings keep the account to signing.

use crate::check::Findings;
use std::path::Path;
use std::process::Command;

/// What `sshd -T` must say for the account, and what is open otherwise.
const SETTINGS: [(&str, &str, &str); 16] = [
    ("exposeauthinfo", "yes", "sigsh cannot know who asks"),
    ("authenticationmethods", "publickey", "others than holders of a key may get in"),
    ("disableforwarding", "yes", "forwarding is open"),
    ("allowtcpforwarding", "no", "TCP forwarding is open"),
    ("allowstreamlocalforwarding", "no", "socket forwarding is open"),
    ("allowagentforwarding", "no", "agent forwarding is open"),
    ("x11forwarding", "no", "X11 forwarding is open"),
    ("permittunnel", "no", "tunnels are open"),
    ("gatewayports", "no", "forwarded ports are open to others"),
    ("permittty", "no", "a terminal mangles signatures"),
    ("permituserrc", "no", "~/.ssh/rc runs before sigsh"),
    ("permituserenvironment", "no", "the account's own files reach sigsh's environment"),
    ("passwordauthentication", "no", "passwords are accepted"),
    ("kbdinteractiveauthentication", "no", "passwords are accepted"),
    ("pubkeyauthentication", "yes", "no key is accepted"),
    ("banner", "none", "a banner stands before every error message"),
];

/// Compares. `certificates` is whether a client is known by them.
pub(crate) fn settings(findings: &mut Findings, account: &str, config: &Path, certificates: bool) {
    let connection = format!("user={account},host=localhost,addr=127.0.0.1");
    let sshd = ["/usr/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd"].into_iter().find(|path| Path::new(path).exists());
    let Some(sshd) = sshd else { return findings.warning("sshd: not installed here, so its settings were not looked at") };
    let output = match Command::new(sshd).arg("-T").arg("-f").arg(config).args(["-C", &connection]).output() {
        Ok(output) if output.status.success() => output,
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned();
            return findings.warning(&format!("sshd: cannot see its settings: {text}"));
        }
        Err(error) => return findings.warning(&format!("sshd: cannot see its settings: {error}")),
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let values = |name: &str| -> Vec<&str> {
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value.trim())
            .collect()
    };
    let mut wrong = 0;
    for (name, wanted, consequence) in SETTINGS {
        match values(name).as_slice() {
            [value] if *value == wanted => continue,
            [] => findings.error(&format!("sshd: {name} is not set for '{account}': {consequence}")),
            [value, ..] => findings.error(&format!("sshd: {name} is '{value}' for '{account}', not '{wanted}': {consequence}")),
        }
        wrong += 1;
    }
    let forced = values("forcecommand");
    if !forced.first().is_some_and(|command| command.split(' ').next().is_some_and(|word| word.ends_with("/sigsh"))) {
        findings.error(&format!("sshd: no ForceCommand with an absolute path to sigsh for '{account}': other programs can be run"));
        wrong += 1;
    }
    // Of a pattern the part before its first wildcard is compared: it may fit more than that, but nothing else.
    let fits = |pattern: &&str| {
        let literal = pattern.split(['*', '?']).next().unwrap_or_default();
        let wild = literal.len() < pattern.len();
        literal.starts_with("LD_")
            || ["LD_", "GLIBC_TUNABLES", "SSH_USER_AUTH", "SSH_CONNECTION", "SSH_CLIENT", "SSH_ORIGINAL_COMMAND"]
                .iter()
                .any(|name| name == &literal || wild && name.starts_with(literal))
    };
    if let Some(open) = values("acceptenv").into_iter().flat_map(|line| line.split(' ')).find(fits) {
        findings.error(&format!(
            "sshd: AcceptEnv {open} lets clients choose libraries that the loader puts into sigsh, or say who they are"
        ));
        wrong += 1;
    }
    let trusted = values("trustedusercakeys").iter().any(|file| *file != "none");
    if certificates && !trusted {
        findings.warning(&format!("sshd: TrustedUserCAKeys is not set for '{account}': no ssh certificate logs in by it"));
    }
    let listed = |name| values(name).iter().any(|value| *value != "none");
    if trusted && !listed("authorizedprincipalsfile") && !listed("authorizedprincipalscommand") {
        findings.warning(&format!("sshd: AuthorizedPrincipalsFile is not set: ssh certificates need the principal '{account}'"));
    }
    if values("maxstartups").first().is_some_and(|value| *value == "10:30:100") {
        findings.warning("sshd: MaxStartups is at its default: parallel builds will be refused");
    }
    if wrong == 0 {
        findings.ok(&format!("sshd: {} settings for '{account}' are as they must be", SETTINGS.len() + 1));
    }
}
