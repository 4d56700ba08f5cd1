//! journald's native protocol, through a sender whose errors are seen: a record is accepted, or there is no signature.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::channel;
use crate::trusted;
use nix::poll::PollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType};

/// How long a full queue is waited for. A journald that is alive empties it in milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much longer for each record, where many are sent: several times of what journald takes for one.
const EACH: Duration = Duration::from_millis(20);

/// The longest record in bytes. The values are cut so that they fit together.
const MAX_RECORD: usize = 4096;

/// Why a record was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Nobody has said yet where the journal is.
    #[error("the journal is not open")]
    Unopened,
    /// The socket is not there, or nobody listens.
    #[error("cannot connect to the journal's socket: {0}")]
    Connect(String),
    /// The queue stayed full: journald hangs.
    #[error("the journal takes no records: its queue stays full")]
    Full,
    /// The system refused.
    #[error("cannot send a record to the journal: {0}")]
    Send(String),
}

/// A connection to journald.
pub struct Journal(UnixDatagram);

impl Journal {
    /// Connects to a socket that only root, or the account, can have put there.
    ///
    /// # Errors
    /// [`JournalError::Connect`].
    pub fn open(socket: &Path) -> Result<Journal, JournalError> {
        Journal::connect(&trusted::reach(socket, None).map_err(|error| JournalError::Connect(error.to_string()))?)
    }

    fn connect(socket: &Path) -> Result<Journal, JournalError> {
        let failed = |error: std::io::Error| JournalError::Connect(error.to_string());
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let connection = nix::sys::socket::socket(AddressFamily::Unix, SockType::Datagram, flags, None);
        let connection = UnixDatagram::from(connection.map_err(std::io::Error::from).map_err(failed)?);
        connection.connect(socket).map_err(failed)?;
        Ok(Journal(connection))
    }

    /// Sends records, as [`encode`] has made them, in order.
    ///
    /// # Errors
    /// [`JournalError::Full`], [`JournalError::Send`]: the first of them may have been sent.
    pub fn send(&self, records: &[Vec<u8>]) -> Result<(), JournalError> {
        let number = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let deadline = channel::after(PATIENCE.saturating_add(EACH.saturating_mul(number)));
        records.iter().try_for_each(|record| self.send_one(record, deadline))
    }

    fn send_one(&self, record: &[u8], deadline: Instant) -> Result<(), JournalError> {
        loop {
            match self.0.send(record) {
                Ok(sent) if sent == record.len() => return Ok(()),
                Ok(sent) => return Err(JournalError::Send(format!("only {sent} of {} bytes went", record.len()))),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                    let _ = channel::wait([(self.0.as_fd(), PollFlags::POLLOUT)], deadline);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(JournalError::Full),
                Err(error) => return Err(JournalError::Send(error.to_string())),
            }
        }
    }
}

/// Makes a record of fields: `KEY=value\n`, or for a value with a newline `KEY\n`, its length in 8 bytes, the value, `\n`. A field that no longer fits is left out
/// whole.
pub fn encode(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut record = Vec::new();
    for (name, value) in fields {
        if record.len() + name.len() + value.len() + 10 > MAX_RECORD {
            continue;
        }
        record.extend(name.bytes());
        if value.contains('\n') {
            record.push(b'\n');
            record.extend((value.len() as u64).to_le_bytes());
        } else {
            record.push(b'=');
        }
        record.extend(value.bytes());
        record.push(b'\n');
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_break_out_of_their_field() {
        assert_eq!(encode(&[("A", "b"), ("C", "d\nE=f")]), b"A=b\nC\n\x05\0\0\0\0\0\0\0d\nE=f\n");
    }

    #[test]
    fn a_record_is_bounded() {
        let long = "x".repeat(MAX_RECORD);
        assert_eq!(encode(&[("A", &long), ("B", "c")]), b"B=c\n");
    }

    #[test]
    fn an_absent_socket_and_a_full_queue_are_errors_in_bounded_time() {
        let directory = std::env::temp_dir().join(format!("sigsh-journal-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        assert!(matches!(Journal::connect(&path), Err(JournalError::Connect(_))));
        let _listener = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::connect(&path).unwrap();
        let began = Instant::now();
        let full = (0..10_000).find_map(|_| journal.send(&[b"MESSAGE=x\n".to_vec()]).err());
        assert_eq!(full, Some(JournalError::Full));
        assert!(began.elapsed() < 5 * PATIENCE);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
