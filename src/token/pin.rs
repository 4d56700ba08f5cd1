//! The PIN: read once, locked in memory, wiped after use, and tried once by all sessions together.

use super::{Fault, printable};
use crate::config::values::Name;
use crate::sandbox::Profile;
use crate::state::{self, State};
use crate::sys;
use crate::trusted;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{FileStat, Mode};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

/// The longest PIN file in bytes.
const MAX_PIN: usize = 256;

/// Opens /dev/null as 0, 1 and 2: modules print. Where there is no module there need not be a /dev/null: what can neither be read nor
/// written then keeps the numbers.
pub(super) fn occupy_standard_descriptors(profile: Profile) -> Result<(), Fault> {
    let (path, flags) = match profile {
        Profile::P11Kit => ("/", OFlag::O_PATH),
        _ => ("/dev/null", OFlag::O_RDWR),
    };
    let failed = |error: Errno| Fault::Files(printable(&format!("cannot open {path}: {}", error.desc().to_lowercase())));
    // The lowest free descriptors are handed out: the fork has closed all three.
    for _ in 0..3 {
        std::mem::forget(openat(AT_FDCWD, path, flags, Mode::empty()).map_err(failed)?);
    }
    Ok(())
}

/// The PIN itself: locked in memory, and wiped when it goes.
pub struct Pin {
    bytes: Zeroizing<Vec<u8>>,
    owner: u32,
}

impl Pin {
    /// For the token alone.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The user whose file it came from.
    pub(super) fn owner(&self) -> u32 {
        self.owner
    }
}

/// Reads the PIN: the file's first line. Also returns what identifies this content of the file.
pub(super) fn read(path: &Path) -> Result<(Pin, String), Fault> {
    let opened = trusted::open(path)?;
    trusted::is_secret(path, &opened.stat)?;
    let mut buffer = Zeroizing::new([0; MAX_PIN]);
    let _ = sys::lock_memory(&buffer[..]);
    let mut length = 0;
    let mut file = opened.file;
    loop {
        match file.read(buffer.get_mut(length..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Fault::Files(printable(&format!("cannot read the PIN file: {error}")))),
        }
    }
    let line = buffer.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    if length == MAX_PIN || line.first().is_none_or(|byte| *byte == 0) {
        return Err(Fault::Files(printable(&"the PIN file holds no PIN on its first line")));
    }
    let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
    // Exactly as long as needed: no copy is left behind by growing.
    let mut pin = Zeroizing::new(Vec::with_capacity(line.len()));
    pin.extend_from_slice(line);
    let _ = sys::lock_memory(&pin);
    Ok((Pin { bytes: pin, owner: opened.stat.st_uid }, identify(&opened.stat)))
}

/// Changes whenever somebody writes the file, and says nothing about the PIN.
fn identify(stat: &FileStat) -> String {
    format!("{}:{}:{}.{:09}:{}", stat.st_dev, stat.st_ino, stat.st_ctime, stat.st_ctime_nsec, stat.st_size)
}

/// What is known about a token's PIN file, shared by all sessions: a small file in the state directory.
pub struct Marker {
    file: File,
    pin_file: String,
}

/// The logins of a session. What is known of the PIN is known for each: a token may have another one for the second.
#[derive(Clone, Copy)]
pub(super) enum Login {
    /// As CKU_USER.
    First,
    /// As CKU_CONTEXT_SPECIFIC.
    Again,
}

/// The turn to log in: one session at a time does, and changes the marker.
pub struct Turn<'a> {
    marker: &'a Marker,
    login: Login,
    _turn: state::Turn<'a>,
}

/// What a login says of the PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was accepted.
    Right,
    /// It was refused.
    Wrong,
    /// It failed, perhaps because of the PIN: counts as refused for a PIN that was never accepted.
    Doubtful,
    /// It did not come to the PIN.
    Unknown,
}

/// A record of the marker, for each login one, is one line of fixed length, written in one piece.
const RECORD: usize = 128;

fn offset(login: Login) -> u64 {
    match login {
        Login::First => 0,
        Login::Again => RECORD as u64,
    }
}

impl Marker {
    /// Opens the token's marker, and makes it at first.
    pub(super) fn open(state: &Path, token: &Name, pin_file: &str) -> Result<Marker, Fault> {
        let file = State::open(state)?.file(&format!("pin.{token}"))?;
        Ok(Marker { file, pin_file: pin_file.to_owned() })
    }

    /// Its descriptor's number.
    pub(super) fn number(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Waits for the turn to log in.
    pub(super) fn turn(&self, login: Login, patience: Duration) -> Result<Turn<'_>, Fault> {
        Ok(Turn { marker: self, login, _turn: state::turn(&self.file, patience)? })
    }
}

impl Turn<'_> {
    /// Refuses a PIN known to be wrong, for whichever login.
    pub(super) fn refuse_tried(&self) -> Result<(), Fault> {
        let tried = self.record("tried");
        let is_tried = self.read(Login::First)? == tried || self.read(Login::Again)? == tried;
        if is_tried { Err(Fault::PinTried) } else { Ok(()) }
    }

    /// Right before a login: a PIN that was never accepted is marked as tried, so that a session that dies in its login leaves a PIN
    /// that nobody tries again.
    pub(super) fn mark(&self) -> Result<(), Fault> {
        if self.read(self.login)? == self.record("good") { Ok(()) } else { self.write("tried") }
    }

    /// After a login. What was marked before it stays, unless more is known now.
    pub(super) fn after(&self, verdict: Verdict) -> Result<(), Fault> {
        let record = self.read(self.login)?;
        match verdict {
            Verdict::Right if record != self.record("good") => self.write("good"),
            Verdict::Wrong => self.write("tried"),
            Verdict::Unknown if record == self.record("tried") => self.write("unknown"),
            Verdict::Right | Verdict::Doubtful | Verdict::Unknown => Ok(()),
        }
    }

    fn read(&self, login: Login) -> Result<[u8; RECORD], Fault> {
        let mut record = [0; RECORD];
        let failed = |error| Fault::Files(printable(&format!("cannot read the PIN marker: {error}")));
        self.marker.file.read_at(&mut record, offset(login)).map_err(failed)?;
        Ok(record)
    }

    fn record(&self, verdict: &str) -> [u8; RECORD] {
        let mut record = [b' '; RECORD];
        for (to, from) in record.iter_mut().zip(format!("{verdict} {}", self.marker.pin_file).bytes()) {
            *to = from;
        }
        if let Some(last) = record.last_mut() {
            *last = b'\n';
        }
        record
    }

    fn write(&self, verdict: &str) -> Result<(), Fault> {
        let failed = |error| Fault::Files(printable(&format!("cannot write the PIN marker: {error}")));
        let written = self.marker.file.write_all_at(&self.record(verdict), offset(self.login));
        written.and_then(|()| self.marker.file.sync_data()).map_err(failed)
    }
}
