//! Where signatures come from: options, variables of the environment, and one TOML file, in this order.

use crate::error::Error;
use crate::log::Log;
use sequoia_openpgp::Cert;
use serde::Deserialize;
use sigsh::config::demands::PlaceName;
use sigsh::config::values::{AbsolutePath, Count, Name, Size, Time};
use sigsh::config::{self, ConfigError, Location};
use sigsh::hash_state::HashAlgorithm;
use sigsh::openpgp::Pinned;
use sigsh::warrant::approval::Where;
use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// The system's configuration, for users who have none of their own.
const SYSTEM: &str = "/etc/sigsh/client.toml";

/// The largest certificate in bytes.
const MAX_CERTIFICATE: u64 = 1 << 20;

/// What every command takes.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct Options {
    /// The configuration file
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// A host to sign on, as ssh names it; given several times: in this order
    #[arg(long = "host", value_name = "USER@HOST", global = true)]
    pub(crate) hosts: Vec<String>,
    /// The key to sign with; given several times: a signature by each
    #[arg(short, long = "key", value_name = "KEY", global = true, value_parser = |text: &str| Name::try_from(text.to_owned()))]
    pub(crate) keys: Vec<Name>,
    /// The OpenPGP certificate that signatures must be verified by
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) certificate: Option<PathBuf>,
}

impl Options {
    /// Whether there is any.
    pub(crate) fn is_some(&self) -> bool {
        self.config.is_some() || self.certificate.is_some() || !self.hosts.is_empty() || !self.keys.is_empty()
    }
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    #[serde(default)]
    hosts: Vec<Spanned<String>>,
    default_key: Option<Spanned<Name>>,
    #[serde(default)]
    ssh_options: Vec<String>,
    parallel: Option<Count>,
    reuse: Option<Reuse>,
    retry: Option<Time>,
    timeout: Option<Time>,
    state_above: Option<Size>,
    #[serde(default)]
    digest: bool,
    log: Option<Spanned<WrittenLog>>,
    gpg: Option<AbsolutePath>,
    #[serde(default)]
    local_fallback: Vec<String>,
    identity: Option<AbsolutePath>,
    #[serde(default, rename = "key")]
    keys: BTreeMap<Name, WrittenKey>,
}

impl Written {
    fn log(&self) -> Log {
        match self.log.as_ref().map(Spanned::get_ref) {
            None => Log::Syslog,
            Some(WrittenLog::To(log)) if log == "syslog" => Log::Syslog,
            Some(WrittenLog::To(path)) => Log::File(path.into()),
            Some(WrittenLog::Off(())) => Log::Off,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WrittenKey {
    certificate: AbsolutePath,
    #[serde(default = "sha512")]
    hash: HashAlgorithm,
    #[serde(default)]
    guarded: bool,
    approve_for: Option<Place>,
    requester: Option<Name>,
}

/// Where an approved file may be signed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Place {
    Host(PlaceName),
    Fleet(PlaceName),
}

impl Place {
    /// It as a text has it.
    pub(crate) fn as_where(&self) -> Where<'_> {
        match self {
            Place::Host(name) => Where::Host(name),
            Place::Fleet(name) => Where::Fleet(name),
        }
    }
}

impl TryFrom<String> for Place {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Place, Self::Error> {
        match text.split_once(' ') {
            Some(("host", name)) => PlaceName::try_from(name.to_owned()).map(Place::Host),
            Some(("fleet", name)) => PlaceName::try_from(name.to_owned()).map(Place::Fleet),
            _ => Err("it is \"host NAME\" or \"fleet NAME\""),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a time such as \"30s\", or false")]
enum Reuse {
    For(Time),
    Not(#[serde(deserialize_with = "only_false")] ()),
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "\"syslog\", a path that begins with '/', or false")]
enum WrittenLog {
    To(String),
    Off(#[serde(deserialize_with = "only_false")] ()),
}

fn only_false<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    match bool::deserialize(deserializer)? {
        false => Ok(()),
        true => Err(serde::de::Error::custom("only false")),
    }
}

fn sha512() -> HashAlgorithm {
    HashAlgorithm::Sha512
}

/// A key that signs.
#[derive(Clone)]
pub(crate) struct Key {
    /// Its name on the host; without one, the client's first key there.
    pub(crate) name: Option<Name>,
    /// What its signatures are verified by.
    pub(crate) pinned: Pinned,
    /// The hash that the host signs with; another one costs a second reading of the file, and no state can be sent.
    pub(crate) hash: HashAlgorithm,
    /// Whether it signs only what was endorsed or approved: then each file goes alone, with its digest and what vouches for it.
    pub(crate) guarded: bool,
    /// Where what is approved here may be signed.
    pub(crate) place: Option<Place>,
    /// Who asks for its signatures.
    pub(crate) requester: Option<Name>,
}

impl Key {
    fn new(name: Option<Name>, pinned: Pinned, written: Option<&WrittenKey>) -> Key {
        Key {
            name,
            pinned,
            hash: written.map_or_else(sha512, |key| key.hash),
            guarded: written.is_some_and(|key| key.guarded),
            place: written.and_then(|key| key.approve_for.clone()),
            requester: written.and_then(|key| key.requester.clone()),
        }
    }

