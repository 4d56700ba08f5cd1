//! A peer that stands before a p11-kit server, relays what it hears, and answers one call in its own way.

use crate::world::HOME;
use std::fs;
use std::io::{ErrorKind, Read, Result, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// The calls of a signing session, in their order, by the numbers that p11-kit gives them. 0 is the agreement on a version.
pub const CALLS: [(u32, &str); 14] = [
    (0, "the version"),
    (1, "C_Initialize"),
    (4, "C_GetSlotList"),
    (6, "C_GetTokenInfo"),
    (10, "C_OpenSession"),
    (18, "C_Login"),
    (26, "C_FindObjectsInit"),
    (27, "C_FindObjects"),
    (28, "C_FindObjectsFinal"),
    (24, "C_GetAttributeValue"),
    (42, "C_SignInit"),
    (43, "C_Sign"),
    (11, "C_CloseSession"),
    (2, "C_Finalize"),
];

/// What becomes of the answer to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// CKR_… in its place.
    Returns(u64),
    /// Bytes that mean nothing.
    Garbage,
    /// None: the connection is closed.
    Closes,
    /// None, and the connection stays open.
    Silence,
    /// Half of it, and the connection is closed.
    Half,
    /// It comes twice.
    Twice,
    /// That of another call, which nobody made.
    OtherCall,
    /// With the number of another request.
    OtherNumber,
    /// Its header says that it has so many bytes more, but neither less than none nor more than a header can say.
    Length(i64),
    /// With a byte behind its end, which its header counts.
    Longer,
    /// Without its last byte, which its header does not count.
    Shorter,
    /// With options of so many bytes.
    Options(u32),
    /// Byte by byte.
    Bytewise,
    /// With its last byte changed.
    Altered,
}

/// It, at a socket of its own.
pub struct Peer {
    pub socket: PathBuf,
    thread: Option<thread::JoinHandle<()>>,
}

impl Peer {
    /// Stands before the server at `behind` for one connection.
    pub fn start(behind: &Path, call: u32, fault: Fault) -> Peer {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let socket = PathBuf::from(format!("{HOME}/peer{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let listener = UnixListener::bind(&socket).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
        let behind = behind.to_owned();
        let thread = thread::spawn(move || {
            let guest = listener.accept().unwrap().0;
            let relayed = relay(&guest, &UnixStream::connect(behind).unwrap(), call, fault);
            // Whoever was told nonsense goes away.
            let gone = [ErrorKind::UnexpectedEof, ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
            assert!(relayed.as_ref().is_err_and(|error| gone.contains(&error.kind())) || relayed.is_ok(), "{relayed:?}");
        });
        Peer { socket, thread: Some(thread) }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.thread.take().unwrap().join().unwrap();
            fs::remove_file(&self.socket).unwrap();
        }
    }
}

/// Header and body of a frame.
fn frame(mut stream: &UnixStream) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut header = vec![0; 12];
    stream.read_exact(&mut header)?;
    let mut body = vec![0; u32::from_be_bytes(header[8..].try_into().unwrap()) as usize];
    stream.read_exact(&mut body)?;
    Ok((header, body))
}

fn relay(mut guest: &UnixStream, mut server: &UnixStream, call: u32, fault: Fault) -> Result<()> {
    let mut version = [0];
    guest.read_exact(&mut version)?;
    server.write_all(&version)?;
    server.read_exact(&mut version)?;
    let mut due = call != 0;
    if due {
        guest.write_all(&version)?;
    } else if !answer_version(guest, fault)? {
        return Ok(());
    }
    loop {
        let (header, body) = frame(guest)?;
        server.write_all(&[&header[..], &body].concat())?;
        let (answer_header, answer) = frame(server)?;
        // The first time that it is called.
        if due && body[..4] == call.to_be_bytes() {
            due = false;
            if !answer_so(guest, fault, answer_header, answer)? {
                return Ok(());
            }
        } else {
            guest.write_all(&[&answer_header[..], &answer].concat())?;
        }
    }
}

/// Waits until the guest has gone.
fn wait(mut guest: &UnixStream) -> Result<bool> {
    std::io::copy(&mut guest, &mut std::io::sink())?;
    Ok(false)
}

/// Tells whether the connection goes on.
fn answer_version(mut guest: &UnixStream, fault: Fault) -> Result<bool> {
    match fault {
        Fault::Closes | Fault::Half => return Ok(false),
        Fault::Silence => return wait(guest),
        Fault::Twice => guest.write_all(&[0, 0])?,
        _ => guest.write_all(&[77])?,
    }
    Ok(true)
}

/// Tells whether the connection goes on.
fn answer_so(mut guest: &UnixStream, fault: Fault, header: Vec<u8>, body: Vec<u8>) -> Result<bool> {
    let length = |header: &[u8], length: usize| [&header[..8], &(length as u32).to_be_bytes()].concat();
    let whole = |body: &[u8]| [&length(&header, body.len())[..], body].concat();
    let (first, rest) = header.split_at(4);
    let answer = match fault {
        Fault::Returns(value) => whole(&[&[0, 0, 0, 0, 0, 0, 0, 1, b'u'][..], &value.to_be_bytes()].concat()),
        Fault::Garbage => vec![0xa5; 4096],
        Fault::Closes => return Ok(false),
        Fault::Silence => return wait(guest),
        Fault::Half => {
            let answer = whole(&body);
            guest.write_all(&answer[..answer.len() / 2])?;
            return Ok(false);
        }
        Fault::Twice => whole(&body).repeat(2),
        Fault::OtherCall => whole(&[&[0, 0, 0, 29, 0, 0, 0, 0][..], &body[8..]].concat()),
        Fault::OtherNumber => [&(u32::from_be_bytes(first.try_into().unwrap()) + 1).to_be_bytes()[..], rest, &body].concat(),
        Fault::Length(more) => [length(&header, (body.len() as i64 + more).clamp(0, u32::MAX.into()) as usize), body].concat(),
        Fault::Longer => whole(&[&body[..], &[0]].concat()),
        Fault::Shorter => whole(&body[..body.len() - 1]),
        Fault::Options(options) => [first, &options.to_be_bytes(), &rest[4..], &vec![0; options as usize], &body].concat(),
        Fault::Altered => whole(&[&body[..body.len() - 1], &[body[body.len() - 1] ^ 1]].concat()),
        Fault::Bytewise => {
            for byte in whole(&body) {
                guest.write_all(&[byte])?;
            }
            return Ok(true);
        }
    };
    guest.write_all(&answer)?;
    // An answer that is shorter than it says is followed by nothing, or the guest would wait for the rest.
    Ok(!matches!(fault, Fault::Length(1..)))
}
