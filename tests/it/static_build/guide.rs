//! README's commands for a root of its own, in a mount namespace: with a configuration, a state and an sshd that nobody else has.

use crate::tokens::Daemon;
use crate::tokens::p11kit::{Store, activated};
use crate::world::{
    PIN, account, blocks, field, fingerprint, finish, free_port, patient, records, scratch, secret, static_build, succeed, verify,
    world,
};
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

/// The host that the guide starts from, and what stands for systemd.
const AROUND: &str = r#"
set -eux
mkdir -p /run/sigsh-token
mount --bind "$TOKEN" /run/sigsh-token
for directory in /etc/sigsh /etc/ssh/sshd_config.d /var/lib/sigsh; do mount --bind "$HOST$directory" $directory; done
sigsh-admin ledger init
mount --bind "$STATIC/sigsh" /usr/bin/sigsh
sshd() { /usr/sbin/sshd -f "$HOST/sshd_config" "$@"; }
systemctl() { [ "$*" = 'reload ssh' ]; }
"#;

const START: &str = "exec /usr/sbin/sshd -D -e -f \"$HOST/sshd_config\"\n";

/// It signs, and goes on when the token's listener is made anew: what is bound is the directory.
#[test]
fn the_readme_locks_the_account_in() {
    let Some(programs) = static_build() else { return };
    world();
    let [block] = &blocks("README.md", "<!-- test: static -->\n```sh\n")[..] else {
        panic!("README has another number of such blocks")
    };
    let store = Store::read_only();
    let (token, socket) = activated(&store);
    let (host, port) = (scratch(), free_port());
    prepare(&host, port);

    let log = fs::File::create(format!("{host}/log")).unwrap();
    let mut script = Command::new("unshare");
    script.args(["--mount", "bash", "-c", &format!("{AROUND}{block}{START}")]);
    script.env("HOST", &host).env("STATIC", programs).env("TOKEN", socket.parent().unwrap()).stdout(Stdio::null()).stderr(log);
    let mut sshd = Daemon(script.spawn().unwrap());
    patient(|| TcpStream::connect(("127.0.0.1", port)).is_ok() || sshd.0.try_wait().unwrap().is_some());

    let sign = |name: &str| {
        let mut command = world().ssh_command("build1");
        command.args(["-p", &port.to_string(), &format!("sign --name {name}")]);
        let outcome = finish(command, b"data");
        let log = fs::read_to_string(format!("{host}/log")).unwrap();
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}\n{log}");
        verify("ed25519", &outcome.out, b"data");
        let record = records(&format!("SIGSH_NAME={name}")).pop().unwrap();
        assert_eq!((field(&record, "SIGSH_EVENT"), field(&record, "_EXE")), ("signed", "/srv/sigsh/usr/bin/sigsh"));
    };
    sign("guide-1");
    drop(token);
    let (_token, anew) = activated(&store);
    fs::rename(anew, &socket).unwrap();
    sign("guide-2");
}

/// What the guide finds in /etc and /var.
fn prepare(host: &str, port: u16) {
    for directory in ["etc/sigsh", "etc/ssh/sshd_config.d", "var/lib/sigsh"] {
        fs::create_dir_all(format!("{host}/{directory}")).unwrap();
    }
    let (uid, gid) = account();
    let state = format!("{host}/var/lib/sigsh/state");
    succeed(Command::new("install").args(["-d", "-o", &uid.to_string(), "-g", &gid.to_string(), "-m", "0700", &state]));
    for path in ["/etc/sigsh/authorized_keys", "/etc/sigsh/ed25519.pgp", "/etc/ssh/sshd_config.d/50-sigsh.conf"] {
        succeed(Command::new("cp").args(["-p", path, &format!("{host}{path}")]));
    }
    secret(&format!("{host}/etc/sigsh/token.pin"), PIN);
    let config = format!(
        "account = \"signer\"\n[token.hsm]\nserver = \"/run/sigsh-token/pkcs11\"\nuri = \"pkcs11:token=release\"\n\
         pin-file = \"/etc/sigsh/token.pin\"\n[key.ed25519]\ntoken = \"hsm\"\nuri = \"pkcs11:object=ed25519\"\n\
         certificate = \"/etc/sigsh/ed25519.pgp\"\n[client.build1]\nssh-keys = [\"{}\"]\nkeys = [\"ed25519\"]\n",
        fingerprint("build1")
    );
    secret(&format!("{host}/etc/sigsh/sigsh.toml"), &config);
    let key = format!("{host}/host_key");
    succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &key]));
    let settings =
        format!("ListenAddress 127.0.0.1:{port}\nHostKey {key}\nPidFile none\nUsePAM no\nInclude /etc/ssh/sshd_config.d/*.conf\n");
    fs::write(Path::new(host).join("sshd_config"), settings).unwrap();
}