    /// The host's own certificate. Others in the same file are those that a fallback signs by.
    pub(crate) fn certificate(&self) -> Option<&Cert> {
        self.pinned.certs().first()
    }
}

/// The real gpg, where the configuration names one; a configuration that cannot be read names none.
pub(crate) fn gpg(options: &Options) -> Option<PathBuf> {
    let (written, _) = written(options).ok()?;
    written.gpg.map(|path| path.to_path_buf())
}

/// Where the gpg front end writes, before anything else is known; to the system's log when the configuration cannot be read.
pub(crate) fn log(options: &Options) -> Log {
    written(options).map_or_else(|_| Log::default(), |(written, _)| written.log())
}

/// Whether nothing at all is set: no file, no variable, no option.
pub(crate) fn is_nothing(options: &Options) -> bool {
    let variables = ["SIGSH_HOST", "SIGSH_KEY", "SIGSH_CERTIFICATE"];
    let Options { config: _, hosts, keys, certificate } = options;
    hosts.is_empty()
        && keys.is_empty()
        && certificate.is_none()
        && !variables.iter().any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()))
        && matches!(path(options), Ok(None))
}

/// By which hash a key signs, where nothing else of it need be known: the one that is named, or the default one.
///
/// # Errors
/// [`Error::Config`], [`Error::NoKey`], [`Error::Setting`].
pub(crate) fn hash(options: &Options) -> Result<HashAlgorithm, Error> {
    let (written, default) = written(options)?;
    match named(options)?.into_iter().next().or(default) {
        Some(name) if !written.keys.is_empty() => {
            written.keys.get(&name).map(|key| key.hash).ok_or_else(|| Error::NoKey(name.to_string()))
        }
        _ => Ok(sha512()),
    }
}

/// All that is set.
#[derive(Clone)]
pub(crate) struct Settings {
    /// Hosts, in the order in which they are tried.
    pub(crate) hosts: Vec<String>,
    /// What ssh is told besides.
    pub(crate) ssh_options: Vec<String>,
    /// Connections to one host at once.
    pub(crate) parallel: u64,
    /// How long a connection waits for another use.
    pub(crate) reuse: Option<Duration>,
    /// How long to try again.
    pub(crate) retry: Duration,
    /// How long a host may be silent.
    pub(crate) timeout: Duration,
    /// The largest file in bytes that is sent whole.
    pub(crate) state_above: u64,
    /// Whether the digest is declared, for which a file is read once more.
    pub(crate) digest: bool,
    /// Where the gpg front end writes.
    pub(crate) log: Log,
    /// A gpg to sign with when no host can be reached.
    pub(crate) local_fallback: Vec<String>,
    /// The ssh key that approves.
    pub(crate) identity: Option<PathBuf>,
    /// All keys, the default one first.
    pub(crate) keys: Vec<Key>,
}

