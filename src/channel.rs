//! Messages between the processes: one SOCK_SEQPACKET packet each, bounded, and decoded as if an enemy had written it.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::time::TimeSpec;
use serde::{Serialize, de::DeserializeOwned};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// The longest message in bytes: a file's name of 4000 bytes with sixteen hash states fits well.
pub const MAX_MESSAGE: usize = 8192;

/// How long a peer may leave its messages unread, where the sender does not wait for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// What can go wrong with a peer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The peer has closed its end, most likely by dying.
    #[error("the process is gone")]
    Gone,
    /// The peer sent what is not a message, or one that is too long.
    #[error("the process sent nonsense")]
    Nonsense,
    /// The system refused.
    #[error("cannot talk to the process: {0}")]
    System(#[from] Errno),
}

/// One end of a pair of connected sockets.
pub struct Channel(OwnedFd);

impl Channel {
    /// Two connected ends.
    ///
    /// # Errors
    /// What `socketpair(2)` says.
    pub fn pair() -> Result<(Channel, Channel), Errno> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Channel(ours), Channel(theirs)))
    }

    /// Never waits for the peer, but in [`Channel::receive`] and, for no longer than it is patient, in [`Channel::send`].
    ///
    /// # Errors
    /// What `fcntl(2)` says.
    pub fn do_not_block(&self) -> Result<(), Errno> {
        fcntl(&self.0, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop)
    }

    /// Sends one message, without allocating.
    ///
    /// # Errors
    /// [`ChannelError::Gone`] when nobody is there, [`ChannelError::Nonsense`] when it does not fit a packet.
    pub fn send(&self, message: &impl Serialize) -> Result<(), ChannelError> {
        let mut packet = [0; MAX_MESSAGE];
        let packet = postcard::to_slice(message, &mut packet).map_err(|_| ChannelError::Nonsense)?;
        loop {
            match nix::unistd::write(&self.0, packet) {
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(ChannelError::Gone),
                Err(Errno::EAGAIN) if wait([(self.as_fd(), PollFlags::POLLOUT)], after(PATIENCE))? == [true] => {}
                Err(error) => return Err(error.into()),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Waits for one message.
    ///
    /// # Errors
    /// Any [`ChannelError`].
    pub fn receive<M: DeserializeOwned>(&self) -> Result<M, ChannelError> {
        loop {
            if let Some(message) = self.look()? {
                return Ok(message);
            }
            wait([(self.as_fd(), PollFlags::POLLIN)], after(PATIENCE))?;
        }
    }

    /// Takes one message; `None` where it does not block, and there is none.
    ///
    /// # Errors
    /// Any [`ChannelError`].
    pub fn look<M: DeserializeOwned>(&self) -> Result<Option<M>, ChannelError> {
        // One byte more than a message may have, so that a longer one, which the kernel cuts off, is seen.
        let mut packet = [0; MAX_MESSAGE + 1];
        let length = loop {
            match nix::unistd::read(&self.0, &mut packet) {
                // The kernel tells once that the peer left something unread, before the peer's own last messages.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
                Ok(length) => break length,
            }
        };
        match packet.get(..length) {
            None | Some([]) => Err(ChannelError::Gone),
            Some(packet) => decode(packet).map(Some),
        }
    }

    /// The descriptor's number, for the filter that binds `write` to it.
    pub fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Decodes one message, and nothing behind it.
///
/// # Errors
/// [`ChannelError::Nonsense`].
pub fn decode<M: DeserializeOwned>(packet: &[u8]) -> Result<M, ChannelError> {
    match postcard::take_from_bytes(packet) {
        Ok((message, [])) if packet.len() <= MAX_MESSAGE => Ok(message),
        _ => Err(ChannelError::Nonsense),
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until one of `fds` has something to say, be it that its other end is gone; tells which have.
/// All are false when `deadline` has passed.
///
/// # Errors
/// What `ppoll(2)` says, but for interruptions.
pub fn wait<const N: usize>(fds: [(BorrowedFd<'_>, PollFlags); N], deadline: Instant) -> Result<[bool; N], Errno> {
    let mut polled = fds.map(|(fd, events)| PollFd::new(fd, events));
    poll(&mut polled, deadline)?;
    Ok(polled.map(|fd| says(&fd)))
}

/// The same for as many as there are.
///
/// # Errors
/// As [`wait`].
pub fn wait_for<'a>(fds: impl Iterator<Item = &'a Channel>, deadline: Instant) -> Result<Vec<bool>, Errno> {
    let mut polled = fds.map(|channel| PollFd::new(channel.as_fd(), PollFlags::POLLIN)).collect::<Vec<_>>();
    poll(&mut polled, deadline)?;
    Ok(polled.iter().map(says).collect())
}

fn says(fd: &PollFd<'_>) -> bool {
    fd.revents().is_none_or(|events| !events.is_empty())
}

fn poll(fds: &mut [PollFd<'_>], deadline: Instant) -> Result<(), Errno> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match ppoll(fds, Some(TimeSpec::from_duration(left)), None) {
            Err(Errno::EINTR) => {}
            polled => return polled.map(drop),
        }
    }
}

/// The moment this long from now.
pub fn after(duration: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(duration).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_whole() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&("words", 7u64)).unwrap();
        assert_eq!(b.receive::<(String, u64)>(), Ok(("words".to_owned(), 7)));
    }

    #[test]
    fn nonsense_is_an_error() {
        let (a, b) = Channel::pair().unwrap();
        for packet in [&b"\xff\xff"[..], b"\x01x\x00\x00", &[b'x'; MAX_MESSAGE + 1], &[b'x'; MAX_MESSAGE * 4]] {
            nix::unistd::write(&a, packet).unwrap();
            assert_eq!(b.receive::<(String, u8)>(), Err(ChannelError::Nonsense), "{packet:?}");
        }
        drop(a);
        assert_eq!(b.receive::<String>(), Err(ChannelError::Gone));
        assert_eq!(b.send(&"late"), Err(ChannelError::Gone));
    }

    #[test]
    fn the_last_words_of_a_peer_that_did_not_listen_arrive() {
        let (a, b) = Channel::pair().unwrap();
        a.do_not_block().unwrap();
        a.send(&1).unwrap();
        b.send(&2).unwrap();
        drop(b);
        assert_eq!((a.look(), a.look::<i32>()), (Ok(Some(2)), Err(ChannelError::Gone)));
    }

    #[test]
    fn what_does_not_fit_is_not_sent() {
        let (a, _b) = Channel::pair().unwrap();
        assert_eq!(a.send(&"x".repeat(MAX_MESSAGE)), Err(ChannelError::Nonsense));
    }

    #[test]
    fn waiting_ends() {
        let (a, _b) = Channel::pair().unwrap();
        assert_eq!(wait([(a.as_fd(), PollFlags::POLLIN)], Instant::now()), Ok([false]));
    }
}
