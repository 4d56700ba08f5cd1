//! The gpg front end: programs that call gpg get their signatures from a sigsh host.
//!
//! [`call`] says what a command line asks, by [`words`] and [`options`]; [`spec`] whose key it means, by what [`facts`] tells of a
//! certificate; [`listing`] and [`status`] write what gpg would write; [`real`] is the gpg that does everything else. [`streams`] are the
//! descriptors that the caller has opened.

pub(crate) mod call;
mod facts;
#[cfg(test)]
mod home;
pub(crate) mod listing;
mod options;
pub(crate) mod real;
pub(crate) mod spec;
pub(crate) mod status;
mod streams;
mod words;

use crate::error::{Error, clean};
use crate::log::Log;
use crate::output::Target;
use crate::settings::{Key, Options, Settings};
use crate::sign::{self, Signed};
use call::{Call, CallError, Export, Form, Half, List, Sign, Stream};
use facts::now;
use listing::Certificate;
use spec::Names;
use status::{Cause, Status};
use std::ffi::{OsStr, OsString};
use std::io;
use std::process::ExitCode;
use streams::Streams;

/// gpg's exit code for whatever went wrong.
const FAILED: u8 = 2;

/// Why gpg, as which we stand here, fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GpgError {
    /// It would not have begun.
    #[error(transparent)]
    Call(#[from] CallError),
    /// There is no signature.
    #[error(transparent)]
    Sign(#[from] Error),
    #[error("the file descriptor {0} is not open")]
    Stream(i32),
    #[error("{0}: {1}")]
    Write(String, io::Error),
    #[error("no key here is called '{0}', and there is no other gpg to ask")]
    NoKey(String),
    #[error("sigsh makes detached and cleartext signatures only, not signed or encrypted messages")]
    Inline,
    #[error("a signature by sigsh cannot have what --{0} asks for")]
    Unmet(&'static str),
    #[error("several keys are to sign at once, and an output takes one signature")]
    SeveralKeys,
    #[error("several files are to be signed as one")]
    SeveralFiles,
    #[error("cannot run {0}: {1}")]
    Real(String, io::Error),
    #[error("there is no other gpg for this")]
    NoReal,
}

impl GpgError {
    fn hint(&self) -> Option<String> {
        match self {
            GpgError::Sign(Error::Exists(_)) => Some("--yes replaces it".to_owned()),
            GpgError::Sign(error) => error.hint(),
            GpgError::NoReal | GpgError::NoKey(_) => Some("install gnupg, or name it by gpg = \"…\" in client.toml".to_owned()),
            _ => None,
        }
    }

    fn cause(&self) -> Cause {
        match self {
            GpgError::Sign(Error::Exists(_)) => Cause::FileExists,
            GpgError::NoKey(_) => Cause::NoSecretKey,
            _ => Cause::General,
        }
    }
}

/// Does what gpg would do when it is called `name` with these arguments.
pub(crate) fn run(name: &OsStr, arguments: &[OsString]) -> ExitCode {
    let mut front =
        Front { name: name.to_owned(), arguments: arguments.to_vec(), streams: Streams::default(), log: Log::default() };
    match front.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let line = clean(&error.to_string());
            front.streams.say(&format!("sigsh-gpg: error: {line}"));
            if let Some(hint) = error.hint() {
                front.streams.say(&format!("sigsh-gpg: hint: {}", clean(&hint)));
            }
            front.log.error(&line);
            ExitCode::from(FAILED)
        }
    }
}

/// One call.
struct Front {
    name: OsString,
    arguments: Vec<OsString>,
    streams: Streams,
    log: Log,
}

/// A key of ours, and what gpg would know of it.
struct Ours<'a> {
    key: &'a Key,
    certificate: Certificate,
    names: Names,
}

impl Front {
    fn run(&mut self) -> Result<(), GpgError> {
        match Call::parse(&self.arguments)? {
            Call::Version => self.streams.write(&Stream::Standard, status::version().as_bytes()),
            Call::Other => self.pass_on(None),
            Call::Inline(users) => self.inline(&users),
            Call::Sign(call) => self.sign(&call),
            Call::List(call) => self.list(&call),
            Call::Export(call) => self.export(&call),
        }
    }

    fn settings(&mut self) -> Result<Settings, GpgError> {
        let settings = Settings::load(&Options::default())?;
        self.log = settings.log.clone();
        Ok(settings)
    }

    /// Has the real gpg do it, and never comes back when there is one; otherwise the answer is no, for want of `key`.
    fn pass_on(&mut self, key: Option<&OsStr>) -> Result<(), GpgError> {
        let Some(gpg) = real::find(&self.name) else {
            return Err(key.map_or(GpgError::NoReal, |key| GpgError::NoKey(key.to_string_lossy().into_owned())));
        };
        self.log.info(&format!("passed on to {}", gpg.display()));
        Err(GpgError::Real(gpg.display().to_string(), real::become_it(&gpg, &self.arguments)))
    }

    fn inline(&mut self, users: &[OsString]) -> Result<(), GpgError> {
        let settings = self.settings()?;
        let keys = ours(&settings.keys);
        let stranger = users.iter().find(|user| !keys.iter().any(|ours| ours.names.matches(user)));
        stranger.map_or(Err(GpgError::Inline), |user| self.pass_on(Some(user)))
    }

    fn sign(&mut self, call: &Sign) -> Result<(), GpgError> {
        // What the caller has opened is taken before anything of ours is opened.
        self.streams = Streams::of(&call.around, [&call.output].into_iter().chain(&call.inputs))?;
        let outcome = self.make(call);
        if let Err(error) = &outcome {
            if let (GpgError::NoKey(_), Some(user)) = (error, call.users.first()) {
                self.streams.status(&Status::InvalidSigner(user))?;
            }
            self.streams.status(&Status::Failure(error.cause()))?;
        }
        outcome
    }

