//! What is asked: how sigsh was started, the text of the request, and the request itself.

use crate::hash_state::{Form, HashAlgorithm};
use base64ct::{Base64, Encoding};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use percent_encoding::{AsciiSet, CONTROLS};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest request in bytes.
pub const MAX_REQUEST: usize = 16 * 1024;

/// The longest name of a file in the log, in bytes after encoding.
pub(crate) const MAX_NAME: usize = 512;

/// Why a request is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Longer than [`MAX_REQUEST`].
    #[error("the request is longer than 16 KiB")]
    Long,
    /// A byte that is not printable ASCII.
    #[error("the request holds a character that is not printable ASCII")]
    Unprintable,
    /// The words cannot be split, or are not a request.
    #[error("{0}")]
    Syntax(String),
    /// Started in a way that an operator must mend.
    #[error("sigsh was started with {0}, which a forced command under sigsh as login shell cannot pass on")]
    Start(String),
}

/// How the process was started.
#[derive(Debug, PartialEq, Eq)]
pub struct Start {
    /// `--config`, as a real argument.
    pub config: Option<PathBuf>,
    /// The text of the request, before any look at it.
    text: Result<OsString, RequestError>,
}

impl Start {
    /// Reads arguments and SSH_ORIGINAL_COMMAND, in every way that sshd, login and an operator start a shell.
    pub fn read(arguments: impl IntoIterator<Item = OsString>, original: Option<OsString>) -> Start {
        let mut arguments = arguments.into_iter().skip(1);
        let (mut config, mut command, mut strange) = (None, None, None);
        while let Some(argument) = arguments.next() {
            let value = match argument.to_str() {
                Some("--config") => Some((&mut config, arguments.next())),
                Some("-c") => Some((&mut command, arguments.next())),
                _ => None,
            };
            match value {
                Some((place @ None, Some(value))) => *place = Some(value),
                _ => strange = Some(argument.to_string_lossy().into_owned()),
            }
        }
        let text = match (original, command) {
            _ if strange.is_some() => Err(RequestError::Start(format!("'{}'", strange.unwrap_or_default()))),
            // The forced command itself arrives in -c: sigsh alone may stand there, for its options would be lost.
            (Some(_), Some(command)) if !is_sigsh(&command) => Err(RequestError::Start("options in -c".to_owned())),
            (Some(original), _) => Ok(original),
            (None, Some(command)) if is_sigsh(&command) => Ok(OsString::new()),
            (None, Some(command)) => Ok(command),
            (None, None) => Ok(OsString::new()),
        };
        Start { config: config.map(PathBuf::from), text }
    }

    /// The request's text, checked for length and characters.
    ///
    /// # Errors
    /// [`RequestError::Long`], [`RequestError::Unprintable`], [`RequestError::Start`].
    pub fn text(self) -> Result<String, RequestError> {
        let text = self.text?;
        if text.len() > MAX_REQUEST {
            return Err(RequestError::Long);
        }
        let text = text.into_string().map_err(|_| RequestError::Unprintable)?;
        check(&text).map(|()| text)
    }

    /// What the client asked, for the journal: percent-encoded and cut.
    pub fn raw(&self) -> String {
        self.text.as_ref().map(|text| encode(text.as_bytes(), MAX_NAME)).unwrap_or_default()
    }
}

/// Checks a text for length and characters.
///
/// # Errors
/// [`RequestError::Long`], [`RequestError::Unprintable`].
pub fn check(text: &str) -> Result<(), RequestError> {
    match text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        _ if text.len() > MAX_REQUEST => Err(RequestError::Long),
        true => Ok(()),
        false => Err(RequestError::Unprintable),
    }
}

