//! Files of endorsements and approvals: what they are called, which of them go with a file, and how they go into a request.

mod known;
mod piece;

use crate::approve::escaped;
use crate::error::{Error, say};
use crate::input::Input;
use crate::output::parent;
use crate::settings::Key;
use base64ct::{Base64, Encoding};
use known::Known;
use sigsh::request::{Evidence, MAX_APPROVALS, MAX_REQUEST, Statement};
use sigsh::warrant::approval as text;
use sigsh::warrant::sshsig::SshSig;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How the name of an endorsement ends.
const ENDORSEMENT: &str = ".endorsement";

/// How the name of an approval ends.
const APPROVAL: &str = ".approval";

/// How the name of an approval for an emergency ends. It is never taken without being named.
const BREAK_GLASS: &str = ".break-glass";

/// How much of a request is for all else: key, size, digest, name.
const ELSE: usize = 1536;

/// What vouches for a file.
#[derive(Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Files {
    /// What the build that made it says of it
    #[arg(long, value_name = "F")]
    endorsement: Option<PathBuf>,
    /// One person's approval; once for each
    #[arg(long = "approval", value_name = "F")]
    approvals: Vec<PathBuf>,
    /// The same in an emergency
    #[arg(long, value_name = "F")]
    break_glass: Vec<PathBuf>,
}

impl Files {
    /// Whether none is named.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Files::default()
    }

    /// Lets an input bring what this key demands: its digest, and what is named; or, where nothing is, what is found beside it.
    ///
    /// # Errors
    /// [`Error::Input`], [`Error::Evidence`], [`Error::Usage`] for too many.
    pub(crate) fn bring(&self, input: &mut Input, key: &Key) -> Result<(), Error> {
        let (digest, word) = input.digest(key.hash)?;
        let known = Known::of(key, input.length, digest);
        let evidence = match &input.path {
            Some(path) if self.is_empty() => beside(path, &known),
            _ => self.read(&known)?,
        };
        let approvals = evidence.approvals.len() + evidence.break_glass.len();
        if approvals > MAX_APPROVALS {
            let file = escaped(&input.display());
            let why = format!("{file}: of {approvals} approvals a request may bring {MAX_APPROVALS}: name these by --approval");
            return Err(Error::Usage(why));
        }
        input.vouched.insert(key.name.clone(), [word].into_iter().chain(words(&evidence)).collect());
        Ok(())
    }

    /// Those that are named.
    fn read(&self, known: &Known) -> Result<Evidence, Error> {
        let statements = |purpose, paths: &[PathBuf]| {
            let statement = |path: &PathBuf| {
                let statement = piece::statement(&read(path)?);
                let good = statement.and_then(|it| known.check(purpose, &it).map(|()| it));
                good.map_err(|why| Error::Evidence(path.clone(), why))
            };
            paths.iter().map(statement).collect::<Result<Vec<_>, _>>()
        };
        let endorsement = |path: &PathBuf| piece::endorsement(read(path)?).map_err(|why| Error::Evidence(path.clone(), why));
        Ok(Evidence {
            endorsement: self.endorsement.as_ref().map(endorsement).transpose()?,
            approvals: statements(text::APPROVE, &self.approvals)?,
            break_glass: statements(text::BREAK_GLASS, &self.break_glass)?,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = piece::named(path).map_err(|error| Error::Input(path.to_owned(), error))?;
    if bytes.is_empty() { Err(Error::Evidence(path.to_owned(), "it is empty".to_owned())) } else { Ok(bytes) }
}

/// They as words of a request; without armor where they would be too long with it.
fn words(evidence: &Evidence) -> Vec<String> {
    let Evidence { endorsement, approvals, break_glass } = evidence;
    let words = |base64: fn(&[u8]) -> String| {
        let statement = |option, it: &Statement| format!("--{option}={}={}", it.not_after, base64(&it.signature));
        let endorsement = endorsement.iter().map(|bytes| format!("--endorsement={}", base64(bytes)));
        let approvals = approvals.iter().map(|it| statement("approval", it));
        let break_glass = break_glass.iter().map(|it| statement("break-glass", it));
        endorsement.chain(approvals).chain(break_glass).collect::<Vec<_>>()
    };
    let armored = words(Base64::encode_string);
    match armored.iter().map(|word| word.len() + 1).sum::<usize>() + ELSE > MAX_REQUEST {
        true => words(|bytes| Base64::encode_string(&SshSig::dearmored(bytes).unwrap_or_default())),
        false => armored,
    }
}

/// What lies beside a file and is good for something, and says so. A person's name has no dot, so that "f" does not take what belongs to
/// "f.gz". Whoever may write there must not be able to stop us, or to have a file sent that is not his to read.
fn beside(file: &Path, known: &Known) -> Evidence {
    let (mut evidence, mut names) = (Evidence::default(), Vec::new());
    let mut take = |path: &Path, taken: Result<(), String>| match taken {
        Ok(()) => names.push(escaped(path)),
        Err(why) => say(&format!("sigsh-client: warning: {} is left out: {why}", escaped(path))),
    };
    let path = endorsement(file);
    if path.symlink_metadata().is_ok() {
        let read = piece::found(&path).and_then(piece::endorsement);
        take(&path, read.map(|bytes| evidence.endorsement = Some(bytes)));
    }
    let approvals = approvals(file).unwrap_or_else(|error| {
        let why = crate::error::lower(&error);
        say(&format!("sigsh-client: warning: approvals in {} are left out: {why}", escaped(parent(file))));
        Vec::new()
    });
    for path in approvals {
        let statement = piece::found(&path).and_then(|bytes| piece::statement(&bytes)).and_then(|it| {
            let expired = it.not_after.time() <= SystemTime::now();
            if expired { Err(format!("it held until {}", it.not_after)) } else { known.check(text::APPROVE, &it).map(|()| it) }
        });
        take(&path, statement.map(|it| evidence.approvals.push(it)));
    }
    if !names.is_empty() {
        say(&format!("sigsh-client: with {}", names.join(", ")));
    }
    evidence
}

fn approvals(file: &Path) -> io::Result<Vec<PathBuf>> {
    let own = [file.file_name().unwrap_or_default().as_bytes(), b"."].concat();
    let mut approvals = Vec::new();
    for entry in parent(file).read_dir()? {
        let name = entry?.file_name();
        let rest = name.as_bytes().strip_prefix(own.as_slice());
        let person = rest.and_then(|rest| rest.strip_suffix(APPROVAL.as_bytes()));
        if person.is_some_and(|person| !person.is_empty() && !person.contains(&b'.')) {
            approvals.push(file.with_file_name(name));
        }
    }
    approvals.sort();
    Ok(approvals)
}

fn with(file: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(end);
    name.into()
}

/// Where a file's endorsement goes.
pub(crate) fn endorsement(file: &Path) -> PathBuf {
    with(file, ENDORSEMENT)
}

/// Where a person's approval of a file goes.
pub(crate) fn approval(file: &Path, person: &str, break_glass: bool) -> PathBuf {
    with(file, &format!(".{person}{}", if break_glass { BREAK_GLASS } else { APPROVAL }))
}