    fn make(&mut self, call: &Sign) -> Result<(), GpgError> {
        let settings = self.settings()?;
        let keys = ours(&settings.keys);
        let mut chosen: Vec<&Ours<'_>> = Vec::new();
        for user in &call.users {
            let Some(ours) = keys.iter().find(|ours| ours.names.matches(user)) else { return self.pass_on(Some(user)) };
            if !chosen.iter().any(|other| std::ptr::eq(*other, ours)) {
                chosen.push(ours);
            }
        }
        let ours = match chosen.as_slice() {
            [] => keys.first().ok_or(Error::NoCertificate)?,
            [ours] => ours,
            _ => return Err(GpgError::SeveralKeys),
        };
        if let Some(option) = call.unmet.first() {
            return Err(GpgError::Unmet(option));
        }
        let [input] = call.inputs.as_slice() else { return Err(GpgError::SeveralFiles) };
        let (form, armor) = match call.form {
            Form::Detached { text: false, armor } => (sigsh::hash_state::Form::Binary, armor),
            Form::Detached { text: true, armor } => (sigsh::hash_state::Form::Text, armor),
            Form::Cleartext => (sigsh::hash_state::Form::Cleartext, true),
        };
        let target = target(&call.output, call.yes);
        target.iter().try_for_each(Target::check)?;
        let mut artifact = self.streams.input(input)?;
        if call.around.passphrase == Some(0) && *input == Stream::Standard {
            artifact.skip_line()?;
        }
        self.streams.status(&Status::KeyConsidered(&ours.certificate.primary.fingerprint))?;
        self.streams.status(&Status::BeginSigning(ours.key.hash))?;
        if call.dry_run {
            return Ok(());
        }
        let mut made = None;
        let key = std::slice::from_ref(ours.key);
        sign::sign(&settings, key, std::slice::from_ref(&artifact), form, |_, _, signed| {
            made = Some(signed);
            Ok(())
        })?;
        let signed = made.ok_or_else(|| Error::Short("the host".to_owned()))?;
        let bytes = signed.bytes(armor)?;
        match &target {
            Some(target) => target.write(&bytes)?,
            None => self.streams.write(&call.output, &bytes)?,
        }
        self.log.info(&format!("{} signed by {}", artifact.display().display(), signed.good.key));
        self.created(call.form, &signed)
    }

    /// Only now, when the signature is verified and written, git may know of it.
    fn created(&mut self, form: Form, signed: &Signed) -> Result<(), GpgError> {
        let time = signed.good.created.duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        self.streams.status(&Status::SigCreated(status::Signed {
            form,
            algorithm: signed.detached.packet().pk_algo().into(),
            hash: signed.detached.algorithm(),
            time: u32::try_from(time).unwrap_or(u32::MAX),
            fingerprint: &signed.good.key,
        }))
    }

    fn list(&mut self, call: &List) -> Result<(), GpgError> {
        self.streams = Streams::of(&call.around, [])?;
        let settings = self.settings()?;
        let keys = ours(&settings.keys);
        if let Some(stranger) = call.specs.iter().find(|spec| !keys.iter().any(|ours| ours.names.matches(spec))) {
            let outcome = self.pass_on(Some(stranger));
            self.streams.status(&Status::NoneListed)?;
            return outcome;
        }
        // All that are there: those of a keyring, too, if there is one. A build server needs none.
        if call.half != Half::Secret && call.specs.is_empty() && real::has_keyring() {
            return self.pass_on(None);
        }
        let asked = |ours: &&Ours<'_>| call.specs.is_empty() || call.specs.iter().any(|spec| ours.names.matches(spec));
        let show = |ours: &Ours<'_>| {
            if call.colons {
                ours.certificate.colons(call.half, now())
            } else {
                ours.certificate.people(call.half, call.keyid, now())
            }
        };
        let text = keys.iter().filter(asked).map(show).collect::<String>();
        self.streams.write(&Stream::Standard, text.as_bytes())
    }

    fn export(&mut self, call: &Export) -> Result<(), GpgError> {
        self.streams = Streams::of(&call.around, [&call.output])?;
        let settings = self.settings()?;
        let keys = ours(&settings.keys);
        let stranger = call.specs.iter().find(|spec| !keys.iter().any(|ours| ours.names.matches(spec)));
        if stranger.is_some() || call.specs.is_empty() {
            return self.pass_on(stranger.map(OsString::as_os_str));
        }
        let asked = keys.iter().filter(|ours| call.specs.iter().any(|spec| ours.names.matches(spec)));
        let certs = asked.filter_map(|ours| ours.key.certificate()).collect::<Vec<_>>();
        let bytes = facts::export(&certs, call.armor)?;
        match target(&call.output, call.yes) {
            Some(target) => Ok(target.write(&bytes)?),
            None => self.streams.write(&call.output, &bytes),
        }
    }
}

/// The keys that a host signs with. Of a file with several certificates the first is the host's, the others are those of a fallback.
fn ours(keys: &[Key]) -> Vec<Ours<'_>> {
    fn of(key: &Key) -> Option<Ours<'_>> {
        let (certificate, signer) = facts::of(key.certificate()?);
        let names = certificate.names(&signer);
        Some(Ours { key, certificate, names })
    }
    keys.iter().filter_map(of).collect()
}

fn target(output: &Stream, force: bool) -> Option<Target> {
    match output {
        Stream::File(path) => Some(Target::File { path: path.clone(), force }),
        Stream::Standard | Stream::Fd(_) => None,
    }
}