/// Whether this is `sigsh` alone, or an absolute path to it.
fn is_sigsh(command: &OsStr) -> bool {
    let bytes = command.as_bytes();
    bytes == b"sigsh" || (bytes.starts_with(b"/") && bytes.ends_with(b"/sigsh") && !bytes.contains(&b' '))
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Request {
    /// Sign standard input
    Sign(Sign),
    /// Sign each file of a tar; a tar of their signatures comes back
    SignTar(SignTar),
    /// Sign what hash states stand for: JSON in and out, one a line
    SignState(SignState),
    /// Print the public certificate of a key
    Certificate {
        /// The key's name; without it, your first one
        key: Option<String>,
        /// ASCII armor instead of binary
        #[arg(long)]
        armor: bool,
    },
    /// Print the version
    Version,
    /// Print this
    Help,
}

/// `sign`.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Sign {
    /// The key's name; without it, your first one
    pub key: Option<String>,
    /// ASCII armor instead of binary
    #[arg(long)]
    pub armor: bool,
    /// The bytes (the default), or lines of any end
    #[arg(long = "type", value_name = "binary|text", hide_possible_values = true)]
    kind: Option<Type>,
    /// The text with a signature; at most 16 MiB
    #[arg(long)]
    cleartext: bool,
    /// Its size in bytes; no other is signed
    #[arg(long, value_name = "N")]
    pub size: Option<u64>,
    /// Its digest; no other is signed
    #[arg(long, value_name = "ALG:HEX", value_parser = Digest::parse)]
    pub digest: Option<Digest>,
    /// The artifact's name, for the log only
    #[arg(long, value_name = "TEXT", value_parser = |text: &str| Ok::<_, String>(LogName::new(text)))]
    pub name: Option<LogName>,
    /// What vouches for the artifact.
    #[command(flatten)]
    pub evidence: Evidence,
}

/// What a request brings with it where its key demands more than a client: that a build has made the artifact, that people have
/// approved it.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Evidence {
    /// What the build that made it says of it
    #[arg(long, value_name = "BASE64", value_parser = decode)]
    pub endorsement: Option<Bytes>,
    /// One person's approval; once for each
    #[arg(long = "approval", value_name = "TIME=BASE64", value_parser = Statement::parse)]
    pub approvals: Vec<Statement>,
    /// The same, in an emergency
    #[arg(long, value_name = "TIME=BASE64", value_parser = Statement::parse)]
    pub break_glass: Vec<Statement>,
}

impl Evidence {
    /// Whether it brings nothing.
    pub fn is_empty(&self) -> bool {
        *self == Evidence::default()
    }
}

/// Bytes that came as base64.
pub type Bytes = std::sync::Arc<[u8]>;

/// The longest piece of evidence in bytes: a line of the ledger must hold it.
pub const MAX_EVIDENCE: usize = 6 << 10;

/// The longest list of approvals.
pub const MAX_APPROVALS: usize = 16;

fn decode(text: &str) -> Result<Bytes, String> {
    let bytes = Base64::decode_vec(text).map_err(|_| "it is not base64, on one line and with its padding".to_owned())?;
    match bytes.len() {
        0 => Err("it is empty".to_owned()),
        length if length > MAX_EVIDENCE => Err("it is longer than 6 KiB".to_owned()),
        _ => Ok(bytes.into()),
    }
}

/// A signed statement of one person, and until when it shall hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Until when.
    pub not_after: Moment,
    /// The SSHSIG, binary or armored.
    pub signature: Bytes,
}

impl Statement {
    /// Reads `TIME=BASE64`.
    ///
    /// # Errors
    /// How it is written.
    pub fn parse(text: &str) -> Result<Statement, String> {
        let (time, signature) = text.split_once('=').ok_or("it is a time, '=' and base64")?;
        Ok(Statement { not_after: Moment::parse(time)?, signature: decode(signature)? })
    }
}

/// A second of Unix time, written in one way alone: `2026-01-02T03:04:05Z` (RFC 3339 in UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Reads it.
    ///
    /// # Errors
    /// How it is written.
    pub fn parse(text: &str) -> Result<Moment, &'static str> {
        let time = humantime::parse_rfc3339(text).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let moment = time.map(|since| Moment(since.as_secs())).filter(|moment| moment.to_string() == text);
        moment.ok_or("a time is written 2026-01-02T03:04:05Z")
    }

    /// It as the system's time.
    pub fn time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0)
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::identity::certificate::date(self.0))
    }
}

/// `sign-tar`.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct SignTar {
    /// The keys' names, or your first one; of several: NAME.KEY.sig
    #[arg(value_name = "KEY")]
    pub keys: Vec<String>,
    /// ASCII armor instead of binary: NAME.asc
    #[arg(long)]
    pub armor: bool,
    /// The bytes (the default), or lines of any end
    #[arg(long = "type", value_name = "binary|text", hide_possible_values = true)]
    kind: Option<Type>,
}

impl SignTar {
    /// What of each file is to be signed.
    pub fn form(&self) -> Form {
        Type::form(self.kind)
    }
}

/// `sign-state`.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct SignState {
    /// The key's name; without it, your first one
    pub key: Option<String>,
}

/// How many keys a request may name.
pub const MAX_KEYS: usize = 8;

/// A type of signature (RFC 9580 §5.2.1), by the name that a client gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Type {
    Binary,
    Text,
}

