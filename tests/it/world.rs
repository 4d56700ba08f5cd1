//! A signing host, made once for all tests of this program: installed by `sshd/install.sh`, set up by `sigsh-admin`, with the shipped
//! settings of sshd, a SoftHSM token with a key of every kind, and the journald of `tests/inside.sh`.

use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// All kinds of key: name and algorithm at once.
pub const KEYS: [&str; 7] = ["rsa2048", "rsa3072", "rsa4096", "nistp256", "nistp384", "nistp521", "ed25519"];

/// Clients, each with an ssh key of its own, all of them let in by sshd. `stranger` is nobody to sigsh.
pub const CLIENTS: [&str; 5] = ["build1", "limited", "careful", "small", "stranger"];

/// What is built and installed.
pub const PROGRAMS: [&str; 3] = ["sigsh", "sigsh-admin", "sigsh-client"];

pub const PORT: u16 = 2222;
pub const CONFIG: &str = "/etc/sigsh/sigsh.toml";
pub const PIN_FILE: &str = "/etc/sigsh/hsm.pin";
pub const PIN: &str = "4711";
pub const HOME: &str = "/srv/world";

/// What the host, and all that sign the same, are called in permits and approvals.
pub const HOST: &str = "sign1.example.org";
pub const FLEET: &str = "release";

/// How a session ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
    /// Its records in the journal, oldest first; of direct sessions only.
    pub records: Vec<Value>,
    pub took: Duration,
}

impl Outcome {
    /// Demands a failure as design §3 has it: nothing on stdout, this code, exactly this error line (and at most a hint), and one
    /// final record with this event whose reason contains `reason`.
    #[track_caller]
    pub fn fails(&self, code: i32, line: &str, event: &str, reason: &str) {
        self.fails_quietly(code, line);
        let last = self.records.last().unwrap_or_else(|| panic!("no record: {self:?}"));
        assert_eq!((field(last, "SIGSH_EVENT"), field(last, "SIGSH_CODE")), (event, code.to_string().as_str()), "{self:#?}");
        assert!(field(last, "SIGSH_REASON").contains(reason), "{self:#?}");
    }

    /// The same, without a look at the journal.
    #[track_caller]
    pub fn fails_quietly(&self, code: i32, line: &str) {
        assert_eq!((self.code, self.out.len()), (Some(code), 0), "{self:#?}");
        let mut lines = self.err.lines();
        assert_eq!(lines.next(), Some(format!("sigsh: error: {line}").as_str()), "{self:#?}");
        assert!(lines.next().is_none_or(|hint| hint.starts_with("sigsh: hint: ")) && lines.next().is_none(), "{self:#?}");
        assert!(!self.err.contains("/etc/") && !self.err.contains("/var/") && !self.err.contains(PIN), "{self:#?}");
    }

    /// Demands a signature and its two records, and returns it.
    #[track_caller]
    pub fn signature(&self) -> &[u8] {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:#?}");
        assert!(!self.out.is_empty());
        let events = self.records.iter().map(|record| field(record, "SIGSH_EVENT")).collect::<Vec<_>>();
        assert_eq!(events, ["intent", "signed"], "{self:#?}");
        &self.out
    }
}

/// A field of a record; empty when it is not there.
pub fn field<'a>(record: &'a Value, name: &str) -> &'a str {
    record[name].as_str().unwrap_or_default()
}

pub struct World {
    _sshd: Child,
}

/// The host, made at the first call.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::make)
}

impl World {
    fn make() -> World {
        assert!(Path::new("/run/systemd/journal/socket").exists(), "run this with tests/run.sh, or under tests/inside.sh");
        succeed(Command::new("sh").arg("sshd/install.sh").env("BUILT", built()));
        fs::create_dir_all(HOME).unwrap();
        softhsm("release");
        secret(PIN_FILE, PIN);
        for client in CLIENTS {
            succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", client, "-f"]).arg(ssh_key(client)));
        }
        for name in CLIENTS {
            let line = fs::read_to_string(format!("{}.pub", ssh_key(name))).unwrap();
            let mut words = line.split(' ');
            let auth = format!("publickey {} {}\n", words.next().unwrap(), words.next().unwrap());
            account_file(&user_auth(name), auth.as_bytes());
        }
        fs::write(
            "/etc/sigsh/authorized_keys",
            CLIENTS.map(|name| fs::read_to_string(format!("{}.pub", ssh_key(name))).unwrap()).concat(),
        )
        .unwrap();
        fs::write(CONFIG, configuration()).unwrap();
        succeed(Command::new("sigsh-admin").args(["ledger", "init"]));
        for key in KEYS {
            succeed(Command::new("sigsh-admin").args(["key", "generate", key, "--algorithm", key]));
            let id = format!("Test {key} <{key}@example.org>");
            succeed(Command::new("sigsh-admin").args(["certificate", "create", key, "--user-id", &id]));
        }
        let client = "IdentitiesOnly yes\nIdentityAgent none\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n\
                      BatchMode yes\nRequestTTY no\n";
        fs::write(format!("{HOME}/ssh_config"), format!("Port {PORT}\n{client}")).unwrap();
        let sshd = start_sshd("sshd", PORT, "");
        World { _sshd: sshd }
    }

