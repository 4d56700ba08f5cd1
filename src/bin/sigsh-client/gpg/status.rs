//! What gpg tells a program that listens: status lines, and its version.

use sigsh::hash_state::{Form, HashAlgorithm};
use std::ffi::OsStr;
use std::fmt::{self, Display, Formatter};

/// The version of gpg whose answers these are.
const GNUPG: &str = "2.2.40";

/// A status line, with its end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Status<'a> {
    /// The certificate whose primary key has this fingerprint was found.
    KeyConsidered(&'a str),
    /// Hashing begins.
    BeginSigning(HashAlgorithm),
    /// There is a signature: only for one that was verified, since git asks for nothing else.
    SigCreated(Created<'a>),
    /// No secret key is called so.
    InvalidSigner(&'a OsStr),
    /// There is no signature.
    Failure(Cause),
    /// The secret keys of a listing were not found.
    NoneListed,
}

/// A signature that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Created<'a> {
    /// What it looks like.
    pub(crate) form: Form,
    /// The algorithm of the key (RFC 9580 §9.1).
    pub(crate) algorithm: u8,
    /// The hash.
    pub(crate) hash: HashAlgorithm,
    /// When, in seconds since 1970.
    pub(crate) time: u32,
    /// The fingerprint of the key that signed, in upper-case hexadecimal.
    pub(crate) fingerprint: &'a str,
}

/// Why there is no signature.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause {
    /// No such key.
    NoSecretKey,
    /// The output exists.
    FileExists,
    /// Anything else.
    General,
}

impl Cause {
    /// gpg-error.h: GPG_ERR_NO_SECKEY, GPG_ERR_EEXIST from gpg, GPG_ERR_GENERAL.
    fn code(self) -> u32 {
        match self {
            Cause::NoSecretKey => 17,
            Cause::FileExists => 2 << 24 | 1 << 15 | 35,
            Cause::General => 1,
        }
    }
}

impl Display for Status<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "[GNUPG:] ")?;
        match self {
            Status::KeyConsidered(fingerprint) => writeln!(f, "KEY_CONSIDERED {fingerprint} 0"),
            Status::BeginSigning(hash) => writeln!(f, "BEGIN_SIGNING H{}", number(*hash)),
            Status::SigCreated(Created { form, algorithm, hash, time, fingerprint }) => {
                let (letter, class) = match form {
                    Form::Binary => ('D', 0),
                    Form::Text => ('D', 1),
                    Form::Cleartext => ('C', 1),
                };
                writeln!(f, "SIG_CREATED {letter} {algorithm} {} {class:02x} {time} {fingerprint}", number(*hash))
            }
            Status::InvalidSigner(spec) => writeln!(f, "INV_SGNR 9 {}", escaped(spec)),
            Status::Failure(cause) => writeln!(f, "FAILURE sign {}", cause.code()),
            Status::NoneListed => writeln!(f, "ERROR keylist.getkey {}", Cause::NoSecretKey.code()),
        }
    }
}

/// RFC 9580 §9.5.
fn number(hash: HashAlgorithm) -> u8 {
    match hash {
        HashAlgorithm::Sha256 => 8,
        HashAlgorithm::Sha384 => 9,
        HashAlgorithm::Sha512 => 10,
    }
}

fn escaped(spec: &OsStr) -> String {
    let escape = |it: char| if it.is_ascii_control() || it == '%' { format!("%{:02X}", u32::from(it)) } else { it.to_string() };
    spec.to_string_lossy().chars().map(escape).collect()
}

/// What `--version` prints: programs read the first line.
pub(crate) fn version() -> String {
    let ours = env!("CARGO_PKG_VERSION");
    format!("gpg (GnuPG) {GNUPG}\nsigsh-client {ours}\nPubkey: RSA, ECDSA, EDDSA\nHash: SHA256, SHA384, SHA512\n")
}

#[cfg(test)]
mod tests {
    use super::{Cause, Created, Status, version};
    use crate::gpg::home::Home;
    use sigsh::hash_state::{Form, HashAlgorithm};
    use std::ffi::OsStr;

    #[test]
    fn status_lines_are_gpg_s() {
        let home = Home::with_key("ed25519");
        std::fs::write(home.path("f"), b"x\n").unwrap();
        let primary = home.fingerprint();
        assert!(home.run(&format!("--quick-add-key {primary} ed25519 sign")).status.success());
        let listing = home.gpg("--with-colons -K");
        let key = listing.lines().filter_map(|it| it.strip_prefix("fpr:::::::::")).next_back().unwrap().trim_end_matches(':');
        for (arguments, form, hash) in [
            ("-b", Form::Binary, HashAlgorithm::Sha512),
            ("-bat", Form::Text, HashAlgorithm::Sha384),
            ("--clearsign", Form::Cleartext, HashAlgorithm::Sha256),
        ] {
            let status = home.gpg(&format!("--status-fd 1 --digest-algo {} -o s --yes -u {primary} {arguments} f", hash.name()));
            let time = status.split_ascii_whitespace().rev().nth(1).unwrap().parse().unwrap();
            let signed = Created { form, algorithm: 22, hash, time, fingerprint: key };
            let ours = [Status::KeyConsidered(&primary), Status::BeginSigning(hash), Status::SigCreated(signed)];
            let ours = ours.map(|it| it.to_string());
            assert_eq!(ours.concat(), status, "{arguments}");
        }
        let nobody = "no%body\n";
        let ours = [Status::InvalidSigner(OsStr::new(nobody)), Status::Failure(Cause::NoSecretKey)].map(|it| it.to_string());
        assert_eq!(ours.concat(), home.gpg(&format!("--status-fd 1 -u '{nobody}' -b f")));
        let exists = home.gpg("--status-fd 1 -bo f f");
        assert!(exists.ends_with(&Status::Failure(Cause::FileExists).to_string()), "{exists}");
        assert_eq!(Status::Failure(Cause::General).to_string(), "[GNUPG:] FAILURE sign 1\n");
        assert_eq!(Status::NoneListed.to_string(), home.gpg("--status-fd 1 --with-colons -K nobody"));
    }

    #[test]
    fn the_version_is_read_by_those_that_read_gpg_s() {
        let (ours, gpg) = (version(), Home::empty().gpg("--version"));
        // debsign: the third word of the first line; gpgme, aptly and rpm: "gpg (GnuPG) ", then numbers with dots.
        let words = |text: &str| text.lines().next().unwrap().split(' ').map(str::to_string).collect::<Vec<_>>();
        assert_eq!(words(&ours)[..2], words(&gpg)[..2]);
        assert_eq!(words(&ours)[2].split('.').map(|it| it.parse::<u32>().unwrap()).collect::<Vec<_>>(), [2, 2, 40]);
    }
}