impl Type {
    fn form(kind: Option<Type>) -> Form {
        if kind == Some(Type::Text) { Form::Text } else { Form::Binary }
    }
}

impl Sign {
    /// What of the artifact is to be signed.
    pub fn form(&self) -> Form {
        if self.cleartext { Form::Cleartext } else { Type::form(self.kind) }
    }

    /// RFC 9580 §7: a cleartext-signed message has signatures of texts, in its own armor.
    fn is_consistent(&self) -> bool {
        !self.cleartext || !self.armor && self.kind != Some(Type::Binary)
    }
}

/// A digest that a client declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// By which hash.
    pub algorithm: HashAlgorithm,
    /// Its bytes, as many as the hash gives.
    pub bytes: Vec<u8>,
}

impl Digest {
    fn parse(text: &str) -> Result<Digest, String> {
        let parts = text.split_once(':').and_then(|(name, hex)| Some((HashAlgorithm::from_name(name)?, hex::decode(hex).ok()?)));
        match parts {
            Some((algorithm, bytes)) if bytes.len() == algorithm.digest_len() => Ok(Digest { algorithm, bytes }),
            _ => Err("a digest is sha256:, sha384: or sha512: and its hexadecimal digits".to_owned()),
        }
    }
}

/// A file's name as the client tells it: percent-encoded and cut, so that it can stand in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogName(String);

impl LogName {
    fn new(text: &str) -> LogName {
        LogName(encode(text.as_bytes(), MAX_NAME))
    }

    /// The encoded name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Percent-encodes all but what cannot be mistaken for anything else in a log, and cuts it to `limit` bytes.
pub(crate) fn encode(bytes: &[u8], limit: usize) -> String {
    const SET: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%').add(b'\'').add(b'<').add(b'>').add(b'\\').add(b'`');
    let bytes = bytes.get(..limit).unwrap_or(bytes);
    let mut encoded = percent_encoding::percent_encode(bytes, SET).to_string();
    // Not within the three characters of an escape.
    let end = (limit.saturating_sub(2)..=limit).find(|end| encoded.get(*end..=*end) == Some("%")).unwrap_or(limit);
    encoded.truncate(end);
    encoded
}

#[derive(Parser)]
#[command(
    name = "ssh signer@host",
    about = "Sign what comes in on standard input; the signature goes to standard output.\n\
             Exit status 0 means that it was signed; of many files, that each one was.",
    override_usage = "ssh signer@host [REQUEST] < FILE > FILE.sig\n       tar -c FILE... | ssh signer@host sign-tar | tar -x",
    disable_help_subcommand = true,
    disable_help_flag = true,
    no_binary_name = true,
    subcommand_required = true,
    subcommand_value_name = "REQUEST",
    subcommand_help_heading = "Requests",
    args_override_self = false
)]
struct Words {
    #[command(subcommand)]
    request: Request,
}

impl Request {
    /// Whether a text asks nothing: then the client's table says what is meant.
    pub fn is_empty(text: &str) -> bool {
        split(text).is_ok_and(|words| words.is_empty())
    }

    /// Whether a tar is asked for, be it in words that are no request.
    pub fn is_of_tar(text: &str) -> bool {
        text.split_ascii_whitespace().next() == Some("sign-tar")
    }

    /// Reads a request. The empty text is `sign`.
    ///
    /// # Errors
    /// [`RequestError::Syntax`].
    pub fn parse(text: &str) -> Result<Request, RequestError> {
        let words = split(text)?;
        if words.is_empty() {
            return Ok(Request::Sign(Sign::default()));
        }
        match Words::try_parse_from(words).map(|words| words.request) {
            Ok(Request::Sign(sign)) if !sign.is_consistent() => {
                Err(RequestError::Syntax("--cleartext goes with neither --armor nor --type binary".to_owned()))
            }
            Ok(Request::Sign(Sign { evidence, .. })) if evidence.approvals.len() + evidence.break_glass.len() > MAX_APPROVALS => {
                Err(RequestError::Syntax(format!("a request may bring at most {MAX_APPROVALS} approvals")))
            }
            Ok(Request::SignTar(sign)) if sign.keys.len() > MAX_KEYS => {
                Err(RequestError::Syntax(format!("a request may name at most {MAX_KEYS} keys")))
            }
            // Two signatures would have one name.
            Ok(Request::SignTar(sign)) if sign.keys.iter().collect::<BTreeSet<_>>().len() < sign.keys.len() => {
                Err(RequestError::Syntax("the request names a key twice".to_owned()))
            }
            request => request.map_err(|error| RequestError::Syntax(explain(&error))),
        }
    }

