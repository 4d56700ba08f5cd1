//! The way to a p11-kit server, and who is at its end: nobody else is told anything, let alone the PIN.

use crate::channel::{self, after};
use crate::config::who::UnixUser;
use crate::token::{Fault, printable};
use crate::trusted;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a pause one makes whom a server with too many guests has not let in.
const PAUSE: Duration = Duration::from_millis(20);

/// Connects to the server on this socket. It must run as root (so does whoever listens for it, as systemd does), as this account, or
/// as the user whose PIN it is: `owner` owns the PIN file.
///
/// # Errors
/// [`Fault::Trust`] where it runs as somebody else, or where somebody else could have put it there; [`Fault::Full`] when it has let
/// nobody in for as long as `patience`; [`Fault::Files`], [`Fault::Module`].
pub fn reach(path: &Path, account: Option<&UnixUser>, owner: u32, patience: Duration) -> Result<File, Fault> {
    let unknown = || Fault::Trust(printable(&"the server-account is not in /etc/passwd"));
    let account = account.map(|account| account.id().ok_or_else(unknown)).transpose()?;
    let path = trusted::reach(path, account)?;
    let stream = open(&path, patience)?;
    let uid = getsockopt(&stream, PeerCredentials).map_err(|errno| failed(&path, errno))?.uid();
    if uid == 0 || Some(uid) == account || uid == owner {
        Ok(stream)
    } else {
        let who = "it must be root or the server-account";
        Err(Fault::Trust(printable(&format!("the server at {} runs as user {uid}; {who}", path.display()))))
    }
}

fn open(path: &Path, patience: Duration) -> Result<File, Fault> {
    let connected = || {
        let address = UnixAddr::new(path)?;
        // A server with a full queue would block us for ever.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        let until = after(patience);
        loop {
            match connect(socket.as_raw_fd(), &address) {
                Err(Errno::EAGAIN | Errno::EINTR) if Instant::now() < until => drop(channel::wait([], after(PAUSE))?),
                connected => break connected?,
            }
        }
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::empty()))?;
        Ok(File::from(socket))
    };
    connected().map_err(|errno| match errno {
        Errno::EAGAIN | Errno::EINTR => Fault::Full,
        errno => failed(path, errno),
    })
}

fn failed(path: &Path, errno: Errno) -> Fault {
    let why = errno.desc().to_lowercase();
    Fault::Module(printable(&format!("cannot connect to the p11-kit server at {}: {why}", path.display())))
}
