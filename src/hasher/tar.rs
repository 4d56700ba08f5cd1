//! A tar, read as it comes: names and contents of its files. Nothing here allocates once it is made.
//!
//! What is signed goes by the names that are found here, next to files that another program takes out of the same tar. So whatever GNU tar
//! and libarchive read differently is refused, and whatever else is not a plain way to say "a file".
//! The crate `tar` will not do: its errors allocate, and it cuts extended headers at each line feed, which a name may have.

mod header;
mod pax;
mod read;
mod sparse;
#[cfg(test)]
mod tests;

use super::{Fault, Source};
use header::{Format, Header, padding};
use pax::{Pax, Sparse};
use read::{end, pass, zeros};
use sparse::Map;

/// The longest name in bytes.
pub const MAX_NAME: usize = 4000;

/// The longest extended header, or GNU's long name, in bytes.
pub const MAX_EXTENSION: usize = 64 * 1024;

/// How many headers there may be before the one that they belong to. libarchive gives up at 32, and goes on in the middle.
const MOST_BEFORE: usize = 16;

/// A reader of one archive.
pub struct Tar {
    name: Vec<u8>,
    extension: Vec<u8>,
    map: Map,
    begun: bool,
    /// What is to be read behind the data of the entry, if that was not taken yet.
    padding: Option<u64>,
}

/// What was said of the next entry before its own header.
#[derive(Default)]
struct Said {
    /// By an extended header.
    pax: bool,
    /// By GNU's headers for a long name, and for the long name that a link leads to.
    long: bool,
    long_link: bool,
    named: bool,
    link: bool,
    size: Option<u64>,
    sparse: Option<Sparse>,
}

impl Tar {
    /// One that has not begun, with all memory that it ever needs: about 1.2 MB, of which is touched what is used.
    #[expect(clippy::new_without_default, reason = "nobody wants a default one")]
    pub fn new() -> Tar {
        let (name, extension) = (Vec::with_capacity(MAX_NAME), Vec::with_capacity(MAX_EXTENSION));
        Tar { name, extension, map: Map::new(), begun: false, padding: None }
    }

    /// Goes to the next file, past what was not taken of the one before, and past directories. False at the end, when all has been read.
    ///
    /// # Errors
    /// Those of the source, and [`Fault`]s that begin with `Tar`; nothing can be read after one. [`Tar::name`] is then that of the
    /// entry, or empty.
    pub fn next(&mut self, source: &mut impl Source) -> Result<bool, Fault> {
        self.content(source, |_| Ok(()))?;
        self.forget();
        let (mut said, mut before) = (Said::default(), 0);
        loop {
            let Some(header) = Header::read(source)? else {
                return if said.pax || said.long || said.long_link {
                    Err(Fault::TarAmbiguous)
                } else {
                    end(source).map(|()| false)
                };
            };
            if !std::mem::replace(&mut self.begun, true) && !header.begins_tar() {
                return Err(Fault::TarAmbiguous);
            }
            before += usize::from(b"xgLK".contains(&header.kind()));
            match header.kind() {
                _ if before > MOST_BEFORE => return Err(Fault::TarAmbiguous),
                b'x' | b'g' if said.pax || said.long || said.long_link => return Err(Fault::TarAmbiguous),
                b'L' if said.pax || said.long => return Err(Fault::TarAmbiguous),
                b'K' if said.pax || said.long_link => return Err(Fault::TarAmbiguous),
                b'x' => said = self.extended(&header, source)?,
                b'g' => pax::global(self.extension(&header, source)?)?,
                b'L' => (said.long, said.named) = (true, self.long_name(&header, source)?),
                b'K' => {
                    self.extension(&header, source)?;
                    (said.long_link, said.link) = (true, true);
                }
                _ if self.entry(&header, &said, source)? => return Ok(true),
                _ => {
                    self.forget();
                    (said, before) = (Said::default(), 0);
                }
            }
        }
    }

    /// The file's name as the archive has it, with any bytes but NUL: relative, without `..`.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The file's size in bytes, holes and all.
    pub fn size(&self) -> u64 {
        self.map.size
    }

    /// How many of these bytes come, the others being holes.
    pub fn stored(&self) -> u64 {
        self.map.stored
    }

