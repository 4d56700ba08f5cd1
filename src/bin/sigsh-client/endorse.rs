//! `endorse`: a build says that it has made a file, by the ssh key, the OpenPGP key or the nonce that an operator has given it.

mod grant;

use crate::error::Error;
use crate::evidence;
use crate::gpg::real;
use crate::input::{Input, read_at_most};
use crate::output::Target;
use crate::program;
use crate::settings::{self, Options};
use crate::{open, targets};
use grant::Grant;
use sequoia_openpgp::KeyHandle;
use sigsh::hash_state::{Form, HashAlgorithm, HashState, Wanted};
use sigsh::openpgp::{BadSignature, Detached, Pinned};
use sigsh::warrant::sshsig::{SshSig, plain_key};
use ssh_key::Certificate;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use zeroize::Zeroizing;

/// What a build's ssh key signs by.
const NAMESPACE: &str = "artifact@sigsh";

/// The longest grant in bytes.
const MAX_GRANT: u64 = 4096;

#[derive(Debug, clap::Args)]
pub(crate) struct Endorse {
    #[command(flatten)]
    by: By,
    /// Where the endorsement of a single file goes; - is standard output
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Replace endorsements that are there already
    #[arg(short, long)]
    force: bool,
    /// What the build has made; - is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// What an operator has given to the build.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct By {
    /// A certificate; its ssh key lies beside it, or in the agent
    #[arg(long, value_name = "CERTIFICATE")]
    ssh: Option<PathBuf>,
    /// An OpenPGP key in the keyring of gpg, and a certification in there
    #[arg(long, value_name = "USERID")]
    openpgp: Option<String>,
    /// What 'sigsh-admin grant mac' has printed; - is standard input
    #[arg(long, value_name = "GRANT")]
    mac: Option<PathBuf>,
}

/// Endorses all files, or none.
///
/// # Errors
/// Any [`Error`].
pub(crate) fn run(command: &Endorse, options: &Options) -> Result<(), Error> {
    let hash = settings::hash(options)?;
    if command.output.is_some() && command.files.len() > 1 {
        return Err(Error::Usage("--output names one file, and there are several".to_owned()));
    }
    let target = |file: &PathBuf| match command.output.as_deref() {
        Some(path) if path == Path::new("-") => Target::Stdout,
        None if file == Path::new("-") => Target::Stdout,
        path => Target::File { path: path.map_or_else(|| evidence::endorsement(file), Path::to_owned), force: command.force },
    };
    let targets = command.files.iter().map(target).collect::<Vec<_>>();
    targets.iter().try_for_each(Target::check)?;
    let granted = command.by.mac.as_deref().map(granted).transpose()?;
    let grant = granted.as_ref().map(|(path, text)| {
        let grant = Grant::parse(text, SystemTime::now());
        grant.map_err(|why| Error::Evidence(path.to_path_buf(), why.to_owned()))
    });
    let grant = grant.transpose()?;
    let inputs = command.files.iter().map(|file| open(file)).collect::<Result<Vec<_>, _>>()?;
    targets::distinct(&targets, &inputs)?;
    let endorse = |input: &Input| {
        let bytes = match (&command.by, &grant) {
            (_, Some(grant)) => mac(grant, hash, input),
            (By { ssh: Some(certificate), .. }, _) => ssh(certificate, hash, input),
            (By { openpgp, .. }, _) => openpgp_by(openpgp.as_deref().unwrap_or_default(), options, hash, input),
        }?;
        input.is_unchanged().map(|()| bytes)
    };
    let endorsements = inputs.iter().map(endorse).collect::<Result<Vec<_>, _>>()?;
    targets.iter().zip(endorsements).try_for_each(|(target, bytes)| target.write(&bytes))
}

/// Reads what was granted. It is a secret.
fn granted(path: &Path) -> Result<(&Path, Zeroizing<Vec<u8>>), Error> {
    let failed = |error: io::Error| Error::Input(path.to_owned(), error);
    let bytes = match path == Path::new("-") {
        true => read_at_most(&mut io::stdin(), MAX_GRANT),
        false => File::open(path).and_then(|mut file| read_at_most(&mut file, MAX_GRANT)),
    };
    Ok((path, Zeroizing::new(bytes.map_err(failed)?)))
}

