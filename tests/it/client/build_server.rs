//! A build server: an empty home, a directory to work in, a configuration of the client.

use crate::world::{CLIENTS, HOME, Outcome, admit, finish, scratch, ssh_key, world};
use std::fs;
use std::process::Command;

pub struct BuildServer {
    /// Where it works: its home, too.
    pub directory: String,
    /// Its XDG_RUNTIME_DIR.
    pub runtime: String,
}

impl BuildServer {
    /// One that is this client of the signing host and knows these keys, the first by default; `more` stands first in its configuration.
    pub fn new(client: &str, keys: &[&str], more: &str) -> BuildServer {
        world();
        let directory = scratch();
        let server = BuildServer { runtime: format!("{directory}/.run"), directory };
        let options = format!("[\"-F\", \"{HOME}/ssh_config\", \"-i\", \"{}\"]", ssh_key(client));
        let hosts = if more.contains("hosts =") { "" } else { "hosts = [\"signer@127.0.0.1\"]\n" };
        let mut text = format!("{hosts}{more}\nssh-options = {options}\ndefault-key = \"{}\"\n", keys[0]);
        for key in keys {
            text += &format!("[key.{key}]\ncertificate = \"/etc/sigsh/{key}.pgp\"\n");
        }
        fs::create_dir_all(server.path(".config/sigsh")).unwrap();
        // /tmp is the machine's: another run of these tests may have its connections there.
        fs::create_dir(&server.runtime).unwrap();
        fs::write(server.path(".config/sigsh/client.toml"), text).unwrap();
        server
    }

    /// A new client of the signing host, as `table` of its configuration has it.
    pub fn admitted(client: &str, table: &str, keys: &[&str], more: &str) -> BuildServer {
        world();
        assert!(!CLIENTS.contains(&client));
        admit(client, table);
        BuildServer::new(client, keys, more)
    }

    /// Adds options of ssh to its configuration, before the others.
    pub fn with_ssh(self, options: &[&str]) -> BuildServer {
        let (path, options) =
            (".config/sigsh/client.toml", options.iter().map(|option| format!("\"{option}\", ")).collect::<String>());
        let text = String::from_utf8(self.read(path)).unwrap().replace("ssh-options = [", &format!("ssh-options = [{options}"));
        self.write(path, text);
        self
    }

    /// The same user as on another one.
    pub fn together_with(mut self, other: &BuildServer) -> BuildServer {
        self.runtime.clone_from(&other.runtime);
        self
    }

    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// All files but the configuration, sorted.
    pub fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names = entries.filter(|name| !name.starts_with('.')).collect::<Vec<_>>();
        names.sort();
        names
    }

    /// A program, where this build server works.
    pub fn program(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.directory).env_clear();
        command.env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("HOME", &self.directory);
        command.env("XDG_RUNTIME_DIR", &self.runtime);
        command
    }

    /// `sigsh-client` with these arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.program("sigsh-client", arguments)
    }

    pub fn run(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        finish(self.command(arguments), input)
    }

    /// Makes a directory where `gpg` is sigsh-client, and returns what PATH is with it.
    pub fn front(&self) -> String {
        let front = self.path(".front");
        if fs::create_dir(&front).is_ok() {
            for name in ["gpg", "gpg2", "gpg-sq", "sigsh-gpg"] {
                std::os::unix::fs::symlink("/usr/bin/sigsh-client", format!("{front}/{name}")).unwrap();
            }
        }
        format!("{front}:/usr/bin:/bin:/usr/sbin:/sbin")
    }

    /// `gpg` with these words, as a shell splits them.
    pub fn gpg(&self, line: &str) -> Command {
        let path = self.front();
        let words = shlex::split(line).unwrap();
        let mut command = self.program(&format!("{}/.front/gpg", self.directory), &[]);
        command.args(words).env("PATH", path);
        command
    }
}
