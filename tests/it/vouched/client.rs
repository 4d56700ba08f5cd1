//! The whole arrangement by sigsh-client: a build endorses, people approve, and what both have vouched for is signed.

mod approve;
mod endorse;
mod sign;

use super::{admit_guarded, certify, new_key, print};
use crate::client::BuildServer;
use crate::world::{HOST, Outcome, finish, world};
use std::fs;
use std::process::Command;

const FILE: &[u8] = b"what was built\n";

/// Somebody with an ssh key.
struct Person {
    name: &'static str,
    key: String,
}
impl Person {
    fn new(name: &'static str) -> Person {
        world();
        Person { name, key: new_key("ed25519") }
    }

    fn with(name: &'static str, key: String) -> Person {
        Person { name, key }
    }

    /// A line of allowed_signers.
    fn line(&self) -> String {
        let public = fs::read_to_string(format!("{}.pub", self.key)).unwrap();
        let mut words = public.split_whitespace();
        format!("{}@example.org {} {}\n", self.name, words.next().unwrap(), words.next().unwrap())
    }

    /// What the name of an approval says of the key.
    fn tag(&self) -> String {
        use base64ct::{Base64Unpadded, Encoding};
        hex::encode(&Base64Unpadded::decode_vec(print(&self.key).strip_prefix("SHA256:").unwrap()).unwrap()[..4])
    }

    fn approval(&self, file: &str) -> String {
        format!("{file}.{}-{}.approval", self.name, self.tag())
    }

    /// `sigsh-client approve` by this person, with these arguments.
    fn command(&self, server: &BuildServer, arguments: &[&str]) -> Command {
        let mut command = server.command(&["approve", "--identity", &self.key]);
        command.args(arguments).env("LOGNAME", self.name);
        command
    }

    #[track_caller]
    fn approves(&self, server: &BuildServer, arguments: &[&str]) {
        let outcome = finish(self.command(server, &[&["--yes"], arguments].concat()), b"");
        assert_eq!((outcome.code, outcome.out.len()), (Some(0), 0), "{outcome:#?}");
    }
}

/// A key in the world's token that is guarded so, its only client, and the list of approvers that the table may name as `{LIST}`.
fn guarded_by(name: &str, people: &[&Person], table: &str) -> BuildServer {
    world();
    let list = format!("/etc/sigsh/{name}.approvers");
    // As many as must approve have to be on it.
    let zoe = Person::new("zoe").line();
    for list in [&list, &format!("{list}.glass")] {
        fs::write(list, people.iter().map(|person| person.line()).collect::<String>() + &zoe).unwrap();
    }
    admit_guarded(name, "ed25519", &table.replace("{LIST}", &list));
    let server = BuildServer::new(name, &[name], "");
    let path = ".config/sigsh/client.toml";
    let more = format!("guarded = true\nrequester = \"{name}\"\napprove-for = \"host {HOST}\"\n");
    server.write(path, String::from_utf8(server.read(path)).unwrap() + &more);
    server.write("f", FILE);
    server
}

const TWO: &str = "approvals = { need = 2, approvers = \"{LIST}\" }\nbreak-glass = { need = 1, approvers = \"{LIST}.glass\" }\n";

/// What the client makes of the host's hint.
const HINT: &str =
    "sigsh-client: hint: 'sigsh-client approve' makes one person's: FILE.NAME.approval beside the file, or what --approval names";

#[track_caller]
fn says(outcome: &Outcome, code: i32, lines: &[&str]) {
    assert_eq!((outcome.code, outcome.out.len()), (Some(code), 0), "{outcome:#?}");
    assert_eq!(outcome.err.lines().collect::<Vec<_>>(), lines, "{outcome:#?}");
}

#[track_caller]
fn says_first(outcome: &Outcome, code: i32, line: &str) {
    assert_eq!((outcome.code, outcome.err.lines().next().unwrap_or_default()), (Some(code), line), "{outcome:#?}");
}

/// The certificate of a build of this key.
fn permit(ca: &str, key: &str) -> String {
    let grant = format!("critical:grant@sigsh=host={HOST};max=64");
    let principal = format!("build@{key}");
    let arguments = ["-I", "build-1234 by=alice", "-n", &principal, "-V", "-5m:+2h", "-z", "1234", "-O", "clear", "-O", &grant];
    certify(ca, &new_key("ed25519"), &arguments)
}

/// In place of ssh-keygen or gpg: a script.
fn fake(server: &BuildServer, program: &str, script: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let _ = fs::create_dir(server.path(".fake"));
    let path = server.write(&format!(".fake/{program}"), format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:/usr/bin:/bin", server.path(".fake"))
}
