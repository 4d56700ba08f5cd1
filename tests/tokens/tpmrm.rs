//! `tpmrm DEVICE SOCKET [raw]`: a file that is to its users what the kernel's /dev/tpmrm0 is, in front of a swtpm that listens on SOCKET.
//! For the tests alone: machines without a TPM have neither the device nor a module that makes one.
//!
//! DEVICE is an existing file; a FUSE file system of that one file covers it, with its owner and mode. Each open of it has objects and
//! sessions of its own, which no other open sees, and which are gone when it is closed: as the kernel does it (drivers/char/tpm/tpm2-space.c),
//! by saving their contexts after each command and loading them before the next. `raw` leaves that out, as /dev/tpm0 does.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::{env, fs};

const CONTEXT_LOAD: u32 = 0x161;
const CONTEXT_SAVE: u32 = 0x162;
const FLUSH_CONTEXT: u32 = 0x165;
const GET_CAPABILITY: u32 = 0x17a;

/// The first byte of a handle tells its kind (TPM 2.0 Part 2, 7.2).
const TRANSIENT: u32 = 0x80;
const SESSIONS: [u32; 2] = [0x02, 0x03];

fn main() {
    let arguments = env::args().skip(1).collect::<Vec<_>>();
    let (device, socket) = (&arguments[0], &arguments[1]);
    let stat = fs::metadata(device).expect("the file to cover");
    let mut fuse = File::options().read(true).write(true).open("/dev/fuse").expect("/dev/fuse");
    let options = "fd=0,rootmode=100000,user_id=0,group_id=0,allow_other,default_permissions";
    let mut mount = Command::new("mount");
    mount.args(["-i", "-t", "fuse", "-o", options, "tpmrm", device]).stdin(fuse.try_clone().unwrap());
    assert!(mount.status().unwrap().success());
    let mut tpm = Tpm::connect(socket, arguments.len() > 2);
    let mut opened = HashMap::new();
    let mut buffer = vec![0; 1 << 18];
    while let Ok(length) = fuse.read(&mut buffer) {
        let (opcode, unique) = (number(&buffer, 4), buffer[8..16].to_vec());
        let Some(answer) = answer(opcode, &buffer[40..length], &stat, &mut tpm, &mut opened) else { continue };
        let (error, body) = answer.map_or_else(|errno| (-errno, vec![]), |body| (0, body));
        let header = [&(16 + body.len() as u32).to_ne_bytes()[..], &error.to_ne_bytes(), &unique];
        // Whoever asked may be gone.
        let _ = fuse.write(&[&header.concat()[..], &body].concat());
    }
}