    /// Hands on the file's content, once: in pieces of any length, holes as zeros.
    ///
    /// # Errors
    /// Those of the source and of `give`, and [`Fault::TarCut`].
    pub fn content(&mut self, source: &mut impl Source, mut give: impl FnMut(&[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
        let Some(padding) = self.padding.take() else { return Ok(()) };
        let mut at = 0;
        for region in &self.map.regions {
            zeros(region.offset.saturating_sub(at), &mut give)?;
            pass(source, region.length, &mut give)?;
            at = region.offset.saturating_add(region.length);
        }
        zeros(self.map.size.saturating_sub(at), &mut give)?;
        pass(source, padding, |_| Ok(()))
    }

    fn forget(&mut self) {
        self.name.clear();
        self.map.clear();
    }

    /// An entry's own header. Whether it is a file; a directory is none.
    fn entry(&mut self, header: &Header, said: &Said, source: &mut impl Source) -> Result<bool, Fault> {
        if !said.named {
            let (prefix, name) = header.name();
            let slash: &[u8] = if prefix.is_empty() { b"" } else { b"/" };
            set(&mut self.name, &[prefix, slash, name])?;
        }
        let directory = match header.kind() {
            // Before there was a letter for directories.
            0 | b'0' => header.format == Format::V7 && self.name.ends_with(b"/"),
            b'5' => true,
            b'7' | b'S' => false,
            b'1' | b'2' => return Err(Fault::TarLink),
            b'3' | b'4' | b'6' => return Err(Fault::TarDevice),
            _ => return Err(Fault::TarKind),
        };
        // A file that is said to lead elsewhere is none that any program writes.
        if said.link || header.has_link() {
            return Err(Fault::TarLink);
        }
        let stored = header.size(said.size)?;
        if directory {
            check_below(&self.name)?;
            // Data to some programs, and the next entry to others.
            return if stored == 0 && said.sparse.is_none() { Ok(false) } else { Err(Fault::TarAmbiguous) };
        }
        check_name(&self.name)?;
        match (said.sparse, header.kind()) {
            (None, b'S') if header.format == Format::Gnu && !said.pax => self.map.old(header, stored, source)?,
            (_, b'S') => return Err(Fault::TarAmbiguous),
            _ if header.is_sparse() => return Err(Fault::TarAmbiguous),
            (None, _) => self.map.plain(stored)?,
            (Some(_), kind) if kind != b'0' || !header.is_posix() => return Err(Fault::TarAmbiguous),
            (Some(Sparse::Front(size)), _) => self.map.front(size, stored, source)?,
            (Some(Sparse::Known(size)), _) => self.map.finish(size, stored)?,
        }
        self.padding = Some(padding(stored));
        Ok(true)
    }

    fn extended(&mut self, header: &Header, source: &mut impl Source) -> Result<Said, Fault> {
        self.extension(header, source)?;
        let pax = Pax::read(&self.extension, &mut self.map)?;
        if let Some(name) = pax.name() {
            set(&mut self.name, &[name])?;
        }
        let (named, link) = (pax.name().is_some(), pax.link.is_some());
        let sparse = pax.sparse(&mut self.map)?;
        Ok(Said { pax: true, named, link, size: pax.size, sparse, ..Said::default() })
    }

    fn long_name(&mut self, header: &Header, source: &mut impl Source) -> Result<bool, Fault> {
        self.extension(header, source)?;
        let name = self.extension.strip_suffix(b"\0").unwrap_or(&self.extension);
        set(&mut self.name, &[name])?;
        Ok(true)
    }

    /// The data of a header that belongs to another.
    fn extension(&mut self, header: &Header, source: &mut impl Source) -> Result<&[u8], Fault> {
        let size = header.size(None)?;
        if size > MAX_EXTENSION as u64 {
            return Err(Fault::TarLarge);
        }
        self.extension.clear();
        pass(source, size, |piece| {
            self.extension.extend_from_slice(piece);
            Ok(())
        })?;
        pass(source, padding(size), |_| Ok(()))?;
        Ok(&self.extension)
    }
}

/// Puts a name together where there is room for it.
fn set(name: &mut Vec<u8>, parts: &[&[u8]]) -> Result<(), Fault> {
    name.clear();
    if parts.iter().map(|part| part.len()).sum::<usize>() > MAX_NAME {
        return Err(Fault::TarName);
    }
    parts.iter().for_each(|part| name.extend_from_slice(part));
    Ok(())
}

/// A name that stays below the directory where it is used, and is a file's.
pub(super) fn check_name(name: &[u8]) -> Result<(), Fault> {
    let last = name.rsplit(|byte| *byte == b'/').next();
    if matches!(last, None | Some(b"" | b".")) { Err(Fault::TarName) } else { check_below(name) }
}

/// A name that stays below the directory where it is used.
fn check_below(name: &[u8]) -> Result<(), Fault> {
    let good = !name.is_empty() && !name.starts_with(b"/") && !name.contains(&0) && name.len() <= MAX_NAME;
    let stays = name.split(|byte| *byte == b'/').all(|part| part != b"..");
    (good && stays).then_some(()).ok_or(Fault::TarName)
}
