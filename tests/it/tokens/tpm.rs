//! A TPM of software (swtpm) behind a stand-in for the kernel's device (`tests/tokens/tpmrm.rs`), set up as docs/TPM.md says.

use super::p11kit::{listening, table};
use super::{Daemon, Key, Lab, suite, suite_by_both, table_of};
use crate::batch::{END, files, half_a_batch};
use crate::sandbox::{installed, misfits};
use crate::world::{account_file, blocks, patient, scratch, secret, succeed, world};
use sigsh::sandbox::Profile;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const PIN: &str = "a long PIN";
const MODULE: &str = "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so";

const GUIDE: &str = "docs/TPM.md";

/// A TPM that runs, and its device.
pub struct Tpm {
    _device: Daemon,
    chip: Daemon,
    directory: String,
    /// Below /dev, as the configuration has it.
    device: String,
}

impl Tpm {
    /// One of its own, with the keys of the guide: a copy of the first.
    pub fn new() -> Tpm {
        static FIRST: OnceLock<String> = OnceLock::new();
        let first = FIRST.get_or_init(|| {
            let tpm = Tpm::start(scratch(), false);
            for (name, text) in [("pin", PIN), ("so-pin", "a long SO PIN")] {
                fs::write(format!("{}/{name}", tpm.directory), text).unwrap();
            }
            let script = tpm.here(&blocks(GUIDE, "```sh\n")[0]).replace("/root/", &format!("{}/", tpm.directory));
            succeed(Command::new("sh").args(["-euc", &script]));
            succeed(tpm.tool("tpm2_shutdown").arg("--clear"));
            tpm.directory.clone()
        });
        Tpm::copy(first, false)
    }

    fn copy(first: &str, raw: bool) -> Tpm {
        let directory = scratch();
        succeed(Command::new("cp").args(["-a", &format!("{first}/chip"), &format!("{first}/store"), &directory]));
        Tpm::start(directory, raw)
    }

    /// `raw` has no resource manager.
    fn start(directory: String, raw: bool) -> Tpm {
        world();
        fs::create_dir_all(format!("{directory}/chip")).unwrap();
        let own = succeed(Command::new("mktemp").args(["-d", "/dev/shm/sigsh.XXXXXXXX"])).stdout;
        let own = String::from_utf8(own).unwrap();
        fs::set_permissions(own.trim(), fs::Permissions::from_mode(0o755)).unwrap();
        let (socket, device) = (format!("{directory}/socket"), format!("{}/tpmrm0", own.trim()));
        let server = format!("type=unixio,path={socket}");
        let mut chip = Command::new("swtpm");
        chip.args(["socket", "--tpm2", "--tpmstate", &format!("dir={directory}/chip"), "--server", &server]);
        let chip = Daemon(chip.args(["--flags", "not-need-init,startup-clear"]).stderr(Stdio::null()).spawn().unwrap());
        patient(|| Path::new(&socket).exists());
        fs::write(&device, b"").unwrap();
        fs::set_permissions(&device, fs::Permissions::from_mode(0o660)).unwrap();
        // As the rules of udev have it (Debian: tpm-udev).
        succeed(Command::new("chown").args(["tss:tss", &device]));
        let mut stand_in = Command::new(installed("tpmrm"));
        stand_in.args([&device, &socket]).args(raw.then_some("raw"));
        let stand_in = Daemon(stand_in.spawn().unwrap());
        patient(|| fs::read_to_string("/proc/mounts").unwrap().contains(&device));
        Tpm { _device: stand_in, chip, directory, device }
    }

    /// The guide's text, with the paths of this one.
    fn here(&self, text: &str) -> String {
        text.replace("/dev/tpmrm0", &self.device).replace("/etc/sigsh/tpm-store", &format!("{}/store", self.directory))
    }

