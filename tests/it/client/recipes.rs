//! docs/PACKAGERS.md, typed in: each block is run by an account that has nothing but an ssh key, with the real tools.

use crate::world::{HOME, PORT, ssh_key, succeed, world};
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The key that this client gets when it names none.
const KEY: &str = "rsa2048";
const ACCOUNT: &str = "recipes";
const PLACE: &str = "/srv/recipes";

/// All blocks of the page, by their names; what shares a name is one.
fn blocks(page: &str) -> HashMap<&str, String> {
    let mut blocks: HashMap<&str, String> = HashMap::new();
    for part in page.split("<!-- test: ").skip(1) {
        let (name, rest) = part.split_once(" -->\n```").unwrap();
        let text = rest.split_once('\n').unwrap().1.split_once("```\n").unwrap().0;
        blocks.entry(name).or_default().push_str(text);
    }
    let fences = page.lines().filter(|line| line.starts_with("```")).count();
    assert_eq!(fences, 2 * page.matches("<!-- test: ").count(), "a block that no test runs");
    blocks
}

/// As a YAML parser has it.
fn yaml(text: &str) -> Value {
    let script = format!("import json, sys, yaml; print(json.dumps(yaml.safe_load({}), default=str))", Value::from(text));
    serde_json::from_slice(&succeed(Command::new("python3").args(["-c", &script])).stdout).unwrap()
}

fn exports(variables: &Value) -> String {
    let line = |(name, value): (&String, &Value)| {
        let value = value.as_str().unwrap().replace("${{ secrets.SSH_KEY }}", "$KEY_TEXT");
        format!("export {name}=\"{value}\"\n")
    };
    variables.as_object().map(|variables| variables.iter().map(line).collect()).unwrap_or_default()
}

/// Each step in a shell of its own.
fn github(text: &str) -> String {
    let jobs = yaml(text);
    let job = &jobs["jobs"]["sign"];
    let steps = job["steps"].as_array().unwrap().iter().filter(|step| step["uses"].is_null());
    let step = |step: &Value| format!("(\n{}{}\n)\n", exports(&step["env"]), step["run"].as_str().unwrap());
    exports(&job["env"]) + &steps.map(step).collect::<String>()
}

fn gitlab(text: &str) -> String {
    let jobs = yaml(text);
    let script = jobs["sign"]["script"].as_array().unwrap().iter().map(|line| format!("{}\n", line.as_str().unwrap()));
    // A variable of type file.
    let file = "printf '%s\\n' \"$KEY_TEXT\" > key\nexport SSH_KEY=key\n".to_owned();
    file + &exports(&jobs["sign"]["variables"]) + &script.collect::<String>()
}

fn jenkins(text: &str) -> String {
    let line = |line: &str| {
        let variable = line.split_once(" = ").map(|(name, value)| format!("export {name}={}; ", value.replace('\'', "")));
        variable.or_else(|| Some(line.strip_prefix("sh '")?.strip_suffix('\'')?.to_owned() + "; "))
    };
    let lines = text.lines().filter_map(|text| line(text.trim())).collect::<String>();
    assert_eq!(lines.matches("; ").count(), 4, "{lines}");
    format!("set -e; {lines}")
}

fn goreleaser(text: &str) -> String {
    let config = yaml(text);
    let sign = &config["signs"][0];
    let words = sign["args"].as_array().unwrap().iter().map(|word| format!(" \"{}\"", word.as_str().unwrap()));
    sign["cmd"].as_str().unwrap().to_owned() + &words.collect::<String>()
}

#[test]
fn every_recipe_signs() {
    world();
    succeed(Command::new("useradd").args(["--create-home", "--home-dir", PLACE, "--user-group", "--shell", "/bin/bash", ACCOUNT]));
    let host =
        format!("Host signing.example.org\nHostName 127.0.0.1\nPort {PORT}\nHostKeyAlias signing.example.org\nBatchMode yes\n");
    fs::create_dir_all("/etc/ssh/ssh_config.d").unwrap();
    fs::write("/etc/ssh/ssh_config.d/recipes.conf", host).unwrap();
    let pinned = sigsh::openpgp::Pinned::read(&fs::read(format!("/etc/sigsh/{KEY}.pgp")).unwrap()).unwrap();
    let fingerprint = pinned.certs()[0].fingerprint().to_hex();
    fs::copy(format!("/etc/sigsh/{KEY}.pgp"), format!("{PLACE}/certificate.pgp")).unwrap();

    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/PACKAGERS.md")).unwrap();
    let mut script = include_str!("recipes.sh").to_owned();
    for (name, block) in blocks(&page) {
        let text = match name {
            "github" => github(&block),
            "gitlab" => gitlab(&block),
            "jenkins" => jenkins(&block),
            "goreleaser" => goreleaser(&block),
            "gradle" => block.split_whitespace().collect::<Vec<_>>().join(" "),
            _ => block,
        };
        let place = format!("@{name}@");
        assert!(script.contains(&place), "{name}");
        script = script.replace(&place, text.trim_end());
    }
    assert!(!script.lines().any(|line| line.trim().starts_with('@')), "{script}");
    // makepkg of Debian compresses otherwise, and the key has another name.
    let script = script
        .replace("FINGERPRINT", &fingerprint)
        .replace(".tar.zst", ".tar.gz")
        .replace("[key.release]", &format!("[key.{KEY}]"));
    let mut command = Command::new("setpriv");
    command.args(["--reuid", ACCOUNT, "--regid", ACCOUNT, "--init-groups", "--", "bash", "-c", &script]).env_clear();
    command.env("HOME", PLACE).env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("LC_ALL", "C.UTF-8").env("USER", ACCOUNT);
    command
        .env("CERTIFICATE", format!("{PLACE}/certificate.pgp"))
        .env("KEY_TEXT", fs::read_to_string(ssh_key("build1")).unwrap().trim_end());
    command.env("HOST_KEY", fs::read_to_string(format!("{HOME}/sshd_host.pub")).unwrap().trim_end());
    let output = command.current_dir(PLACE).stdin(Stdio::null()).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(!out.contains("error: ") && out.contains("ok: signer@signing.example.org: 8 connections at once"), "{out}");
}