    /// What `help` prints.
    pub fn help() -> String {
        let mut words = Words::command();
        let mut text = words.render_help().to_string();
        for name in ["sign", "sign-tar"] {
            let options = words.find_subcommand_mut(name).map(|request| request.render_help().to_string()).unwrap_or_default();
            let arguments = options.split_once("Arguments:\n").map_or("", |(_, rest)| rest);
            let _ = write!(text, "\nOf {name}:\n{arguments}");
        }
        text
    }
}

/// Words, as a shell splits them. A comment is none: what it hides may be a declaration.
fn split(text: &str) -> Result<Vec<String>, RequestError> {
    const END: &str = ".";
    let wrong = |what: &str| RequestError::Syntax(what.to_owned());
    shlex::split(text).ok_or_else(|| wrong("a quote in the request is not closed"))?;
    let mut words = shlex::split(&format!("{text} {END}")).unwrap_or_default();
    if words.pop().is_some_and(|last| last == END) { Ok(words) } else { Err(wrong("the request has a comment")) }
}

/// One line, and not a word of the client's in it.
fn explain(error: &clap::Error) -> String {
    match error.kind() {
        ErrorKind::InvalidSubcommand | ErrorKind::MissingSubcommand => "this is not a request",
        ErrorKind::UnknownArgument => "the request has an unknown option or a word too many",
        ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::TooManyValues => {
            "an option of the request has a wrong value"
        }
        ErrorKind::ArgumentConflict => "an option of the request stands twice",
        _ => "the request is not complete",
    }
    .to_owned()
}

