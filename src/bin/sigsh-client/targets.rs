//! Where all signatures of a call go: each to a place of its own, and none over what is signed.

use crate::error::Error;
use crate::input::Input;
use crate::output::{Target, parent};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Demands that no signature takes the place of another one, or of a file that is signed, by whatever path.
///
/// # Errors
/// [`Error::Usage`].
pub(crate) fn distinct<'a>(targets: impl IntoIterator<Item = &'a Target>, inputs: &[Input]) -> Result<(), Error> {
    let signed = inputs.iter().map(Input::number).collect::<HashSet<_>>();
    let mut directories: HashMap<&Path, Option<(u64, u64)>> = HashMap::new();
    let mut places: HashSet<Option<((u64, u64), &OsStr)>> = HashSet::new();
    for target in targets {
        let (place, name) = match target {
            Target::Stdout => (None, "standard output".into()),
            Target::File { path, .. } => {
                let directory = directories.entry(parent(path)).or_insert_with(|| number(parent(path).metadata()));
                if number(path.symlink_metadata()).is_some_and(|number| signed.contains(&number)) {
                    return Err(Error::Usage(format!("{} is one of the files that are signed", path.display())));
                }
                (directory.zip(path.file_name()), path.display().to_string())
            }
        };
        if !places.insert(place) {
            return Err(Error::Usage(format!("two signatures would go to {name}")));
        }
    }
    Ok(())
}

fn number(metadata: std::io::Result<std::fs::Metadata>) -> Option<(u64, u64)> {
    metadata.ok().map(|it| (it.dev(), it.ino()))
}
