//! The gpg front end: programs that call gpg get their signatures from a sigsh host.
//!
//! [`call`] says what a command line asks, by [`words`] and [`options`]; [`spec`] whose key it means, by what [`facts`] tells of a
//! certificate; [`listing`] and [`status`] write what gpg would write; [`real`] is the gpg that does everything else. [`streams`] are the
//! descriptors that the caller has opened.

pub(crate) mod call;
mod error;
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

use crate::error::{Error, say};
use crate::log::Log;
use crate::output::Target;
use crate::settings::{self, Key, Options, Settings};
use crate::sign::{self, Signed};
use call::{Call, Export, Half, List, Sign, Stream};
use error::GpgError;
use listing::Certificate;
use openpgp::policy::StandardPolicy;
use sequoia_openpgp as openpgp;
use sigsh::hash_state::Form;
use sigsh::openpgp::verify::export;
use spec::Names;
use status::{Created, Status};
use std::ffi::{OsStr, OsString};
use std::io;
use std::process::ExitCode;
use std::time::SystemTime;
use streams::Streams;

const POLICY: &StandardPolicy<'static> = &StandardPolicy::new();

/// gpg's exit code for whatever went wrong.
const FAILED: u8 = 2;

/// Does what gpg would do when it is called `name` with these arguments; the options are those that are not gpg's.
pub(crate) fn run(name: &OsStr, arguments: &[OsString], options: &Options) -> ExitCode {
    let mut front = Front { name, arguments, options, streams: Streams::default(), log: settings::log(options) };
    match front.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("sigsh-gpg: error: {error}"));
            if let Some(hint) = error.hint() {
                say(&format!("sigsh-gpg: hint: {hint}"));
            }
            front.log.error(&error.to_string());
            ExitCode::from(FAILED)
        }
    }
}

/// One call.
struct Front<'a> {
    name: &'a OsStr,
    arguments: &'a [OsString],
    options: &'a Options,
    streams: Streams,
    log: Log,
}

/// A key of ours, and what gpg would know of it.
struct Ours<'a> {
    key: &'a Key,
    certificate: Certificate,
    names: Names,
}