    /// A session as sshd would start it for `client`, but without sshd.
    pub fn session(&self, client: &str, request: &str) -> Session {
        Session::new(CONFIG).client(client).request(request)
    }

    /// Signs through a real sshd.
    pub fn ssh(&self, client: &str, request: &str, input: &[u8]) -> Outcome {
        let mut command = self.ssh_command(client);
        if !request.is_empty() {
            command.arg(request);
        }
        finish(command, input)
    }

    /// `ssh` with everything but the request.
    pub fn ssh_command(&self, client: &str) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", &format!("{HOME}/ssh_config"), "-i", &ssh_key(client), "signer@127.0.0.1"]);
        command
    }
}

/// Where the programs under test are: those of a release build, when tests/run.sh has made one.
pub fn built() -> PathBuf {
    let debug = || Path::new(env!("CARGO_BIN_EXE_sigsh")).parent().unwrap().to_owned();
    std::env::var_os("SIGSH_BUILT").map_or_else(debug, PathBuf::from)
}

/// Where the programs of the static build are, for the account to run; `None` where there is none.
#[allow(clippy::print_stderr)]
pub fn static_build() -> Option<&'static Path> {
    static INSTALLED: OnceLock<Option<PathBuf>> = OnceLock::new();
    let install = || {
        let Some(built) = std::env::var_os("SIGSH_STATIC").map(PathBuf::from) else {
            eprintln!(
                "skipped: SIGSH_STATIC does not say where the static build is (tests/run.sh makes it, or says why it cannot)"
            );
            return None;
        };
        world();
        let to = PathBuf::from("/usr/lib/sigsh-test/static");
        fs::create_dir_all(&to).unwrap();
        succeed(Command::new("cp").args(PROGRAMS.map(|program| built.join(program))).arg(&to));
        Some(to)
    };
    INSTALLED.get_or_init(install).as_deref()
}

/// Writes the settings of a private sshd, with those that are shipped: `{path}_config`, and its key beside.
pub fn sshd_config(path: &str, port: u16, more: &str) -> String {
    let (config, host_key) = (format!("{path}_config"), format!("{path}_host"));
    succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &host_key]));
    let include = "Include /etc/ssh/sshd_config.d/50-sigsh.conf";
    fs::write(&config, format!("ListenAddress 127.0.0.1:{port}\nHostKey {host_key}\nPidFile none\nUsePAM no\n{include}\n{more}\n"))
        .unwrap();
    config
}

/// A TCP port that nobody has.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a private sshd with the shipped settings, and waits until it listens.
pub fn start_sshd(name: &str, port: u16, more: &str) -> Child {
    let config = sshd_config(&format!("{HOME}/{name}"), port, more);
    let log = File::create(format!("{HOME}/{name}.log")).unwrap();
    let child = Command::new("/usr/sbin/sshd").args(["-D", "-e", "-f", &config]).stderr(log).spawn().unwrap();
    patient(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
    child
}

/// The configuration of the host. Tests derive theirs from it by replacing texts.
pub fn configuration() -> String {
    let mut text = format!(
        "account = \"signer\"\nhost = \"{HOST}\"\nfleet = \"{FLEET}\"\n[token.hsm]\nmodule = \"/usr/lib/softhsm/libsofthsm2.so\"\nuri = \"pkcs11:token=release\"\n\
         pin-file = \"{PIN_FILE}\"\nsandbox = \"softhsm\"\nread = [\"/var/lib/sigsh/tokens\"]\n\
         environment = {{ SOFTHSM2_CONF = \"/etc/sigsh/softhsm2.conf\" }}\ntimeout = \"20s\"\n"
    );
    for (number, key) in KEYS.iter().enumerate() {
        text += &format!(
            "[key.{key}]\ntoken = \"hsm\"\nuri = \"pkcs11:object={key};id=%{:02x}\"\ncertificate = \"/etc/sigsh/{key}.pgp\"\n",
            number + 1
        );
    }
    let all = KEYS.map(|key| format!("\"{key}\"")).join(", ");
    for (client, more) in [
        ("build1", format!("keys = [{all}]")),
        ("limited", "keys = [\"ed25519\"]".to_owned()),
        ("careful", "keys = [\"ed25519\"]\nrequire = [\"size\", \"digest\"]".to_owned()),
        ("small", "keys = [\"ed25519\"]\nmax-size = \"1KiB\"".to_owned()),
    ] {
        text += &format!("[client.{client}]\nssh-keys = [\"{}\"]\n{more}\n", fingerprint(client));
    }
    // So many tests at once are one client, and refused on purpose.
    text + "[limits]\nidle = \"10s\"\nsessions = 4096\nrefusals = \"1000000/s\"\n[audit]\njournal = \"/run/systemd/journal/socket\"\n"
}

/// Lets one client more in, for all tests, with an ssh key of its own: `table` is what the configuration says of it besides.
pub fn admit(client: &str, table: &str) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap();
    succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", client, "-f"]).arg(ssh_key(client)));
    let public = fs::read_to_string(format!("{}.pub", ssh_key(client))).unwrap();
    let client = format!("[client.{client}]\nssh-keys = [\"{}\"]\n{table}\n", fingerprint(client));
    for (path, more) in [(CONFIG, client), ("/etc/sigsh/authorized_keys", public)] {
        // Others read them meanwhile.
        let new = format!("{path}.new");
        fs::write(&new, fs::read_to_string(path).unwrap() + &more).unwrap();
        fs::rename(new, path).unwrap();
    }
}

