//! A tar of files in, a tar of their signatures out.

use crate::world::{Outcome, finish, scratch, verify_file, world};
use std::fs;
use std::process::Command;

/// The line of README, as a shell runs it: packs what is in the directory, has it signed, unpacks the signatures beside it.
fn pipeline(directory: &str, pack: &str, request: &str, unpack: &str) -> Outcome {
    let ssh = world().ssh_command("build1");
    let words = std::iter::once(ssh.get_program()).chain(ssh.get_args()).map(|word| word.to_str().unwrap()).collect::<Vec<_>>();
    let line = format!("set -o pipefail; {pack} | {} {request} | {unpack}", words.join(" "));
    let mut command = Command::new("bash");
    finish(
        {
            command.args(["-c", &line]).current_dir(directory);
            command
        },
        b"",
    )
}

#[test]
fn a_directory_is_signed_by_nothing_but_tar_and_ssh() {
    world();
    let directory = scratch();
    for number in 0..20 {
        fs::write(format!("{directory}/package-{number}.rpm"), vec![number; 1500 * usize::from(number)]).unwrap();
    }
    let outcome = pipeline(&directory, "tar -c *.rpm", "sign-tar ed25519", "tar -x");
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
    for number in 0..20 {
        let file = format!("{directory}/package-{number}.rpm");
        verify_file("ed25519", &format!("{file}.sig"), &file);
    }
}
