//! Source packages and uploads: dpkg-buildpackage, debsign, debsigs.

use super::fixture::{Host, Ran, run};

const CONTROL: &str = "Source: tiny\nSection: misc\nPriority: optional\nMaintainer: Test <test@example.org>\nStandards-Version: 4.6.2\n\
    Rules-Requires-Root: no\n\nPackage: tiny\nArchitecture: all\nDescription: tiny\n Nothing.\n";
const CHANGELOG: &str = "tiny (1) unstable; urgency=low\n\n  * First.\n\n \
    -- Test <test@example.org>  Thu, 01 Jan 2026 00:00:00 +0000\n";
const RULES: &str = "#!/usr/bin/make -f\nclean build build-arch build-indep binary-arch:\nbinary binary-indep:\n\
    \tmkdir -p debian/tiny/DEBIAN\n\tdpkg-gencontrol -ptiny -Pdebian/tiny\n\tdpkg-deb --root-owner-group --build debian/tiny ..\n";
/// All that is signed of a build, in the order of dscverify's reading.
const SIGNED: [&str; 3] = ["changes", "dsc", "buildinfo"];

/// Builds a source and a binary package out of nothing but dpkg-dev, with these options.
pub fn build(host: &Host, options: &[&str]) -> Ran {
    host.write("tiny/debian/control", CONTROL);
    host.write("tiny/debian/changelog", CHANGELOG);
    host.write("tiny/debian/source/format", "3.0 (native)\n");
    host.executable("tiny/debian/rules", RULES);
    let mut command = host.signer("dpkg-buildpackage");
    // It signs nothing, and says so to nobody, where there is neither this directory nor ~/.gnupg. What is in it is all the same.
    command.env("GNUPGHOME", format!("{}/signer", host.home));
    run(command.arg("--no-check-builddeps").args(options).current_dir(format!("{}/tiny", host.home)))
}

/// The file of this build with this ending.
fn file(host: &Host, ending: &str) -> String {
    let names = std::fs::read_dir(&host.home).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.into_iter().find(|name| name.ends_with(&format!(".{ending}"))).unwrap_or_else(|| panic!("no .{ending}"))
}

fn dscverify(host: &Host) -> Ran {
    let arguments = ["--no-default-keyrings", "--keyring", &host.front.certificate, &file(host, "changes")];
    run(host.anyone("dscverify").args(arguments))
}

#[track_caller]
fn all_signed(host: &Host) {
    let text = dscverify(host).succeeds();
    assert!(text.contains("All files validated successfully."), "{text}");
    assert_eq!(text.matches("Good signature found").count(), SIGNED.len(), "{text}");
}

#[test]
fn dscverify_accepts_what_dpkg_buildpackage_signed() {
    for key in ["rsa4096", "ed25519"] {
        let host = Host::new(key);
        build(&host, &[&format!("--sign-key={}", host.front.fingerprint)]).succeeds();
        all_signed(&host);
        host.has_no_keyring();
    }
}

#[test]
fn dpkg_buildpackage_fails_unsigned() {
    let host = Host::refused("rsa4096");
    let ran = build(&host, &[&format!("--sign-key={}", host.front.fingerprint)]);
    ran.fails(2, "dpkg-buildpackage: error: failed to sign tiny_1.dsc file");
    dscverify(&host).fails(1, "Validation FAILED!!");
}

#[test]
fn dscverify_accepts_what_debsign_signed() {
    let host = Host::new("rsa4096");
    build(&host, &["-us", "-uc", "-ui"]).succeeds();
    dscverify(&host).fails(1, "Validation FAILED!!");
    let changes = file(&host, "changes");
    let text = host.signs("debsign", &[&format!("-k{}", host.front.fingerprint), &changes]);
    assert!(text.contains("Successfully signed dsc, buildinfo, changes files"), "{text}");
    all_signed(&host);
    // Again, over a file that is signed already; and by the name alone.
    host.signs("debsign", &["--re-sign", &format!("-k{}", host.front.user_id), &changes]);
    all_signed(&host);
    // The program is named to it, as its manual has it.
    let (gpg, key) = (format!("-p{}/gpg", host.front.directory), format!("-k{}", host.front.fingerprint));
    let arguments = [&gpg, "--re-sign", &key, &changes];
    run(host.configured("debsign").args(arguments)).succeeds();
    all_signed(&host);
    host.has_no_keyring();
}

#[test]
fn debsign_leaves_the_upload_as_it_was() {
    let host = Host::refused("rsa4096");
    build(&host, &["-us", "-uc", "-ui"]).succeeds();
    let before = SIGNED.map(|ending| host.read(&file(&host, ending)));
    let key = format!("-k{}", host.front.fingerprint);
    run(host.signer("debsign").args([&key, &file(&host, "changes")])).fails(2, "debsign: gpg error occurred!  Aborting....");
    assert_eq!(SIGNED.map(|ending| host.read(&file(&host, ending))), before);
}

/// debsig-verify's policy: one signature, of this origin.
fn debsig_verify(host: &Host, package: &str) -> Ran {
    let key = &host.front.fingerprint;
    let required = format!("<Required Type=\"origin\" File=\"pub.gpg\" id=\"{key}\"/>");
    let policy = format!(
        "<?xml version=\"1.0\"?>\n<!DOCTYPE Policy SYSTEM \"https://www.debian.org/debsig/1.0/policy.dtd\">\n\
         <Policy xmlns=\"https://www.debian.org/debsig/1.0/\"><Origin Name=\"Test\" id=\"{key}\" Description=\"Test\"/>\
         <Selection>{required}</Selection><Verification MinOptional=\"0\">{required}</Verification></Policy>\n"
    );
    host.write(&format!("policies/{key}/test.pol"), policy);
    host.write(&format!("keyrings/{key}/pub.gpg"), std::fs::read(&host.front.certificate).unwrap());
    run(host.anyone("debsig-verify").args(["--policies-dir", "policies", "--keyrings-dir", "keyrings", package]))
}

#[test]
fn debsig_verify_accepts_what_debsigs_signed() {
    let host = Host::new("rsa4096");
    build(&host, &["-us", "-uc", "-ui", "-b"]).succeeds();
    debsig_verify(&host, "tiny_1_all.deb").fails(10, "This deb might not be signed");
    host.signs("debsigs", &["--sign=origin", "--default-key", &host.front.fingerprint, "tiny_1_all.deb"]);
    let text = debsig_verify(&host, "tiny_1_all.deb").succeeds();
    assert!(text.contains("debsig: Verified package from 'Test' (Test)"), "{text}");
    host.verifies("dpkg-deb", &["--contents", "tiny_1_all.deb"]);
    host.has_no_keyring();
}

#[test]
fn debsigs_leaves_the_package_as_it_was() {
    let host = Host::refused("rsa4096");
    build(&host, &["-us", "-uc", "-ui", "-b"]).succeeds();
    let before = host.read("tiny_1_all.deb");
    let ran = run(host.signer("debsigs").args(["--sign=origin", "--default-key", &host.front.fingerprint, "tiny_1_all.deb"]));
    ran.fails(2, "Program gpg (");
    assert!(host.read("tiny_1_all.deb") == before);
}