/// Writes a configuration that differs from the host's in these texts, and returns its path.
pub fn changed(changes: &[(&str, &str)]) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let text = changes.iter().fold(configuration(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    let path = PathBuf::from(format!("/etc/sigsh/test{}.toml", NUMBER.fetch_add(1, Ordering::Relaxed)));
    fs::write(&path, text).unwrap();
    path
}

/// A configuration with the fault-injecting module in place of SoftHSM's: `fault` as in `tests/module.rs`. The second path is where it
/// counts calls; beside it lies the `target` of its trials. `more` are further changes.
pub fn faulty(fault: &str, more: &[(&str, &str)]) -> (PathBuf, PathBuf) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let directory = format!("/var/lib/sigsh-test/{number}");
    fs::create_dir_all(&directory).unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_sigsh")).parent().unwrap().join("examples/libmodule.so");
    let module = format!("{directory}/module.so");
    fs::copy(&built, &module).unwrap_or_else(|error| panic!("{}: {error}", built.display()));
    let (count, target) = (format!("{directory}/count"), format!("{directory}/target"));
    account_file(&count, b"");
    account_file(&target, b"untouched");
    let environment = format!(
        "environment = {{ SOFTHSM2_CONF = \"/etc/sigsh/softhsm2.conf\", MODULE_FAULT = \"{fault}\", MODULE_COUNT = \"{count}\", \
         MODULE_TARGET = \"{target}\" }}\nwrite = [\"{count}\"]\n"
    );
    let environment = if fault.is_empty() { environment.replace("MODULE_FAULT = \"\", ", "") } else { environment };
    // A token of its own name has a PIN marker of its own.
    let (table, token) = (format!("[token.faulty{number}]"), format!("token = \"faulty{number}\""));
    let mut changes = vec![
        ("[token.hsm]", table.as_str()),
        ("token = \"hsm\"", token.as_str()),
        ("/usr/lib/softhsm/libsofthsm2.so", module.as_str()),
        ("environment = { SOFTHSM2_CONF = \"/etc/sigsh/softhsm2.conf\" }\n", environment.as_str()),
    ];
    changes.extend(more);
    (changed(&changes), count.into())
}

/// How often the module was called for `function`, by a count file of [`faulty`].
pub fn calls(count: &Path, function: &str) -> usize {
    fs::read_to_string(count).unwrap().lines().filter(|line| *line == function).count()
}

/// Makes a SoftHSM token of this name, with the tests' PIN, in the account's store.
pub fn softhsm(name: &str) {
    // Two at once could take the same free slot.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let store = "/var/lib/sigsh/tokens";
    if !Path::new(store).exists() {
        fs::create_dir(store).unwrap();
        let (uid, gid) = account();
        chown(store, Some(uid), Some(gid)).unwrap();
        fs::set_permissions(store, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write("/etc/sigsh/softhsm2.conf", format!("directories.tokendir = {store}\nlog.level = ERROR\n")).unwrap();
    }
    let mut command = as_account("softhsm2-util");
    command.args(["--init-token", "--free", "--label", name, "--pin", PIN, "--so-pin", PIN]);
    succeed(command.env("SOFTHSM2_CONF", "/etc/sigsh/softhsm2.conf"));
}

/// Writes a secret as an operator does: root's, readable by the account's group.
pub fn secret(path: &str, text: &str) {
    fs::write(path, text).unwrap();
    chown(path, Some(0), Some(account().1)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap();
}

/// Writes a file that is the account's own, mode 0600.
pub fn account_file(path: &str, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    let (uid, gid) = account();
    chown(path, Some(uid), Some(gid)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// User and group id of the account.
pub fn account() -> (u32, u32) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with("signer:")).expect("no account");
    let mut words = line.split(':').skip(2).map(|word| word.parse().unwrap());
    (words.next().unwrap(), words.next().unwrap())
}

/// A command under the account, with an empty environment.
pub fn as_account(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "signer", "--regid", "signer", "--init-groups", "--"]).arg(program);
    command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    command
}