fn mac(grant: &Grant<'_>, hash: HashAlgorithm, input: &Input) -> Result<Vec<u8>, Error> {
    let (digest, _) = input.digest(hash)?;
    grant.endorse(input.length, &digest).ok_or_else(|| Error::Io("HMAC", io::ErrorKind::Other.into()))
}

/// Has a program sign an input, and hashes the very bytes that it gets.
fn signed(command: &mut Command, hash: HashAlgorithm, input: &Input) -> Result<(Vec<u8>, HashState), Error> {
    let mut state = HashState::new(hash);
    let answer = program::run(command, |give| {
        input.read(|bytes| {
            state.update(bytes);
            give(bytes)
        })
    })?;
    Ok((answer, state))
}

fn ssh(certificate: &Path, hash: HashAlgorithm, input: &Input) -> Result<Vec<u8>, Error> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-Y", "sign", "-n", NAMESPACE]);
    match hash {
        // Its own default; who is older than OpenSSH 8.9 has no such option.
        HashAlgorithm::Sha512 => {}
        HashAlgorithm::Sha256 => drop(command.args(["-O", "hashalg=sha256"])),
        HashAlgorithm::Sha384 => return Err(Error::Usage("no ssh key endorses by sha384: use --openpgp or --mac".to_owned())),
    }
    // A passphrase is nobody's to type into a build.
    command.env("SSH_ASKPASS_REQUIRE", "force").env("SSH_ASKPASS", "false").arg("-f").arg(certificate);
    let (answer, state) = signed(&mut command, hash, input)?;
    let wrong = |what: &str| Err(Error::Program("ssh-keygen".to_owned(), what.to_owned()));
    let Some(signature) = SshSig::parse(&answer).filter(|it| it.namespace == NAMESPACE.as_bytes() && it.hash == hash) else {
        return wrong("what it has written is no such signature");
    };
    if plain_key(&signature.key).is_some() {
        let why = "this key has no certificate: name the …-cert.pub that an operator has made of it";
        return Err(Error::Evidence(certificate.to_owned(), why.to_owned()));
    }
    let Ok(permit) = Certificate::from_bytes(&signature.key) else {
        return wrong("its certificate is of no known kind, or never expires");
    };
    match signature.verify(permit.public_key(), &state.finish()) {
        Some(_) => Ok(answer),
        None => wrong("its signature is not good"),
    }
}

/// The build's certificate, and its signature.
fn openpgp_by(user_id: &str, options: &Options, hash: HashAlgorithm, input: &Input) -> Result<Vec<u8>, Error> {
    let failed = |what: String| Error::Program("gpg".to_owned(), what);
    let bad = |BadSignature(why)| failed(format!("its signature is not good: {why}"));
    let gpg = real::find(OsStr::new("gpg"), options).ok_or_else(|| failed("there is none in PATH".to_owned()))?;
    let quiet = ["--batch", "--no-tty", "--quiet", "--no-armor", "--pinentry-mode", "error"];
    let mut sign = Command::new(&gpg);
    sign.args(quiet).args(["--digest-algo", &hash.name().to_uppercase(), "--local-user", user_id, "--detach-sign"]);
    let (signature, state) = signed(&mut sign, hash, input)?;
    let detached = Detached::read(&signature).map_err(bad)?;
    if detached.wanted(Form::Binary).map_err(bad)? != Wanted::plain(hash) {
        return Err(failed("its signature is of another kind".to_owned()));
    }
    let issuers = detached.packet().get_issuers();
    let issuer = issuers.first().map(KeyHandle::to_hex).ok_or_else(|| failed("its signature names nobody".to_owned()))?;
    let certificate = program::run(Command::new(&gpg).args(quiet).args(["--export", &issuer]), |_| Ok(()))?;
    let pinned = Pinned::read(&certificate).map_err(|error| failed(error.to_string()))?;
    detached.verify(&pinned, state, SystemTime::now()).map_err(bad)?;
    Ok([certificate, signature].concat())
}
