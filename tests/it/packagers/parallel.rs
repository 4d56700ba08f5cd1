//! Many at once, as a build system with a job on every core has it.

use super::door::Door;
use super::fixture::{Host, run};

/// So many calls, all begun before the first has ended; each signature is its own file's.
fn all_succeed(host: &Host, calls: usize) {
    for call in 0..calls {
        host.write(&format!("{call}"), format!("file {call}\n"));
    }
    let started = (0..calls).map(|call| {
        let mut command = host.signer("sigsh-gpg");
        command.args(["--batch", "--local-user", &host.front.fingerprint, "--detach-sign", &call.to_string()]);
        std::thread::spawn(move || run(&mut command))
    });
    for call in started.collect::<Vec<_>>() {
        call.join().unwrap().succeeds();
    }
    for call in 0..calls {
        host.gpgv(&format!("{call}.sig"), &call.to_string());
    }
}

#[test]
fn two_hundred_calls_at_once_all_succeed() {
    all_succeed(&Host::new("ed25519"), 200);
}

/// Debian's own settings: of a connection each, the eleventh that is still logging in may be dropped; of one for all, the eleventh
/// signature at once is refused.
#[test]
fn sixty_four_calls_succeed_where_sshd_takes_ten() {
    let door = Door::shipped(2281, &["MaxStartups 10:30:100", "MaxSessions 10"]);
    for more in ["", "reuse = false\n", "parallel = 64\n"] {
        let host = Host::new("ed25519");
        door.lead(&host);
        host.front.change("log =", &format!("{more}log ="));
        all_succeed(&host, 64);
    }
}
