//! What a call of gpg asks for, as far as it may be ours.

use super::words::{WordError, Words};
use sigsh::hash_state::{Form, HashAlgorithm};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A detached or a cleartext signature.
    Sign(Sign),
    /// Which keys there are.
    List(List),
    /// A certificate.
    Export(Export),
    /// What gpg this is.
    Version,
    /// A signature inside of an OpenPGP message, whether encrypted or not.
    Inline {
        /// The keys that are to sign.
        users: Vec<OsString>,
        /// The caller names a keyring of its own.
        elsewhere: bool,
    },
    /// Whatever else gpg does.
    Other,
}

/// A signature that is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sign {
    /// Whether it is detached, over bytes or over lines, or a cleartext signature.
    pub(crate) form: Form,
    /// In armor, as a cleartext signature always is.
    pub(crate) armor: bool,
    /// The keys that are to sign, each with a signature of its own: every `--local-user`, or else the last `--default-key`; none
    /// for any key.
    pub(crate) users: Vec<OsString>,
    /// What is signed: one input for a cleartext; of several, a detached signature covers one after the other.
    pub(crate) inputs: Vec<Stream>,
    /// Where the signature goes: `--output`, or beside the last input.
    pub(crate) output: Stream,
    /// An output that exists is replaced.
    pub(crate) yes: bool,
    /// Nothing is written.
    pub(crate) dry_run: bool,
    /// The hash that is wished for.
    pub(crate) digest: Option<HashAlgorithm>,
    /// The options that ask for what would stand in the signature, and does not stand in ours.
    pub(crate) unmet: Vec<&'static str>,
    /// The caller names a keyring of its own.
    pub(crate) elsewhere: bool,
    /// Beside all that.
    pub(crate) around: Around,
}

/// A listing of keys.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct List {
    /// Which keys; none for all.
    pub(crate) specs: Vec<OsString>,
    /// What is listed of them.
    pub(crate) half: Half,
    /// For programs.
    pub(crate) colons: bool,
    /// How key ids are written where people read.
    pub(crate) keyid: Keyid,
    /// Beside all that.
    pub(crate) around: Around,
}

/// The half of a key that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    /// What signs.
    Secret,
    /// What verifies.
    Public {
        /// And whether the other one is there.
        with_secret: bool,
    },
}

/// How a listing shows key ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keyid {
    /// Not at all: the fingerprint stands there.
    #[default]
    None,
    /// `89ABCDEF`
    Short,
    /// `0x89ABCDEF`
    HexShort,
    /// `0123456789ABCDEF`
    Long,
    /// `0x0123456789ABCDEF`
    HexLong,
}

/// An export of certificates.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Export {
    /// Which keys; none for all.
    pub(crate) specs: Vec<OsString>,
    /// In armor.
    pub(crate) armor: bool,
    /// Where to.
    pub(crate) output: Stream,
    /// An output that exists is replaced.
    pub(crate) yes: bool,
    /// Beside all that.
    pub(crate) around: Around,
}

/// What a program that calls gpg has around the call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Around {
    /// Where status lines go: never [`Stream::Standard`].
    pub(crate) status: Option<Stream>,
    /// Where messages go instead of standard error: never [`Stream::Standard`].
    pub(crate) logger: Option<Stream>,
    /// The descriptor whose first line is a passphrase, even where what is signed follows it.
    pub(crate) passphrase: Option<i32>,
    /// A status that cannot be written is a failure.
    pub(crate) strict: bool,
    /// Nobody can be asked.
    pub(crate) batch: bool,
    /// Fewer words.
    pub(crate) quiet: bool,
}

/// Something to read or to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard input or output.
    Standard,
    /// A descriptor that is open already.
    Fd(i32),
    /// A file.
    File(PathBuf),
}