impl Front<'_> {
    fn run(&mut self) -> Result<(), GpgError> {
        if real::came_back() {
            return Err(GpgError::Loop);
        }
        match Call::parse(self.arguments)? {
            Call::Version => self.streams.write(&Stream::Standard, status::version().as_bytes()),
            Call::Other => self.pass_on(None),
            Call::Inline { users, elsewhere } => self.inline(&users, elsewhere),
            Call::Sign(call) => self.sign(&call),
            Call::List(call) => self.list(&call),
            Call::Export(call) => self.export(&call),
        }
    }

    /// What is set. Where nothing is, no key is ours, and one that is named, or a keyring, is the real gpg's.
    fn settings(&self, named: Option<&OsString>, elsewhere: bool) -> Result<Settings, GpgError> {
        if (named.is_some() || elsewhere) && settings::is_nothing(self.options) {
            self.pass_on(named.map(OsString::as_os_str))?;
        }
        Ok(Settings::put_together(self.options)?)
    }

    /// Has the real gpg do it, and never comes back when there is one; otherwise the answer is no, for want of `key`.
    fn pass_on(&self, key: Option<&OsStr>) -> Result<(), GpgError> {
        let Some(gpg) = real::find(self.name, self.options) else {
            return Err(key.map_or(GpgError::NoReal, |key| GpgError::NoKey(key.to_string_lossy().into_owned())));
        };
        if real::is_this(&gpg) {
            return Err(GpgError::Loop);
        }
        self.log.info(&format!("passed on to {}", gpg.display()));
        Err(GpgError::Real(gpg.display().to_string(), real::become_it(&gpg, self.arguments)))
    }

    fn inline(&self, users: &[OsString], elsewhere: bool) -> Result<(), GpgError> {
        let elsewhere = elsewhere || real::has_own_secrets();
        let settings = self.settings(users.first(), elsewhere)?;
        if users.is_empty() && elsewhere {
            return self.pass_on(None);
        }
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
        let elsewhere = call.elsewhere || real::has_own_secrets();
        let settings = self.settings(call.users.first(), elsewhere)?;
        if call.users.is_empty() && elsewhere {
            return self.pass_on(None);
        }
        let keys = ours(&settings.keys);
        let mut chosen: Vec<&Ours<'_>> = Vec::new();
        for user in &call.users {
            let Some(ours) = the_one(&keys, user)? else { return self.pass_on(Some(user)) };
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
        settings.demand_host()?;
        let target = target(&call.output, call.yes);
        let standard = (call.output == Stream::Standard).then_some(&Target::Stdout);
        target.as_ref().or(standard).map_or(Ok(()), Target::check)?;
        let mut artifact = self.streams.input(input)?;
        let from = match input {
            Stream::Standard => Some(0),
            Stream::Fd(fd) => Some(*fd),
            Stream::File(_) => None,
        };
        if from.is_some() && call.around.passphrase == from {
            artifact.skip_line()?;
        }
        self.streams.status(&Status::KeyConsidered(&ours.certificate.primary.fingerprint))?;
        if call.dry_run {
            return Ok(());
        }
        let mut made = None;
        let key = std::slice::from_ref(ours.key);
        sign::sign(&settings, key, std::slice::from_ref(&artifact), call.form, |_, _, signed| {
            made = Some(signed);
            Ok(())
        })?;
        let signed = made.ok_or_else(|| Error::Short("the host".to_owned()))?;
        let mut only = call.users.iter().filter_map(|user| ours.names.only(user));
        if let Some(only) = only.find(|only| *only != signed.good.key) {
            return Err(GpgError::OtherKey(only.to_owned(), signed.good.key));
        }
        let bytes = signed.bytes(call.armor)?;
        match &target {
            Some(target) => target.write(&bytes)?,
            None => self.streams.write(&call.output, &bytes)?,
        }
        self.log.info(&format!("{} signed by {}", artifact.display().display(), signed.good.key));
        self.created(call.form, &signed)
    }

    /// Only now, when the signature is verified and written, git may know of it; and only now it is known by which hash.
    fn created(&mut self, form: Form, signed: &Signed) -> Result<(), GpgError> {
        self.streams.status(&Status::BeginSigning(signed.detached.algorithm()))?;
        self.streams.status(&Status::SigCreated(Created {
            form,
            algorithm: signed.detached.packet().pk_algo().into(),
            hash: signed.detached.algorithm(),
            time: facts::seconds(signed.good.created),
            fingerprint: &signed.good.key,
        }))
    }

    fn list(&mut self, call: &List) -> Result<(), GpgError> {
        self.streams = Streams::of(&call.around, [])?;
        let settings = self.settings(call.specs.first(), real::has_own_secrets())?;
        let keys = ours(&settings.keys);
        if let Some(stranger) = call.specs.iter().find(|spec| !keys.iter().any(|ours| ours.names.matches(spec))) {
            let outcome = self.pass_on(Some(stranger));
            self.streams.status(&Status::NoneListed)?;
            return outcome;
        }
        // All that are there: those of a keyring, too, if there is one. A build server needs none.
        let all = call.specs.is_empty();
        if all && if call.half == Half::Secret { real::has_own_secrets() } else { real::has_keyring() } {
            return self.pass_on(None);
        }
        let asked = |ours: &&Ours<'_>| all || call.specs.iter().any(|spec| ours.names.matches(spec));
        let now = facts::seconds(SystemTime::now());
        let show = |ours: &Ours<'_>| {
            if call.colons { ours.certificate.colons(call.half, now) } else { ours.certificate.people(call.half, call.keyid, now) }
        };
        let text = keys.iter().filter(asked).map(show).collect::<String>();
        self.streams.write(&Stream::Standard, text.as_bytes())?;
        if all && call.half == Half::Secret && real::has_secrets() && real::find(self.name, self.options).is_some() {
            return self.pass_on(None);
        }
        Ok(())
    }

    fn export(&mut self, call: &Export) -> Result<(), GpgError> {
        self.streams = Streams::of(&call.around, [&call.output])?;
        let settings = self.settings(call.specs.first(), real::has_own_secrets())?;
        let keys = ours(&settings.keys);
        let stranger = call.specs.iter().find(|spec| !keys.iter().any(|ours| ours.names.matches(spec)));
        if stranger.is_some() || call.specs.is_empty() {
            return self.pass_on(stranger.map(OsString::as_os_str));
        }
        let asked = keys.iter().filter(|ours| call.specs.iter().any(|spec| ours.names.matches(spec)));
        let certs = asked.filter_map(|ours| ours.key.certificate());
        let bytes = export(certs, call.armor).map_err(|error| Error::Io("the certificate", io::Error::other(error)))?;
        match target(&call.output, call.yes) {
            Some(target) => Ok(target.write(&bytes)?),
            None => self.streams.write(&call.output, &bytes),
        }
    }
}

/// The keys that a host signs with. Of a file with several certificates the first is the host's, the others are those of a fallback.
fn ours(keys: &[Key]) -> Vec<Ours<'_>> {
    fn of(key: &Key) -> Option<Ours<'_>> {
        let (cert, now) = (key.certificate()?, SystemTime::now());
        // Programs ask for the primary key's secret half, be it a subkey that signs.
        let certificate = Certificate::of(cert, POLICY, now, |_| true)?;
        let names = certificate.names(facts::seconds(now));
        Some(Ours { key, certificate, names })
    }
    keys.iter().filter_map(of).collect()
}

/// The key that is called so. The same certificate may stand in the configuration several times; two of them are one too many.
fn the_one<'a, 'k>(keys: &'a [Ours<'k>], user: &OsStr) -> Result<Option<&'a Ours<'k>>, GpgError> {
    let mut found = keys.iter().filter(|ours| ours.names.matches(user));
    let first = found.next();
    match found.find(|other| first.is_some_and(|first| first.names.primary != other.names.primary)) {
        Some(_) => Err(GpgError::Ambiguous(user.to_string_lossy().into_owned())),
        None => Ok(first),
    }
}

fn target(output: &Stream, force: bool) -> Option<Target> {
    match output {
        Stream::File(path) => Some(Target::File { path: path.clone(), force }),
        Stream::Standard | Stream::Fd(_) => None,
    }
}
