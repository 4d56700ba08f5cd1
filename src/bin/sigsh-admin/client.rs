//! What `sigsh-admin check` tells of clients: who they are, what they may do, and who the holder of an ssh key would be.

use crate::check::Findings;
use crate::limits;
use nix::unistd::User;
use sequoia_openpgp::crypto::mpi::PublicKey as Material;
use sigsh::config::values::Name;
use sigsh::config::{Client, Config, Input, Key, Revoked};
use sigsh::identity::Login;
use sigsh::identity::certificate::{Certificate, date};
use sigsh::openpgp::certificate::MAX_CERTIFICATE;
use sigsh::openpgp::{SigningKey, Version};
use sigsh::trusted;
use std::fmt::Display;
use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

/// The longest file of a public key or certificate in bytes.
const MAX_FILE: u64 = 128 * 1024;

/// What is worth a look in any client.
pub(crate) fn warnings(findings: &mut Findings, config: &Config, revoked: &Revoked) {
    for (name, client) in config.clients() {
        if let Some(network) = client.from.iter().flatten().find(|network| network.is_everywhere()) {
            findings.warning(&format!("client '{name}': {network} is everywhere; leave 'from' out, or say where it comes from"));
        }
        let mut own = client.ssh_keys.iter().flatten().map(|key| *key.get_ref()).chain(client.ssh_ca).peekable();
        if own.peek().is_some() && own.all(|key| revoked.has(&key)) {
            findings.warning(&format!("client '{name}': all that it is known by is revoked"));
        }
        if let Some((None, input)) = client.strange_input() {
            findings.warning(&format!("client '{name}': it asks 'sign' when it asks nothing, but may not send {input} input"));
        }
        let salted =
            |name: &Name| config.key(name).and_then(|(_, key, _)| read_key(key)).is_some_and(|key| key.version() == Version::V6);
        if client.inputs().contains(&Input::State) && client.keys.iter().all(|key| salted(key.get_ref())) {
            findings.warning(&format!("client '{name}': it may send hash states, but its keys are of version 6, which sign none"));
        }
    }
}

/// A line for each thing that a client may do.
pub(crate) fn explain(findings: &mut Findings, config: &Config, user: Option<&User>, name: &Name, client: &Client) {
    for line in [
        format!("is known by {}", known_by(client)),
        format!("comes from {}", client.from.as_ref().map_or("anywhere".to_owned(), |from| list(from, " or "))),
        format!("signs with {}", keys(config, client)),
        format!("sends {}; a file has up to {} bytes", inputs(client), client.max_size()),
        format!("must declare {}", if client.require.is_empty() { "nothing".to_owned() } else { list(&client.require, " and ") }),
        format!("asks '{}' when it asks nothing", client.request()),
    ] {
        findings.ok(&format!("client '{name}' {line}"));
    }
    limits::tell(findings, config, user, name, client);
}

/// What it sends, and by which request.
fn inputs(client: &Client) -> String {
    let one = |input: &Input| match input {
        Input::Artifact => "artifact (sign)",
        Input::Tar => "tar (sign-tar)",
        Input::State => "state (sign-state)",
    };
    client.inputs().iter().map(one).collect::<Vec<_>>().join(", ")
}

fn known_by(client: &Client) -> String {
    let mut ways = Vec::new();
    if let Some(keys) = &client.ssh_keys {
        ways.push(format!("ssh key {}", keys.iter().map(|key| key.get_ref().to_string()).collect::<Vec<_>>().join(" or ")));
    }
    if let Some(ca) = &client.ssh_ca {
        ways.push(format!("an ssh certificate of {ca}"));
    }
    if let Some(principals) = &client.principals {
        ways.push(format!("principal {}", list(principals, " or ")));
    }
    if let Some(patterns) = &client.key_ids {
        ways.push(format!("key id {}", list(patterns, " or ")));
    }
    if let Some(user) = &client.unix_user {
        let outside = if ways.is_empty() { ", outside ssh" } else { "" };
        ways.push(format!("unix user {user}{outside}"));
    }
    ways.join(" with ")
}