/// A session without sshd: what sshd would hand over is set by hand.
pub struct Session {
    pub command: Command,
}

impl Session {
    pub fn new(config: impl AsRef<OsStr>) -> Session {
        Session::of(env!("CARGO_BIN_EXE_sigsh"), config)
    }

    /// Another program in sigsh's place.
    pub fn of(program: &str, config: impl AsRef<OsStr>) -> Session {
        let installed = if program == env!("CARGO_BIN_EXE_sigsh") { "/usr/bin/sigsh" } else { program };
        let mut command = as_account(installed);
        command.arg("--config").arg(config);
        Session { command }
    }

    pub fn client(mut self, client: &str) -> Session {
        self.command.env("SSH_USER_AUTH", user_auth(client)).env("SSH_CONNECTION", "192.0.2.1 4000 192.0.2.2 22");
        self
    }

    pub fn request(mut self, request: &str) -> Session {
        if !request.is_empty() {
            self.command.env("SSH_ORIGINAL_COMMAND", request);
        }
        self
    }

    /// Runs it on this input.
    pub fn run(self, input: &[u8]) -> Outcome {
        finish(self.command, input)
    }

    /// Starts it with pipes at all three descriptors.
    pub fn start(mut self) -> Child {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// Feeds a command its input and waits for it.
pub fn finish(mut command: Command, input: &[u8]) -> Outcome {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    finish_child(child, input)
}

/// The same for a child that runs already.
pub fn finish_child(child: Child, input: &[u8]) -> Outcome {
    let began = Instant::now();
    let pid = child.id();
    let output = feed(child, input);
    let took = began.elapsed();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Outcome { code: output.status.code(), out: output.stdout, err, records: records(&format!("_PID={pid}")), took }
}

/// The same without a look at the journal.
pub fn feed(mut child: Child, input: &[u8]) -> Output {
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Who refuses does not read.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().unwrap()
    })
}

/// Several sessions at once: most of them wait for a timeout.
pub fn all_of<T: Copy + Send>(table: impl IntoIterator<Item = T>, run: impl Fn(T) + Sync) {
    let queue = Mutex::new(table.into_iter().collect::<Vec<_>>().into_iter());
    let next = || queue.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(row) = next() {
                    run(row);
                }
            });
        }
    });
}

/// Records of sigsh in the journal that match, oldest first.
pub fn records(matching: &str) -> Vec<Value> {
    succeed(Command::new("journalctl").arg("--sync"));
    let output = Command::new("journalctl").args(["-q", "-t", "sigsh", "-o", "json", "--all", matching]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Verifies a detached signature with gpgv and with sqv.
#[track_caller]
pub fn verify(key: &str, signature: &[u8], data: &[u8]) {
    let directory = scratch();
    let (sig, file) = (format!("{directory}/f.sig"), format!("{directory}/f"));
    fs::write(&sig, signature).unwrap();
    fs::write(&file, data).unwrap();
    verify_file(key, &sig, &file);
    fs::remove_dir_all(directory).unwrap();
}

/// The same for files.
#[track_caller]
pub fn verify_file(key: &str, signature: &str, file: &str) {
    let certificate = format!("/etc/sigsh/{key}.pgp");
    succeed(Command::new("gpgv").args(["--keyring", &certificate, signature, file]).env("GNUPGHOME", HOME));
    succeed(Command::new("sqv").args(["--keyring", &certificate, signature, file]));
}

/// What stands behind each such fence on a page, "```sh\n" for one.
pub fn blocks(page: &str, fence: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    text.split(fence).skip(1).map(|rest| rest.split_once("```").unwrap().0.to_owned()).collect()
}

/// A fresh directory, in memory.
pub fn scratch() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let path = format!("{HOME}/scratch{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    fs::create_dir_all(&path).unwrap();
    path
}

pub fn ssh_key(client: &str) -> String {
    format!("{HOME}/{client}")
}

/// The file that sshd would make for SSH_USER_AUTH.
pub fn user_auth(client: &str) -> String {
    format!("{HOME}/{client}.auth")
}

pub fn fingerprint(client: &str) -> String {
    let output = Command::new("ssh-keygen").args(["-l", "-f", &format!("{}.pub", ssh_key(client))]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
}

/// Runs a command that must succeed.
#[track_caller]
pub fn succeed(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:#?}");
    output
}

/// Waits, for at most a minute, until something is so.
#[track_caller]
pub fn patient(mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not become so");
        std::thread::sleep(Duration::from_millis(20));
    }
}