/// What `version` prints.
pub fn version() -> String {
    concat!("sigsh ", env!("CARGO_PKG_VERSION"), "\n").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(arguments: &[&str], original: Option<&str>) -> Result<String, RequestError> {
        Start::read(arguments.iter().map(OsString::from), original.map(OsString::from)).text()
    }

    #[test]
    fn all_ways_of_being_started() {
        let sigsh = "/usr/bin/sigsh";
        assert_eq!(start(&[sigsh], Some("sign a")).unwrap(), "sign a");
        assert_eq!(start(&[sigsh], None).unwrap(), "");
        assert_eq!(start(&["-sigsh"], None).unwrap(), "");
        assert_eq!(start(&["sigsh", "-c", "sign a"], None).unwrap(), "sign a");
        for alone in ["sigsh", sigsh] {
            assert_eq!(start(&["sigsh", "-c", alone], None).unwrap(), "");
            assert_eq!(start(&["sigsh", "-c", alone], Some("version")).unwrap(), "version");
            assert_eq!(start(&["sigsh", "-c", alone], Some("")).unwrap(), "");
        }
        assert_eq!(start(&["sigsh", "--config", "/c", "-c", "help"], None).unwrap(), "help");
        for lost in ["sigsh --config /c", "/usr/bin/sigsh --config /c", "sign", "/a b/sigsh", "relative/sigsh"] {
            assert_eq!(start(&["sigsh", "-c", lost], Some("sign")), Err(RequestError::Start("options in -c".to_owned())), "{lost}");
        }
        for strange in [&["sigsh", "--hidden"][..], &["sigsh", "-c", "help", "more"], &["sigsh", "-c"], &["sigsh", "--config"]] {
            assert!(matches!(start(strange, None), Err(RequestError::Start(_))), "{strange:?}");
        }
    }

    #[test]
    fn only_a_real_argument_names_a_configuration() {
        let start = |arguments: &[&str]| Start::read(arguments.iter().map(OsString::from), None).config;
        assert_eq!(start(&["sigsh", "--config", "/c"]), Some("/c".into()));
        assert_eq!(start(&["sigsh", "-c", "--config /c"]), None);
    }

    #[test]
    fn long_and_unprintable_requests_end_here() {
        assert_eq!(start(&["sigsh"], Some(&"x".repeat(MAX_REQUEST + 1))), Err(RequestError::Long));
        assert!(start(&["sigsh"], Some(&"x".repeat(MAX_REQUEST))).is_ok());
        for text in ["a\nb", "a\0b", "ü", "\x1b[2J", "\x7f", "a\tb"] {
            assert_eq!(start(&["sigsh"], Some(text)), Err(RequestError::Unprintable), "{text:?}");
        }
    }

    #[test]
    fn requests_are_parsed() {
        assert_eq!(Request::parse(""), Ok(Request::Sign(Sign::default())));
        assert_eq!(Request::parse("  "), Ok(Request::Sign(Sign::default())));
        let digest = format!("sha256:{}", "0a".repeat(32));
        let Ok(Request::Sign(sign)) = Request::parse(&format!("sign release --armor --size 7 --digest {digest} --name 'a b%'"))
        else {
            panic!("not a sign request")
        };
        assert_eq!((sign.key.as_deref(), sign.armor, sign.size), (Some("release"), true, Some(7)));
        assert_eq!(sign.digest, Some(Digest { algorithm: HashAlgorithm::Sha256, bytes: vec![10; 32] }));
        assert_eq!(sign.name.unwrap().as_str(), "a%20b%25");
        let all = SignTar { keys: vec!["a".to_owned(), "b".to_owned()], armor: true, kind: Some(Type::Text) };
        assert_eq!(Request::parse("sign-tar"), Ok(Request::SignTar(SignTar::default())));
        assert_eq!(Request::parse("sign-tar a --armor b --type text"), Ok(Request::SignTar(all)));
        assert_eq!(Request::parse("sign-state"), Ok(Request::SignState(SignState::default())));
        assert_eq!(Request::parse("sign-state k"), Ok(Request::SignState(SignState { key: Some("k".to_owned()) })));
        assert_eq!(Request::parse("version"), Ok(Request::Version));
        assert_eq!(Request::parse("certificate k --armor"), Ok(Request::Certificate { key: Some("k".to_owned()), armor: true }));
    }

    #[test]
    fn forms_are_told_apart() {
        for (text, form) in [
            ("sign", Form::Binary),
            ("sign --type binary", Form::Binary),
            ("sign --type binary --armor", Form::Binary),
            ("sign --type text", Form::Text),
            ("sign --type=text --armor", Form::Text),
            ("sign --cleartext", Form::Cleartext),
            ("sign k --cleartext --type text", Form::Cleartext),
        ] {
            let Ok(Request::Sign(sign)) = Request::parse(text) else { panic!("{text}") };
            assert_eq!(sign.form(), form, "{text}");
        }
    }

    #[test]
    fn a_name_is_cut_between_escapes() {
        for ahead in 0..3 {
            let name = LogName::new(&("x".repeat(ahead) + &"%".repeat(MAX_NAME)));
            assert!(
                name.as_str().len() > MAX_NAME - 3 && name.as_str().len() <= MAX_NAME && name.as_str().ends_with("%25"),
                "{ahead}"
            );
        }
        assert_eq!(LogName::new(&"x".repeat(MAX_NAME + 1)).as_str(), "x".repeat(MAX_NAME));
    }

    #[test]
    fn what_is_no_request_is_refused_without_an_echo() {
        for text in [
            "sing",
            "sign a b",
            "sign --force",
            "sign --size",
            "sign --size -1",
            "sign --size 1 --size 1",
            "sign --digest sha512:00",
            "sign --digest md5:00",
            "sign 'open",
            "internal-sftp",
            "scp -t /tmp",
            "sign --help",
            "--help",
            "-h",
            "--version",
            "sign -h",
            "help sign",
            "/usr/lib/openssh/sftp-server",
            "sign --type",
            "sign --type sing",
            "sign --type TEXT",
            "sign --type text --type text",
            "sign --cleartext --cleartext",
            "sign --cleartext --armor",
            "sign --cleartext --type binary",
            "sign --cleartext=yes",
            "sign-tar --size 1",
            "sign-tar --cleartext",
            "sign-tar a b a",
            "sign-tar a b c d e f g h i",
            "sign-state a b",
            "sign-state --armor",
            "--config /etc/passwd",
        ] {
            let Err(RequestError::Syntax(message)) = Request::parse(text) else { panic!("{text} was accepted") };
            assert!(!message.contains("sing") && !message.contains('\n') && message.len() < 80, "{message}");
        }
    }

    #[test]
    fn help_names_every_request_and_option() {
        for word in [
            "sign",
            "sign-tar",
            "sign-state",
            "certificate",
            "version",
            "help",
            "--armor",
            "--type",
            "binary|text",
            "--cleartext",
            "--size",
            "--digest",
            "--name",
            "--endorsement",
            "--approval",
            "--break-glass",
        ] {
            assert!(Request::help().contains(word), "{word}");
        }
        assert!(!Request::help().lines().any(|line| line == ":" || line.len() > 80), "{}", Request::help());
    }
}
