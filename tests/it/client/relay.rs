//! A way to an sshd that counts connections, and does what networks and busy hosts do.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// Closes each connection at once, as an sshd does that has too many.
pub const CLOSE: u64 = u64::MAX;

/// Takes each connection, and says nothing.
pub const SILENT: u64 = u64::MAX - 1;

/// Lets everything pass.
pub const PASS: u64 = 0;

#[derive(Default)]
struct State {
    mode: AtomicU64,
    now: AtomicUsize,
    most: AtomicUsize,
    total: AtomicUsize,
}

pub struct Relay {
    pub port: u16,
    state: Arc<State>,
}

impl Relay {
    /// To this port of the loopback. Any other number than those above: no more than so many bytes go to the host, then nothing at all.
    pub fn new(to: u16, mode: u64) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, state) = (listener.local_addr().unwrap().port(), Arc::new(State::default()));
        let relay = Relay { port, state: state.clone() };
        relay.set(mode);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, state) = (client.unwrap(), state.clone());
                std::thread::spawn(move || serve(&client, to, &state));
            }
        });
        relay
    }

    pub fn set(&self, mode: u64) {
        self.state.mode.store(mode, SeqCst);
    }

    /// As ssh names it.
    pub fn host(&self) -> String {
        format!("ssh://signer@127.0.0.1:{}", self.port)
    }

    /// The setting of it alone.
    pub fn hosts(&self) -> String {
        format!("hosts = [\"{}\"]\n", self.host())
    }

    /// How many connections there were.
    pub fn total(&self) -> usize {
        self.state.total.load(SeqCst)
    }

    /// How many at once.
    pub fn most(&self) -> usize {
        self.state.most.load(SeqCst)
    }
}

fn serve(client: &TcpStream, to: u16, state: &State) {
    state.total.fetch_add(1, SeqCst);
    let mode = state.mode.load(SeqCst);
    if mode == CLOSE {
        return;
    }
    if mode == SILENT {
        std::thread::sleep(Duration::from_secs(600));
        return;
    }
    // Who has gone right before it is counted no more.
    std::thread::sleep(Duration::from_millis(50));
    state.most.fetch_max(state.now.fetch_add(1, SeqCst) + 1, SeqCst);
    let host = TcpStream::connect(("127.0.0.1", to)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| copy(&host, client, u64::MAX));
        copy(client, &host, if mode == PASS { u64::MAX } else { mode });
        state.now.fetch_sub(1, SeqCst);
    });
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, mut left: u64) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let passed = left.min(length as u64);
        left -= passed;
        if to.write_all(&buffer[..passed as usize]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