/// One request of FUSE (include/uapi/linux/fuse.h). `None` where no answer is awaited.
fn answer(
    opcode: u32,
    body: &[u8],
    stat: &Metadata,
    tpm: &mut Tpm,
    opened: &mut HashMap<u64, Space>,
) -> Option<Result<Vec<u8>, i32>> {
    const STREAM_WITHOUT_CACHE: u32 = 1 | 4 | 16;
    let handle = body.get(..8).map_or(0, |bytes| u64::from_ne_bytes(bytes.try_into().unwrap()));
    Some(match opcode {
        // INIT: version 7.31, and the largest write.
        26 => Ok(words(&[7, 31, 0, 0, 0, 4096, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        // GETATTR
        3 => {
            Ok([&words(&[60, 0, 0, 0, 1, 0])[..], &[0; 52], &words(&[stat.mode(), 1, stat.uid(), stat.gid(), 0, 4096, 0])].concat())
        }
        // OPEN
        14 => {
            let new = (1..).find(|handle| !opened.contains_key(handle)).unwrap();
            opened.insert(new, Space::default());
            Ok([&new.to_ne_bytes()[..], &words(&[STREAM_WITHOUT_CACHE, 0])].concat())
        }
        // READ: what is left of the answer.
        15 => {
            let left = &mut opened.get_mut(&handle).unwrap().answer;
            let take = left.len().min(number(body, 16) as usize);
            Ok(left.drain(..take).collect())
        }
        // WRITE: a command.
        16 => {
            let space = opened.get_mut(&handle).unwrap();
            let size = number(body, 16);
            match space.command(tpm, &body[40..]) {
                Ok(answer) => {
                    space.answer = answer;
                    Ok(words(&[size, 0]))
                }
                Err(_) => Err(5),
            }
        }
        // RELEASE
        18 => {
            let _ = opened.remove(&handle).unwrap().end(tpm);
            Ok(vec![])
        }
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return None,
        // ENOSYS; of poll it says that there is always something to read, and read waits.
        _ => Err(38),
    })
}

/// The TPM itself.
struct Tpm {
    stream: UnixStream,
    raw: bool,
    /// By code: how many handles a command takes, and whether it answers with one.
    commands: HashMap<u32, (usize, bool)>,
}

impl Tpm {
    fn connect(socket: &str, raw: bool) -> Tpm {
        let mut tpm = Tpm { stream: UnixStream::connect(socket).expect("swtpm"), raw, commands: HashMap::new() };
        // TPM_CAP_COMMANDS, from the first, all.
        let all = tpm.call(GET_CAPABILITY, &[2u32, 0x11f, 256].map(u32::to_be_bytes).concat()).expect("the TPM's commands");
        for attributes in all[9..].chunks_exact(4).map(|bytes| be(bytes, 0)) {
            tpm.commands.insert(attributes & 0xffff, ((attributes >> 25 & 7) as usize, attributes >> 28 & 1 == 1));
        }
        tpm
    }

    fn transmit(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.stream.write_all(command)?;
        let mut answer = vec![0; 10];
        self.stream.read_exact(&mut answer)?;
        let mut rest = vec![0; be(&answer, 2) as usize - 10];
        self.stream.read_exact(&mut rest)?;
        Ok([answer, rest].concat())
    }

    /// A command without sessions. An error is its code.
    fn call(&mut self, code: u32, parameters: &[u8]) -> io::Result<Vec<u8>> {
        let length = 10 + parameters.len() as u32;
        let answer = self.transmit(&[&[0x80, 1][..], &length.to_be_bytes(), &code.to_be_bytes(), parameters].concat())?;
        match be(&answer, 6) {
            0 => Ok(answer[10..].to_vec()),
            code => Err(io::Error::other(format!("{code:#x}"))),
        }
    }
}

/// What one open of the device has in the TPM.
#[derive(Default)]
struct Space {
    answer: Vec<u8>,
    /// Saved contexts, under handles of our own.
    objects: HashMap<u32, Vec<u8>>,
    /// The same of sessions, which keep their handles.
    sessions: HashMap<u32, Vec<u8>>,
}

impl Space {
    fn command(&mut self, tpm: &mut Tpm, command: &[u8]) -> io::Result<Vec<u8>> {
        if tpm.raw {
            return tpm.transmit(command);
        }
        let code = be(command, 6);
        let (handles, answers_one) = tpm.commands.get(&code).copied().unwrap_or_default();
        let handles = if code == FLUSH_CONTEXT { 1 } else { handles };
        let mut loaded = HashMap::new();
        for (own, context) in &self.objects {
            loaded.insert(*own, be(&tpm.call(CONTEXT_LOAD, context)?, 0));
        }
        for context in self.sessions.values() {
            tpm.call(CONTEXT_LOAD, context)?;
        }
        let mut command = command.to_vec();
        let first = be(&command, 10.min(command.len() - 4));
        for place in (0..handles).map(|index| 10 + 4 * index) {
            if let Some(real) = loaded.get(&be(&command, place)) {
                command[place..place + 4].copy_from_slice(&real.to_be_bytes());
            }
        }
        let mut answer = tpm.transmit(&command)?;
        if be(&answer, 6) == 0 && code == FLUSH_CONTEXT {
            loaded.remove(&first);
            self.objects.remove(&first);
            self.sessions.remove(&first);
        } else if be(&answer, 6) == 0 && answers_one {
            let real = be(&answer, 10);
            if real >> 24 == TRANSIENT {
                let own = (0..).map(|number| 0x80ff_ffff - number).find(|own| !loaded.contains_key(own)).unwrap();
                loaded.insert(own, real);
                answer[10..14].copy_from_slice(&own.to_be_bytes());
            } else if SESSIONS.contains(&(real >> 24)) {
                self.sessions.insert(real, vec![]);
            }
        }
        // What the command has ended cannot be saved any more.
        self.objects.clear();
        for (own, real) in loaded {
            let Ok(context) = tpm.call(CONTEXT_SAVE, &real.to_be_bytes()) else { continue };
            self.objects.insert(own, context);
            tpm.call(FLUSH_CONTEXT, &real.to_be_bytes())?;
        }
        self.sessions =
            self.sessions.keys().filter_map(|own| Some((*own, tpm.call(CONTEXT_SAVE, &own.to_be_bytes()).ok()?))).collect();
        Ok(answer)
    }

    fn end(self, tpm: &mut Tpm) -> io::Result<()> {
        for session in self.sessions.keys() {
            tpm.call(FLUSH_CONTEXT, &session.to_be_bytes())?;
        }
        Ok(())
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn be(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}