/// Why gpg would not begin.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// An option is not gpg's.
    #[error(transparent)]
    Word(#[from] WordError),
    /// Two commands that exclude one another.
    #[error("conflicting commands")]
    Conflict,
    /// An argument that is none for its option.
    #[error("invalid argument for option '--{0}'")]
    Argument(&'static str),
    /// More than one file for a cleartext signature.
    #[error("only one file can be signed as cleartext")]
    Files,
}

/// The options of a call as they come, the last of a kind counting.
#[derive(Default)]
struct Asked {
    commands: Vec<&'static str>,
    local_users: Vec<OsString>,
    default_key: Option<OsString>,
    output: Option<OsString>,
    special: bool,
    armor: bool,
    text: bool,
    yes: bool,
    dry_run: bool,
    digest: Option<HashAlgorithm>,
    unmet: Vec<&'static str>,
    colons: bool,
    with_secret: bool,
    /// Keyrings are named.
    elsewhere: bool,
    keyid: Keyid,
    /// Records other than certificates.
    records: bool,
    around: Around,
}

impl Call {
    /// Reads what stands after the program's name.
    pub(crate) fn parse(arguments: &[OsString]) -> Result<Call, CallError> {
        let mut asked = Asked::default();
        let mut words = Words::new(arguments);
        for word in words.by_ref() {
            let (known, argument) = word?;
            match (known.command, known.name) {
                (true, "version") => return Ok(Call::Version),
                (
                    true,
                    "sign" | "detach-sign" | "clear-sign" | "encrypt" | "symmetric" | "list-keys" | "list-secret-keys" | "export",
                ) => asked.command(known.name)?,
                // An option to most commands; alone it lists public keys.
                (true, "fingerprint") => {}
                (true, _) => return Ok(Call::Other),
                (false, name) => asked.option(name, argument.unwrap_or_default())?,
            }
        }
        asked.call(words.rest())
    }
}

impl Asked {
    fn has(&self, command: &str) -> bool {
        self.commands.contains(&command)
    }

    fn command(&mut self, name: &'static str) -> Result<(), CallError> {
        self.commands.push(name);
        let encrypts = self.has("encrypt") || self.has("symmetric");
        let alone = |command| self.has(command) && self.commands.iter().any(|&it| it != command);
        match alone("list-keys") || alone("list-secret-keys") || alone("export") || self.has("clear-sign") && encrypts {
            true => Err(CallError::Conflict),
            false => Ok(()),
        }
    }

    fn option(&mut self, name: &'static str, argument: OsString) -> Result<(), CallError> {
        match name {
            "local-user" => self.local_users.push(argument),
            "default-key" => self.default_key = Some(argument),
            "output" => self.output = Some(argument),
            "enable-special-filenames" => self.special = true,
            "armor" => self.armor = true,
            "no-armor" => self.armor = false,
            "t" | "textmode" | "mimemode" => self.text = true,
            "no-textmode" => self.text = false,
            "yes" => self.yes = true,
            "dry-run" => self.dry_run = true,
            "with-colons" | "with-key-data" => self.colons = true,
            "with-secret" => self.with_secret = true,
            "homedir" | "keyring" | "primary-keyring" | "secret-keyring" | "no-default-keyring" => self.elsewhere = true,
            "keyid-format" => self.keyid = keyid_format(&argument).ok_or(CallError::Argument(name))?,
            "digest-algo" => self.digest(&argument),
            "export-filter" | "print-dane-records" | "print-pka-records" => self.records = true,
            "export-options" => self.records |= ["dane", "pka"].iter().any(|it| argument.to_string_lossy().contains(it)),
            "default-sig-expire" if ["", "0", "never", "none"].iter().any(|&it| argument == it) => {}
            "set-notation" | "sig-notation" | "set-policy-url" | "sig-policy-url" | "sig-keyserver-url" | "default-sig-expire"
            | "faked-system-time" | "include-key-block" | "not-dash-escaped" => self.unmet.push(name),
            "no-include-key-block" => self.unmet.retain(|&it| it != "include-key-block"),
            _ => self.around.option(name, argument)?,
        }
        Ok(())
    }

    /// By name or by number (RFC 9580 §9.5); another hash than the key's is no reason to refuse.
    fn digest(&mut self, name: &OsStr) {
        self.digest = match name.to_ascii_lowercase().as_bytes() {
            b"sha256" | b"h8" => Some(HashAlgorithm::Sha256),
            b"sha384" | b"h9" => Some(HashAlgorithm::Sha384),
            b"sha512" | b"h10" => Some(HashAlgorithm::Sha512),
            _ => None,
        };
        self.unmet.retain(|&it| it != "digest-algo");
        self.unmet.extend(self.digest.is_none().then_some("digest-algo"));
    }

    fn call(self, rest: &[OsString]) -> Result<Call, CallError> {
        let signs = self.has("sign") || self.has("detach-sign");
        if self.has("clear-sign") {
            return self.sign(Form::Cleartext, true, rest);
        }
        if signs && (self.has("encrypt") || self.has("symmetric") || !self.has("detach-sign")) {
            return Ok(Call::Inline { users: self.users(), elsewhere: self.elsewhere });
        }
        if signs {
            let (form, armor) = (if self.text { Form::Text } else { Form::Binary }, self.armor);
            return self.sign(form, armor, rest);
        }
        let specs = rest.to_vec();
        let half = match (self.has("list-secret-keys"), self.has("list-keys")) {
            // A key that is ours signs, wherever its user's keyring is.
            (true, _) if !self.elsewhere || !specs.is_empty() => Some(Half::Secret),
            (false, true) if !self.elsewhere => Some(Half::Public { with_secret: self.with_secret }),
            _ => None,
        };
        if let Some(half) = half {
            return Ok(Call::List(List { specs, half, colons: self.colons, keyid: self.keyid, around: self.around }));
        }
        if self.has("export") && !self.records && !(self.elsewhere && specs.is_empty()) {
            let output = self.output.as_deref().map_or(Stream::Standard, |it| self.stream(it));
            return Ok(Call::Export(Export { specs, armor: self.armor, output, yes: self.yes, around: self.around }));
        }
        Ok(Call::Other)
    }

    fn users(&self) -> Vec<OsString> {
        match self.local_users.is_empty() {
            true => self.default_key.iter().cloned().collect(),
            false => self.local_users.clone(),
        }
    }

    fn sign(self, form: Form, armor: bool, rest: &[OsString]) -> Result<Call, CallError> {
        if form == Form::Cleartext && rest.len() > 1 {
            return Err(CallError::Files);
        }
        let mut inputs: Vec<Stream> = rest.iter().map(|it| self.stream(it)).collect();
        let beside = beside(armor, inputs.last());
        if inputs.is_empty() {
            inputs.push(Stream::Standard);
        }
        let output = self.output.as_deref().map_or(beside, |it| self.stream(it));
        let (yes, dry_run, users) = (self.yes, self.dry_run, self.users());
        Ok(Call::Sign(Sign {
            form,
            armor,
            users,
            inputs,
            output,
            yes,
            dry_run,
            digest: self.digest,
            unmet: self.unmet,
            elsewhere: self.elsewhere,
            around: self.around,
        }))
    }

    fn stream(&self, name: &OsStr) -> Stream {
        let fd = || self.special.then(|| name.to_str()?.strip_prefix("-&")?.parse::<u16>().ok()).flatten();
        match fd() {
            _ if name == "-" => Stream::Standard,
            Some(fd) => Stream::Fd(fd.into()),
            None => Stream::File(PathBuf::from(name)),
        }
    }
}

impl Around {
    fn option(&mut self, name: &'static str, argument: OsString) -> Result<(), CallError> {
        match name {
            "status-fd" => self.status = fd(name, &argument)?.map(Stream::Fd),
            "status-file" => self.status = Some(Stream::File(argument.into())),
            "logger-fd" => self.logger = fd(name, &argument)?.map(Stream::Fd),
            "log-file" => self.logger = Some(Stream::File(argument.into())),
            "passphrase-fd" => self.passphrase = fd(name, &argument)?,
            "exit-on-status-write-error" => self.strict = true,
            "batch" => self.batch = true,
            "no-batch" => self.batch = false,
            "quiet" => self.quiet = true,
            _ => {}
        }
        Ok(())
    }
}

/// A descriptor; a negative number is for none.
fn fd(option: &'static str, argument: &OsStr) -> Result<Option<i32>, CallError> {
    let number = argument.to_str().and_then(|it| it.parse::<i32>().ok()).ok_or(CallError::Argument(option))?;
    Ok(Some(number).filter(|&it| it >= 0))
}

fn keyid_format(name: &OsStr) -> Option<Keyid> {
    Some(match name.to_ascii_lowercase().as_bytes() {
        b"none" => Keyid::None,
        b"short" => Keyid::Short,
        b"0xshort" => Keyid::HexShort,
        b"long" => Keyid::Long,
        b"0xlong" => Keyid::HexLong,
        _ => return None,
    })
}

/// Where a signature goes that has no `--output`.
fn beside(armor: bool, input: Option<&Stream>) -> Stream {
    let Some(Stream::File(input)) = input else {
        return Stream::Standard;
    };
    let mut output = input.clone().into_os_string();
    output.push(if armor { ".asc" } else { ".sig" });
    Stream::File(output.into())
}

#[cfg(test)]
#[path = "call/tests.rs"]
mod tests;