impl Settings {
    /// Reads what is set.
    ///
    /// # Errors
    /// [`Error::Config`] and those of certificates.
    pub(crate) fn load(options: &Options) -> Result<Settings, Error> {
        let settings = Settings::put_together(options)?;
        settings.demand_host()?;
        Ok(settings)
    }

    /// Demands a host that signs.
    ///
    /// # Errors
    /// [`Error::NoHost`], [`Error::Setting`].
    pub(crate) fn demand_host(&self) -> Result<(), Error> {
        if self.hosts.is_empty() {
            return Err(Error::NoHost);
        }
        self.hosts.iter().try_for_each(|host| check_host(host).map_err(|why| Error::Setting("a host", why.to_owned())))
    }

    /// The same without a demand for a host: nothing is signed.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub(crate) fn put_together(options: &Options) -> Result<Settings, Error> {
        let (written, default) = written(options)?;
        let log = written.log();
        let mut settings = Settings {
            hosts: written.hosts.into_iter().map(Spanned::into_inner).collect(),
            ssh_options: written.ssh_options,
            parallel: written.parallel.map_or(8, |count| count.0),
            reuse: match written.reuse {
                None => Some(Duration::from_secs(30)),
                Some(Reuse::For(time)) => Some(time.0),
                Some(Reuse::Not(())) => None,
            },
            retry: written.retry.map_or(Duration::from_secs(120), |time| time.0),
            timeout: written.timeout.map_or(Duration::from_secs(600), |time| time.0),
            state_above: written.state_above.map_or(u64::MAX, |size| size.0),
            digest: written.digest,
            log,
            local_fallback: written.local_fallback,
            identity: written.identity.map(|path| path.to_path_buf()),
            keys: Vec::new(),
        };
        if let Some(hosts) = variable("SIGSH_HOST")? {
            settings.hosts = hosts.split_whitespace().map(str::to_owned).collect();
        }
        if !options.hosts.is_empty() {
            settings.hosts.clone_from(&options.hosts);
        }
        settings.keys = keys(options, &written.keys, default)?;
        Ok(settings)
    }
}

/// The names of keys that an option or a variable gives.
fn named(options: &Options) -> Result<Vec<Name>, Error> {
    let bad = |name: &str, why: &'static str| Error::Setting("SIGSH_KEY", format!("'{name}': {why}"));
    match variable("SIGSH_KEY")? {
        _ if !options.keys.is_empty() => Ok(options.keys.clone()),
        Some(name) => Ok(vec![Name::try_from(name.clone()).map_err(|why| bad(&name, why))?]),
        None => Ok(Vec::new()),
    }
}

/// The keys that are named, or else all.
fn keys(options: &Options, written: &BTreeMap<Name, WrittenKey>, default: Option<Name>) -> Result<Vec<Key>, Error> {
    let named = named(options)?;
    if let Some(pinned) = given_certificate(options)? {
        let names = if named.is_empty() { vec![default] } else { named.into_iter().map(Some).collect() };
        let table = |name: &Option<Name>| name.as_ref().and_then(|name| written.get(name));
        return Ok(names.into_iter().map(|name| Key::new(name.clone(), pinned.clone(), table(&name))).collect());
    }
    let names = if named.is_empty() {
        default.iter().chain(written.keys().filter(|name| Some(*name) != default.as_ref())).cloned().collect()
    } else {
        named
    };
    if names.is_empty() {
        return Err(Error::NoCertificate);
    }
    let key = |name: Name| {
        let key = written.get(&name).ok_or_else(|| Error::NoKey(name.to_string()))?;
        let bytes = sigsh::trusted::read(&key.certificate, MAX_CERTIFICATE).map_err(ConfigError::from)?;
        let pinned = Pinned::read(&bytes).map_err(|error| Error::Certificate(key.certificate.to_path_buf(), error))?;
        Ok(Key::new(Some(name), pinned, Some(key)))
    };
    names.into_iter().map(key).collect()
}

