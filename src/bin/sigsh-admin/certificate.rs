//! `sigsh-admin certificate`.

use crate::{AdminError, account};
use clap::{Subcommand, ValueEnum};
use nix::sys::stat::Mode;
use openpgp::Cert;
use openpgp::crypto::{Signer, mpi};
use openpgp::packet::key::{PrimaryRole, PublicParts, UnspecifiedRole};
use openpgp::packet::signature::SignatureBuilder;
use openpgp::packet::{Key, UserID};
use openpgp::serialize::SerializeInto;
use openpgp::types::{Features, HashAlgorithm as Hash, KeyFlags, SignatureType};
use sequoia_openpgp as openpgp;
use sigsh::config::Config;
use sigsh::hash_state::HashAlgorithm;
use sigsh::openpgp::certificate::MAX_CERTIFICATE;
use sigsh::openpgp::public::{from_raw, to_sign};
use sigsh::openpgp::{OpenpgpError, SigningKey, Version};
use sigsh::token::Token;
use sigsh::trusted;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make the OpenPGP certificate of a key, signed by the token itself
    Create {
        /// The key's name in the configuration
        key: String,
        /// Whose it is: 'Name <mail>'
        #[arg(long, value_name = "TEXT")]
        user_id: String,
        /// How long it is valid, such as 10y; without it, for ever
        #[arg(long, value_name = "TIME", value_parser = lifetime)]
        expires: Option<Duration>,
        /// Version 4, which every verifier understands, or 6, that of RFC 9580
        #[arg(long, value_name = "VERSION", default_value = "v4")]
        openpgp: Openpgp,
    },
    /// Print the certificate
    Show {
        /// The key's name in the configuration
        key: String,
        /// ASCII armor instead of binary
        #[arg(long)]
        armor: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Openpgp {
    V4,
    V6,
}

impl From<Openpgp> for Version {
    fn from(openpgp: Openpgp) -> Version {
        match openpgp {
            Openpgp::V4 => Version::V4,
            Openpgp::V6 => Version::V6,
        }
    }
}

/// RFC 9580 §5.2.3.13 counts seconds in 32 bits, and none of them means for ever.
fn lifetime(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if (1..=u32::MAX.into()).contains(&time.as_secs()) => Ok(time),
        _ => Err("a certificate is valid for a time between \"1s\" and \"136y\", or without --expires for ever".to_owned()),
    }
}

pub(crate) fn run(command: &Command, config: &Config) -> Result<(), AdminError> {
    let (Command::Create { key, .. } | Command::Show { key, .. }) = command;
    let (name, key, token_config) = config.key(key).ok_or_else(|| AdminError::NoKey(key.clone()))?;
    match command {
        Command::Show { armor, .. } => {
            let certificate = SigningKey::read(&trusted::read(&key.certificate, MAX_CERTIFICATE)?, key.hash, SystemTime::now())?;
            let stdout = std::io::stdout().write_all(&certificate.export(*armor)?);
            stdout.map_err(|error| AdminError::File("standard output".into(), error))
        }
        Command::Create { user_id, expires, openpgp, .. } => {
            if key.certificate.exists() {
                return Err(AdminError::Exists(key.certificate.to_path_buf()));
            }
            let mut token = account::token(config, key, token_config)?;
            let public = token.open()?.pop().flatten().ok_or(AdminError::NoPublic)?;
            let now = SystemTime::now();
            let bytes = create(&mut token, public.packet((*openpgp).into(), now)?, key.hash, user_id, *expires, now)?;
            token.leave();
            token.end();
            // Only what a session would accept is written: a second try would find the file there.
            let made = SigningKey::read(&bytes, key.hash, now)?;
            write_new(&key.certificate, &bytes)?;
            println!("wrote {}", key.certificate.display());
            println!("key '{name}' is {} ({})", made.fingerprint(), made.user_id());
            println!("keep a copy: the token does not store the certificate, and its fingerprint cannot be made again");
            Ok(())
        }
    }
}

/// A self-signed certificate of one key that certifies itself and signs.
fn create(
    token: &mut Token,
    primary: Key<PublicParts, PrimaryRole>,
    hash: HashAlgorithm,
    user_id: &str,
    expires: Option<Duration>,
    now: SystemTime,
) -> Result<Vec<u8>, AdminError> {
    let failed = |error: openpgp::anyhow::Error| AdminError::Openpgp(OpenpgpError::Library(format!("{error:#}")));
    let mut signer = TokenSigner { token, hash, public: primary.clone().role_into_unspecified(), failure: None };
    let user_id = UserID::from(user_id);
    let signature = |kind| SignatureBuilder::new(kind).set_hash_algo(hash.into()).set_signature_creation_time(now);
    let about_key = |kind| {
        signature(kind)?
            .set_key_flags(KeyFlags::empty().set_certification().set_signing())?
            .set_features(Features::empty())?
            .set_preferred_hash_algorithms(vec![Hash::SHA512, Hash::SHA384, Hash::SHA256])?
            .set_key_validity_period(expires)
    };
    let (direct, binding) = match primary.version() {
        // RFC 9580 §10.1.1: in v6, what concerns the key stands in a signature of the key itself.
        6 => (Some(about_key(SignatureType::DirectKey)), signature(SignatureType::PositiveCertification)),
        _ => (None, about_key(SignatureType::PositiveCertification)),
    };
    let sign = || -> openpgp::Result<Vec<u8>> {
        let direct = direct.map(|direct| direct?.sign_direct_key(&mut signer, Some(&primary))).transpose()?;
        let binding = binding?.sign_userid_binding(&mut signer, Some(&primary), &user_id)?;
        let packets = [Some(primary.clone().into()), direct.map(Into::into), Some(user_id.into()), Some(binding.into())];
        Cert::from_packets(packets.into_iter().flatten())?.to_vec()
    };
    sign().map_err(|error| signer.failure.take().unwrap_or_else(|| failed(error)))
}

/// The token as Sequoia wants a signer to be.
struct TokenSigner<'a> {
    token: &'a mut Token,
    hash: HashAlgorithm,
    public: Key<PublicParts, UnspecifiedRole>,
    failure: Option<AdminError>,
}

impl Signer for TokenSigner<'_> {
    fn public(&self) -> &Key<PublicParts, UnspecifiedRole> {
        &self.public
    }

    fn sign(&mut self, hash: Hash, digest: &[u8]) -> openpgp::Result<mpi::Signature> {
        if hash != Hash::from(self.hash) {
            return Err(openpgp::anyhow::anyhow!("another hash than the key's"));
        }
        let (scheme, data) = to_sign(&self.public, self.hash, digest)?;
        let raw = self.token.sign(0, scheme, data).and_then(|()| self.token.signature()).map_err(|error| {
            let text = error.to_string();
            self.failure = Some(error.into());
            openpgp::anyhow::anyhow!(text)
        })?;
        Ok(from_raw(&self.public, &raw)?)
    }
}

/// Writes a file that must not exist: whole, or not at all.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), AdminError> {
    let failed = |error| AdminError::File(path.to_owned(), error);
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.write_all(bytes)?;
        nix::sys::stat::fchmod(&file, Mode::from_bits_truncate(0o644))?;
        file.sync_all()?;
        // A link, not a rename: it fails where the name is taken.
        std::fs::hard_link(&temporary, path)
    };
    let outcome = write().map_err(failed);
    let _ = std::fs::remove_file(&temporary);
    outcome
}
