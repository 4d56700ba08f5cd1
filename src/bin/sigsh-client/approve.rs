//! `approve`: a person looks at what a file is, and signs a text about it by their ssh key.

mod identity;
mod show;

use crate::error::{Error, say};
use crate::input::Input;
use crate::output::Target;
use crate::settings::{Key, Options, Place, Settings};
use crate::{evidence, program};
use base64ct::{Base64, Encoding};
use identity::Identity;
use sequoia_openpgp::serialize::SerializeInto;
pub(crate) use show::escaped;
use sigsh::config::demands::PlaceName;
use sigsh::config::values::{Name, Time};
use sigsh::openpgp::SigningKey;
use sigsh::request::Moment;
use sigsh::warrant::approval::{APPROVE, BREAK_GLASS, Matter, Purpose, text};
use sigsh::warrant::sshsig::SshSig;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long an approval holds when nobody says so: a working day, and in an emergency half of what a host bears.
const HOLDS: Duration = Duration::from_secs(8 * 60 * 60);
const HOLDS_IN_EMERGENCY: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, clap::Args)]
pub(crate) struct Approve {
    /// How long it holds; 8h if nobody says so, and 30m with --break-glass
    #[arg(long, value_name = "TIME", conflicts_with = "not_after", value_parser = |text: &str| Time::try_from(text.to_owned()))]
    expires: Option<Time>,
    /// Until when it holds, such as 2026-01-02T03:04:05Z
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    not_after: Option<Moment>,
    /// Who will ask for the signature: the client's name on the host
    #[arg(long, value_name = "CLIENT", value_parser = |text: &str| Name::try_from(text.to_owned()))]
    requester: Option<Name>,
    /// The host that may sign it, as it calls itself
    #[arg(long, value_name = "NAME", conflicts_with = "for_fleet", value_parser = |text: &str| PlaceName::try_from(text.to_owned()))]
    for_host: Option<PlaceName>,
    /// The hosts that may sign it, as they call themselves together
    #[arg(long, value_name = "NAME", value_parser = |text: &str| PlaceName::try_from(text.to_owned()))]
    for_fleet: Option<PlaceName>,
    /// Your ssh key
    #[arg(long, value_name = "KEYFILE")]
    identity: Option<PathBuf>,
    /// In an emergency: it stands in for endorsement and approvals, on one host
    #[arg(long, conflicts_with = "for_fleet")]
    break_glass: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Where the approval of a single file goes; - is standard output
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Replace approvals that are there already
    #[arg(short, long)]
    force: bool,
    /// What is approved
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// What is the same for all files.
struct Terms<'a> {
    purpose: Purpose,
    key: &'a Key,
    signing: &'a SigningKey,
    requester: Name,
    place: Place,
    not_after: Moment,
    holds: Duration,
    identity: Identity,
}

/// Shows each file, asks, and writes the approval.
///
/// # Errors
/// Any [`Error`]; what was approved before stays.
pub(crate) fn run(command: &Approve, options: &Options) -> Result<(), Error> {
    if command.output.is_some() && command.files.len() > 1 {
        return Err(Error::Usage("--output names one file, and there are several".to_owned()));
    }
    if command.files.iter().any(|file| file == Path::new("-")) {
        return Err(Error::Usage("an approval is of a file, and standard input is none".to_owned()));
    }
    if !options.hosts.is_empty() {
        return Err(Error::Usage("no host is asked for an approval: --for-host says where the file may be signed".to_owned()));
    }
    if !command.yes && !show::is_seen() {
        return Err(Error::Usage("nobody can be asked: this is no terminal; --yes approves".to_owned()));
    }
    let settings = Settings::put_together(options)?;
    let [key, ..] = settings.keys.as_slice() else { return Err(Error::NoCertificate) };
    if options.keys.len() > 1 {
        return Err(Error::Usage("an approval is for one key".to_owned()));
    }
    let (not_after, holds) = command.time(SystemTime::now())?;
    let terms = Terms {
        purpose: if command.break_glass { BREAK_GLASS } else { APPROVE },
        key,
        signing: &signing(key)?,
        requester: command.requester.clone().or_else(|| key.requester.clone()).ok_or(Error::NoRequester)?,
        place: command.place(key)?,
        not_after,
        holds,
        identity: Identity::read(command.identity.as_ref().or(settings.identity.as_ref()).ok_or(Error::NoIdentity)?)?,
    };
    let target = |file: &Path| match command.output.as_deref() {
        Some(path) if path == Path::new("-") => Target::Stdout,
        Some(path) => Target::File { path: path.to_owned(), force: command.force },
        None => {
            let path = evidence::approval(file, &terms.identity.person(), command.break_glass);
            Target::File { path, force: command.force }
        }
    };
    let targets = command.files.iter().map(|file| target(file)).collect::<Vec<_>>();
    targets.iter().try_for_each(Target::check)?;
    let inputs = command.files.iter().map(|file| Input::open(file)).collect::<Result<Vec<_>, _>>()?;
    crate::targets::distinct(&targets, &inputs)?;
    inputs.iter().zip(&targets).try_for_each(|(input, target)| terms.approve(input, target, command.yes))
}