/// The certificate that an option or a variable gives, by its name or itself.
fn given_certificate(options: &Options) -> Result<Option<Pinned>, Error> {
    let given = options.certificate.clone().map(PathBuf::into_os_string).or_else(|| env::var_os("SIGSH_CERTIFICATE"));
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(None) };
    if let Some(armored) = given.to_str().filter(|text| text.trim_start().starts_with("-----BEGIN PGP")) {
        let pinned = Pinned::read(armored.as_bytes());
        return pinned.map(Some).map_err(|error| Error::Certificate("SIGSH_CERTIFICATE".into(), error));
    }
    let path = PathBuf::from(given);
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(MAX_CERTIFICATE).read_to_end(&mut bytes))
        .map_err(|error| Error::File(path.clone(), error))?;
    Pinned::read(&bytes).map(Some).map_err(|error| Error::Certificate(path, error))
}

/// The file, checked, and its default key.
fn written(options: &Options) -> Result<(Written, Option<Name>), Error> {
    let Some(path) = path(options)? else {
        return Ok((config::parse(Path::new(""), "")?, None));
    };
    let source = config::source(&path)?;
    let written: Written = config::parse(&path, &source)?;
    let wrong = |offset: usize, message: String| {
        Err(Error::Config(ConfigError::Wrong { at: Location::new(&path, &source, offset), message }))
    };
    for host in &written.hosts {
        if let Err(why) = check_host(host.get_ref()) {
            return wrong(host.span().start, why.to_owned());
        }
    }
    let strange =
        |log: &&Spanned<WrittenLog>| matches!(log.get_ref(), WrittenLog::To(to) if to != "syslog" && !to.starts_with('/'));
    if let Some(log) = written.log.as_ref().filter(strange) {
        return wrong(log.span().start, "a log is \"syslog\" or a path that begins with '/'".to_owned());
    }
    let default = match &written.default_key {
        Some(key) if !written.keys.contains_key(key.get_ref()) => {
            return wrong(key.span().start, format!("there is no [key.{}]", key.get_ref()));
        }
        Some(key) => Some(key.get_ref().clone()),
        None if written.keys.len() > 1 => return wrong(0, "several keys need a default-key".to_owned()),
        None => written.keys.keys().next().cloned(),
    };
    Ok((written, default))
}

/// Where the file is, if anywhere.
///
/// # Errors
/// [`Error::Setting`], [`Error::File`].
pub(crate) fn path(options: &Options) -> Result<Option<PathBuf>, Error> {
    let named = options.config.clone().or_else(|| env::var_os("SIGSH_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from));
    if let Some(path) = named {
        return std::path::absolute(&path).map(Some).map_err(|error| Error::File(path, error));
    }
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    // A user's that cannot be read is an error later. The system's directory is closed to others where there is a signing host, too.
    let none = |error: std::io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    let of_user = home.map(|home| home.join("sigsh/client.toml")).filter(|path| !path.symlink_metadata().is_err_and(none));
    Ok(of_user.or_else(|| Some(PathBuf::from(SYSTEM)).filter(|path| path.exists())))
}

/// What ssh takes for a host and not for an option; names that a terminal shows as they are.
fn check_host(host: &str) -> Result<(), &'static str> {
    let good = !host.is_empty() && !host.starts_with('-') && host.chars().all(|c| c.is_ascii_graphic());
    if good { Ok(()) } else { Err("a host is what ssh calls one, such as \"signer@sign.example.org\"") }
}

fn variable(name: &'static str) -> Result<Option<String>, Error> {
    match env::var_os(name).map(std::ffi::OsString::into_string) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value).filter(|value| !value.is_empty())),
        Some(Err(_)) => Err(Error::Setting(name, "it is not UTF-8".to_owned())),
    }
}