    /// A program of tpm2-tools.
    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.env("TPM2TOOLS_TCTI", format!("device:{}", self.device));
        command
    }

    /// How many wrong PINs it has counted.
    fn failures(&self) -> String {
        let output = succeed(self.tool("tpm2_getcap").arg("properties-variable"));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().find_map(|line| line.strip_prefix("TPM2_PT_LOCKOUT_COUNTER: ")).unwrap().to_owned()
    }

    /// With these keys, which are in it already.
    pub fn lab(&self, name: &'static str, keys: &[&'static str]) -> Lab {
        Lab::new(name, self.here(&table_of(GUIDE)), PIN, keys.iter().map(|name| Key::named(name).present()).collect())
    }

    fn lock(&self) -> String {
        format!("{}/store/tpm2_pkcs11.sqlite3.lock", self.directory)
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.device).status();
        let _ = fs::remove_dir_all(Path::new(&self.device).parent().unwrap());
    }
}

/// A lab with its certificates made.
pub fn ready(tpm: &Tpm, name: &'static str) -> Lab {
    let lab = tpm.lab(name, &["rsa2048", "nistp256"]);
    secret(&lab.pin_file(), PIN);
    super::prepares(&lab, &lab.config(&[]));
    lab
}

#[test]
#[ignore = "a TPM: just tokens"]
fn tpm_passes() {
    let tpm = Tpm::new();
    suite(&tpm.lab("tpm", &["rsa2048", "nistp256"]));
    assert_eq!(tpm.failures(), "0x1");
}

/// The module in a process of another account, behind p11-kit: what a build without modules has.
#[test]
#[ignore = "a TPM: just tokens"]
fn tpm_behind_p11_kit_passes() {
    let tpm = Tpm::new();
    let (store, tcti) = (format!("{}/store", tpm.directory), format!("device:{}", tpm.device));
    succeed(Command::new("chgrp").args(["-R", "sigsh-token", &store]));
    let start = ["p11-kit", "remote", "--provider", MODULE, "pkcs11:token=release"].map(str::to_owned).into_iter();
    // As SupplementaryGroups=tss.
    let (_daemon, socket) = listening(&[("TPM2_PKCS11_STORE", &store), ("TPM2_PKCS11_TCTI", &tcti)], &["--groups", "tss"], start);
    let lab = tpm.lab("tpm-p11-kit", &["rsa2048", "nistp256"]);
    suite_by_both(Lab { table: table(&socket), ..lab }, "tpm-static");
}

/// Two token processes at one TPM.
#[test]
#[ignore = "a TPM: just tokens"]
fn a_batch_by_two_processes() {
    let tpm = Tpm::new();
    let mut lab = ready(&tpm, "tpm-two");
    lab.table += "\nsessions = 2\n";
    super::a_tar(&lab, &lab.config(&[]));
}

/// Where the store is the account's own, sigsh-admin makes keys, too.
#[test]
#[ignore = "a TPM: just tokens"]
fn key_generate_makes_keys_in_a_tpm() {
    const ALGORITHMS: [&str; 3] = ["rsa2048", "nistp256", "nistp384"];
    let tpm = Tpm::new();
    succeed(Command::new("chown").args(["-R", "signer", &format!("{}/store", tpm.directory)]));
    let mut lab = tpm.lab("tpm-generate", &[]);
    lab.keys = ALGORITHMS.map(|name| Key::new(name, &format!("pkcs11:object=own-{name}"), name).present()).into();
    secret(&lab.pin_file(), PIN);
    let config = lab.config(&[]);
    for algorithm in ALGORITHMS {
        succeed(lab.admin(&config).args(["key", "generate", algorithm, "--algorithm", algorithm]));
        // It has the module do what tpm2_ptool does, which leaves no lock either.
        account_file(&tpm.lock(), b"");
    }
    super::prepares(&lab, &config);
    super::every_form(&lab, &config);
}