impl Approve {
    /// Until when, and how long that is.
    fn time(&self, now: SystemTime) -> Result<(Moment, Duration), Error> {
        let default = if self.break_glass { HOLDS_IN_EMERGENCY } else { HOLDS };
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let until = self.not_after.unwrap_or(Moment(since + self.expires.map_or(default, |time| time.0).as_secs()));
        match until.0.checked_sub(since) {
            None | Some(0) => Err(Error::Usage(format!("{until} is over"))),
            Some(left) => Ok((until, Duration::from_secs(left))),
        }
    }

    /// Where, by option or by the key's table. An emergency is one host's.
    fn place(&self, key: &Key) -> Result<Place, Error> {
        let named = self.for_host.clone().map(Place::Host).or_else(|| self.for_fleet.clone().map(Place::Fleet));
        match named.or_else(|| key.place.clone()) {
            Some(Place::Fleet(_)) if self.break_glass => {
                Err(Error::Usage("--break-glass is for one host: name it by --for-host".to_owned()))
            }
            place => place.ok_or(Error::NoPlace),
        }
    }
}

/// The key that signs, as the host has it: of several, nobody could say which one is meant.
///
/// # Errors
/// [`Error::Setting`], [`Error::NoCertificate`].
pub(crate) fn signing(key: &Key) -> Result<SigningKey, Error> {
    let unclear = |why: String| Error::Setting("the pinned certificate", why);
    let export = key.certificate().and_then(|cert| cert.export_to_vec().ok()).ok_or(Error::NoCertificate)?;
    let signing = SigningKey::read(&export, key.hash, SystemTime::now()).map_err(|error| unclear(error.to_string()))?;
    match signing.can_be_guarded() {
        true => Ok(signing),
        false => Err(unclear("it has several signing keys, or one of version 6: nobody can approve what they sign".to_owned())),
    }
}

impl Terms<'_> {
    fn approve(&self, input: &Input, target: &Target, yes: bool) -> Result<(), Error> {
        // Read once: what is shown is what is signed, whatever becomes of the file.
        let (digest, _) = input.digest(self.key.hash)?;
        let fingerprint = self.signing.fingerprint();
        let matter = Matter { fingerprint: &fingerprint, size: input.length, digest: &digest, requester: &self.requester };
        show::show(&self.rows(input, matter));
        if !yes && !show::ask() {
            return Err(Error::NotApproved(show::escaped(&input.display())));
        }
        input.is_unchanged()?;
        let signature = self.sign(&text(self.purpose, matter, self.not_after, self.place.as_where()))?;
        target.write(format!("{}={}\n", self.not_after, Base64::encode_string(&signature)).as_bytes())?;
        if let Target::File { path, .. } = target {
            say(&format!("sigsh-client: wrote {}", show::escaped(path)));
        }
        Ok(())
    }

    /// What the approver sees.
    fn rows(&self, input: &Input, matter: Matter<'_>) -> Vec<(&'static str, String)> {
        let place = match &self.place {
            Place::Host(name) => ("host", name.to_string()),
            Place::Fleet(name) => ("fleet", name.to_string()),
        };
        let emergency =
            (self.purpose == BREAK_GLASS).then(|| ("break-glass", "stands in for endorsement and approvals".to_owned()));
        let key = self.key.name.as_ref().map(|name| ("key", name.to_string()));
        let rows = [
            Some(("file", show::escaped(&input.display()))),
            Some(("size", show::size(matter.size))),
            Some((matter.digest.algorithm.name(), hex::encode(&matter.digest.bytes))),
            key,
            Some(("fingerprint", matter.fingerprint.to_owned())),
            Some(("user id", self.signing.user_id().to_owned())),
            Some(("type", "0x00, its bytes as they are".to_owned())),
            Some(place),
            Some(("requester", matter.requester.to_string())),
            Some(("not after", format!("{} (in {})", self.not_after, humantime::format_duration(self.holds)))),
            Some(("approved by", self.identity.fingerprint())),
        ];
        emergency.into_iter().chain(rows.into_iter().flatten()).collect()
    }

    /// What ssh-keygen signs, as it has written it. It may ask for a passphrase, a PIN, a touch.
    fn sign(&self, text: &str) -> Result<Vec<u8>, Error> {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-Y", "sign", "-n", self.purpose.namespace, "-f"]).arg(&self.identity.path);
        let answer = program::run(&mut command, |give| give(text.as_bytes()))?;
        let wrong = |what: &str| Err(Error::Program("ssh-keygen".to_owned(), what.to_owned()));
        let Some(signature) = SshSig::parse(&answer).filter(|it| it.namespace == self.purpose.namespace.as_bytes()) else {
            return wrong("what it has written is no such signature");
        };
        if !self.identity.is(&signature.key) {
            return wrong("it has signed by another key");
        }
        match signature.verify(self.identity.key(), &signature.digest(text.as_bytes())) {
            Some(_) => Ok(answer),
            None => wrong("its signature is not good"),
        }
    }
}
