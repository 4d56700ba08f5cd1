//! Files of endorsements and approvals: what they are called, and how they go into a request.

use crate::error::{Error, say};
use crate::input::{Input, read_at_most};
use crate::output::parent;
use base64ct::{Base64, Encoding};
use sigsh::request::{MAX_EVIDENCE, Statement};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How the name of an endorsement ends.
const ENDORSEMENT: &str = ".endorsement";

/// How the name of an approval ends.
const APPROVAL: &str = ".approval";

/// How the name of an approval for an emergency ends. It is never taken without being named.
const BREAK_GLASS: &str = ".break-glass";

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

    /// Lets an input bring them with it; without any, those that are found beside it, and says so.
    ///
    /// # Errors
    /// [`Error::Input`], [`Error::Evidence`].
    pub(crate) fn bring(&self, input: &mut Input) -> Result<(), Error> {
        let found = if self.is_empty() { input.path.as_deref().map(beside).transpose()? } else { None };
        let files = found.as_ref().unwrap_or(self);
        if found.as_ref().is_some_and(|found| !found.is_empty()) {
            let names = files.endorsement.iter().chain(&files.approvals).map(|path| path.display().to_string());
            say(&format!("sigsh-client: with {}", names.collect::<Vec<_>>().join(", ")));
        }
        input.evidence = files.words()?;
        Ok(())
    }

    /// They as words of a request.
    fn words(&self) -> Result<Vec<String>, Error> {
        let endorsement = self.endorsement.iter().map(|path| Ok(format!("--endorsement={}", Base64::encode_string(&read(path)?))));
        let approvals = self.approvals.iter().map(|path| Ok(format!("--approval={}", statement(path)?)));
        let break_glass = self.break_glass.iter().map(|path| Ok(format!("--break-glass={}", statement(path)?)));
        endorsement.chain(approvals).chain(break_glass).collect()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |error| Error::Input(path.to_owned(), error);
    // Once more for base64 and a time: what is too long for the host is its own to say.
    let bytes = read_at_most(&mut File::open(path).map_err(failed)?, 2 * MAX_EVIDENCE as u64).map_err(failed)?;
    if bytes.is_empty() { Err(Error::Evidence(path.to_owned(), "it is empty".to_owned())) } else { Ok(bytes) }
}

/// An approval as `approve` writes it: a time, '=' and base64, on one line.
fn statement(path: &Path) -> Result<String, Error> {
    let text = String::from_utf8(read(path)?).unwrap_or_default();
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let none = |why: String| Error::Evidence(path.to_owned(), format!("this is no approval: {why}"));
    Statement::parse(line).map_err(none)?;
    Ok(line.to_owned())
}

/// What lies beside a file. A person's name has no dot, so that "f" does not take what belongs to "f.gz".
fn beside(file: &Path) -> Result<Files, Error> {
    let directory = parent(file);
    let failed = |error| Error::Input(directory.to_owned(), error);
    let own = [file.file_name().unwrap_or_default().as_bytes(), b"."].concat();
    let mut approvals = Vec::new();
    for entry in directory.read_dir().map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let rest = name.as_bytes().strip_prefix(own.as_slice());
        let person = rest.and_then(|rest| rest.strip_suffix(APPROVAL.as_bytes()));
        if person.is_some_and(|person| !person.is_empty() && !person.contains(&b'.')) {
            approvals.push(file.with_file_name(name));
        }
    }
    approvals.sort();
    let endorsement = Some(endorsement(file)).filter(|path| path.symlink_metadata().is_ok());
    Ok(Files { endorsement, approvals, break_glass: Vec::new() })
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
