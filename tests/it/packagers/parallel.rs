//! Many at once, as a build system with a job on every core has it.

use super::fixture::{Host, run};

const CALLS: usize = 200;

#[test]
fn two_hundred_calls_at_once_all_succeed() {
    let host = Host::new("ed25519");
    for call in 0..CALLS {
        host.write(&format!("{call}"), format!("file {call}\n"));
    }
    let calls = (0..CALLS).map(|call| {
        let mut command = host.signer("gpg");
        command.args(["--batch", "--local-user", &host.front.fingerprint, "--detach-sign", &call.to_string()]);
        std::thread::spawn(move || run(&mut command))
    });
    for call in calls.collect::<Vec<_>>() {
        call.join().unwrap().succeeds();
    }
    for call in 0..CALLS {
        host.gpgv(&format!("{call}.sig"), &call.to_string());
    }
}