fn keys(config: &Config, client: &Client) -> String {
    let one = |(number, name): (usize, &Name)| {
        let algorithm = config.key(name).and_then(|(_, key, _)| algorithm(key)).unwrap_or_else(|| "no certificate yet".to_owned());
        let default = if number == 0 { ", its default" } else { "" };
        format!("{name} ({algorithm}{default})")
    };
    client.keys.iter().map(toml::Spanned::get_ref).enumerate().map(one).collect::<Vec<_>>().join(", ")
}

/// By the key's certificate: the token need not be asked.
fn algorithm(key: &Key) -> Option<String> {
    let certificate = read_key(key)?;
    let salted = if certificate.version() == Version::V6 { ", version 6" } else { "" };
    Some(match certificate.key().mpis() {
        Material::ECDSA { curve, .. } | Material::EdDSA { curve, .. } => format!("{curve}{salted}"),
        Material::Ed25519 { .. } => format!("Ed25519{salted}"),
        _ => format!("RSA, {} bits{salted}", certificate.key().mpis().bits()?),
    })
}

pub(crate) fn read_key(key: &Key) -> Option<SigningKey> {
    let certificate = trusted::read(&key.certificate, MAX_CERTIFICATE).ok()?;
    SigningKey::read(&certificate, key.hash, SystemTime::now()).ok()
}

fn list<T: Display>(items: &[T], between: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
}

/// Reads a public key or a certificate, as ssh-keygen writes them.
pub(crate) fn read(path: &Path) -> Result<Login, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_FILE).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count() > 1 {
        return Err("a file with more than one line; give it one key".to_owned());
    }
    let words = text.split_ascii_whitespace().take(2).collect::<Vec<_>>().join(" ");
    Login::parse(&format!("publickey {words}\n")).map_err(|_| "neither a key nor a certificate that sigsh understands".to_owned())
}

/// Says who the holder of a key or certificate is, and with which rights.
pub(crate) fn who(findings: &mut Findings, config: &Config, user: Option<&User>, revoked: &Revoked, login: &Login) {
    let what = match login {
        Login::Key(key) => format!("ssh key {key}"),
        Login::Certificate(certificate) => {
            describe(findings, certificate);
            format!("ssh certificate of key {}", certificate.key)
        }
    };
    if let Err(error) = login.check_time(SystemTime::now()) {
        findings.error(&format!("{what}: {error}"));
    }
    if let Some(part) = revoked.of(login) {
        findings.error(&format!("{what}: {part} is revoked"));
    }
    let clients = config.clients().filter(|(_, client)| client.logs_in_by(Some(login))).collect::<Vec<_>>();
    if clients.is_empty() {
        findings.error(&format!("{what}: no client of the configuration"));
    }
    if clients.len() > 1 {
        findings.warning(&format!("{what}: {} clients; who is two of them at once is refused", clients.len()));
    }
    for (name, client) in clients {
        let place = client.from.as_ref().map(|from| format!("it comes from {}", list(from, " or ")));
        let runs = client.unix_user.as_ref().map(|user| format!("sigsh runs as {user}"));
        let conditions = place.into_iter().chain(runs).collect::<Vec<_>>().join(" and ");
        let conditions = if conditions.is_empty() { conditions } else { format!(", if {conditions}") };
        findings.ok(&format!("{what}: client '{name}'{conditions}"));
        explain(findings, config, user, name, client);
    }
}

fn describe(findings: &mut Findings, certificate: &Certificate) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string();
    let principals = certificate.principals.iter().map(|principal| text(principal)).collect::<Vec<_>>();
    let until = if certificate.valid_before == u64::MAX {
        "for ever".to_owned()
    } else {
        format!("until {}", date(certificate.valid_before))
    };
    findings.ok(&format!("ssh certificate '{}', serial {}, of {}", text(&certificate.key_id), certificate.serial, certificate.ca));
    findings.ok(&format!("ssh certificate is valid from {} {until}", date(certificate.valid_after)));
    if principals.is_empty() {
        findings.error("ssh certificate has no principals, so it matches nobody");
    } else {
        findings.ok(&format!("ssh certificate has principals {}", principals.join(", ")));
    }
}