#[test]
#[ignore = "a TPM: just tokens"]
fn a_locked_tpm_is_left_alone_until_it_is_unlocked() {
    let tpm = Tpm::new();
    let lab = ready(&tpm, "tpm-locked");
    let config = lab.config(&[]);
    let line = "the token does not accept its PIN";
    for (attempt, count) in [("one", "0x1"), ("two", "0x2"), ("three", "0x3")] {
        secret(&lab.pin_file(), attempt);
        lab.session(&config, "sign").run(b"artifact").fails(69, line, "failed", "the PIN is wrong");
        let again = lab.session(&config, "sign").run(b"artifact");
        again.fails(69, line, "failed", "it is not tried again");
        assert_eq!(tpm.failures(), count);
    }
    secret(&lab.pin_file(), PIN);
    let locked = lab.session(&config, "sign").run(b"artifact");
    locked.fails(69, "the token failed", "failed", "C_Login returned CKR_PIN_LOCKED");
    lab.session(&config, "sign").run(b"artifact").fails(69, line, "failed", "it is not tried again");
    succeed(tpm.tool("tpm2_dictionarylockout").arg("--clear-lockout"));
    succeed(Command::new("touch").arg(lab.pin_file()));
    lab.signs(&config);
}

/// With a batch under way, after the first signature.
#[test]
#[ignore = "a TPM: just tokens"]
fn a_tpm_that_vanishes_ends_the_batch() {
    let mut tpm = Tpm::new();
    let lab = ready(&tpm, "tpm-vanishes");
    let config = lab.config(&[]);
    let (running, rest) = half_a_batch(lab.session(&config, "sign-tar nistp256"));
    tpm.chip.0.kill().unwrap();
    tpm.chip.0.wait().unwrap();
    let outcome = running.end_with(&rest);
    assert_eq!(outcome.code, Some(69), "{outcome:#?}");
    assert_eq!(outcome.err.lines().next(), Some("sigsh: error: the token failed"), "{outcome:#?}");
}

/// Without the kernel's resource manager (/dev/tpm0) the objects of others may fill the TPM: an error, and no signature.
#[test]
#[ignore = "a TPM: just tokens"]
fn a_full_tpm_signs_nothing() {
    let tpm = Tpm::new();
    let lab = ready(&tpm, "tpm-full");
    succeed(tpm.tool("tpm2_shutdown").arg("--clear"));
    let raw = Tpm::copy(&tpm.directory, true);
    let lab = Lab { table: raw.lab("tpm-full", &[]).table, ..lab };
    let config = lab.config(&[]);
    lab.signs(&config);
    let mut filled = false;
    for _ in 0..4 {
        let mut command = raw.tool("tpm2_createprimary");
        filled |= !command.args(["-Q", "-G", "ecc"]).stderr(Stdio::null()).status().unwrap().success();
    }
    assert!(filled);
    lab.session(&config, "sign").run(b"artifact").fails(69, "the token failed", "failed", "C_Login returned CKR_");
    succeed(raw.tool("tpm2_flushcontext").arg("--transient-object"));
    secret(&lab.pin_file(), PIN);
    lab.signs(&config);
}

/// See `sandbox::every_row_is_needed`.
#[test]
#[ignore = "a TPM: just tokens"]
fn every_row_of_the_profile_is_needed() {
    let tpm = Tpm::new();
    let lab = ready(&tpm, "tpm-rows");
    let config = lab.config(&[]);
    let archive = [files(1), END.to_vec()].concat();
    let single = ["sign rsa2048", "sign nistp256"].map(|request| (lab.session(&config, request), &b"file"[..]));
    let batch = (lab.session(&config, "sign-tar rsa2048 nistp256"), archive.as_slice());
    assert_eq!(misfits(Profile::Tpm, single.into_iter().chain([batch]).collect()), [""; 0]);
}

/// The lock that tpm2_ptool has removed.
#[test]
#[ignore = "a TPM: just tokens"]
fn a_missing_lock_is_named() {
    let tpm = Tpm::new();
    let lab = ready(&tpm, "tpm-lock");
    let lock = tpm.lock();
    fs::remove_file(&lock).unwrap();
    let outcome = lab.session(&lab.config(&[]), "sign").run(b"artifact");
    outcome.fails(78, "sigsh is not set up properly on this host", "refused", &format!("cannot open {lock} for a sandbox rule"));
}
