//! One request to one host, through the system's ssh.

use crate::error::{Error, clean};
use crate::runtime;
use crate::settings::Settings;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// ssh's own exit code: it could not connect, or the connection broke.
const SSH: i32 = 255;

/// How much of what a host says on stderr is kept, in lines.
const MOST_LINES: usize = 100;

/// The longest line of them, in bytes.
const MAX_LINE: u64 = 1000;

/// How long ssh may take to leave when its standard output is closed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What ssh says when it would say it again.
const LASTING: [&str; 5] = [
    "Permission denied (",
    "Host key verification failed",
    "REMOTE HOST IDENTIFICATION",
    "Could not resolve hostname",
    "Bad configuration option",
];

/// Why a host did not sign.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It has accepted nothing; another host may. `lasting` when it would say the same again.
    Nothing { error: Error, lasting: bool },
    /// It may have signed, or has refused to.
    Final(Error),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Attempt {
        Attempt::Final(error)
    }
}

/// Bytes written to ssh, and when a byte went either way.
struct Traffic {
    began: Instant,
    last: AtomicU64,
    written: AtomicU64,
}

impl Traffic {
    fn moved(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// What is sent to the host.
struct Sending<'a, W: Write>(W, &'a Traffic);

impl<W: Write> Write for Sending<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.written.fetch_add(written as u64, Ordering::Relaxed);
        self.1.moved();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What comes from it, as long as something comes.
struct Receiving<'a> {
    stdout: ChildStdout,
    traffic: &'a Traffic,
    timeout: Duration,
}

impl Read for Receiving<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut fds = [PollFd::new(&self.stdout, PollFlags::IN)];
            match poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })) {
                Ok(0) if self.traffic.silence() > self.timeout => return Err(io::ErrorKind::TimedOut.into()),
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => break,
                Err(error) => return Err(error.into()),
            }
        }
        let length = self.stdout.read(buffer)?;
        self.traffic.moved();
        Ok(length)
    }
}

/// The ssh that speaks to this host, without the request.
///
/// # Errors
/// [`Error::Io`] when there is no place for the sockets of shared connections.
pub(crate) fn command(settings: &Settings, host: &str) -> Result<Command, Error> {
    let mut command = Command::new("ssh");
    // ssh takes the first value that it reads, so these come before ours.
    command.args(&settings.ssh_options).args(["-T", "-a", "-x"]);
    let mut set = |option: &str| {
        command.args(["-o", option]);
    };
    for option in
        ["ConnectTimeout=15", "ServerAliveInterval=15", "ServerAliveCountMax=4", "ClearAllForwardings=yes", "PermitLocalCommand=no"]
    {
        set(option);
    }
    if !io::stderr().is_terminal() {
        set("BatchMode=yes");
    }
    if let Some(time) = settings.reuse {
        set("ControlMaster=auto");
        set(&format!("ControlPersist={}", time.as_secs()));
        set(&format!("ControlPath={}", runtime::control_path(&settings.ssh_options)?.display()));
    }
    command.args(["--", host]);
    Ok(command)
}

/// Sends a request and what `write` writes; `read` makes of the answer what it is. Only when the host says that all went well, it counts.
///
/// # Errors
/// Any [`Attempt`].
pub(crate) fn session<T>(
    settings: &Settings,
    host: &str,
    request: &str,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Error> + Send,
    read: impl FnOnce(&mut dyn BufRead) -> Result<T, Error>,
) -> Result<T, Attempt> {
    let no_pipe = |error| Error::Io("a pipe", error);
    let (theirs, ours) = io::pipe().map_err(no_pipe)?;
    let mut command = command(settings, host)?;
    command.arg(request).stdin(theirs.try_clone().map_err(no_pipe)?).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| Error::Io("cannot start ssh", error))?;
    // The command keeps an end of the pipe.
    drop(command);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stdout = stdout.ok_or_else(|| no_pipe(io::ErrorKind::BrokenPipe.into()))?;
    let lines = stderr.map(follow);
    let (child, traffic) = (Mutex::new(child), Traffic { began: Instant::now(), last: 0.into(), written: 0.into() });
    std::thread::scope(|scope| {
        let (child, traffic) = (&child, &traffic);
        let writer = scope.spawn(move || {
            let mut pipe = Sending(ours, traffic);
            let wrote = write(&mut pipe);
            if matches!(&wrote, Err(error) if !matches!(error, Error::Gone)) {
                // What stops too early must not look like the end of the input: ssh goes before the pipe does.
                kill(child);
            }
            wrote
        });
        let mut answer = BufReader::new(Receiving { stdout, traffic, timeout: settings.timeout });
        let got = read(&mut answer);
        if matches!(&got, Err(error) if !matches!(error, Error::Short(_))) {
            kill(child);
        }
        drop(answer);
        let status = wait(child);
        // What is left in the pipe was never taken by ssh, so no host has it.
        let unread = rustix::io::ioctl_fionread(&theirs).unwrap_or(0);
        drop(theirs);
        let wrote = writer.join().unwrap_or_else(|_| Err(Error::Io("the sending thread", io::ErrorKind::Other.into())));
        let accepted = traffic.written.load(Ordering::Relaxed) > unread;
        let said = Said::of(&lines.map(|lines| collect(&lines)).unwrap_or_default());
        match (wrote, status.and_then(|status| status.code())) {
            (Ok(()), Some(0)) => got.map_err(Attempt::Final),
            (Err(error), _) if !matches!(error, Error::Gone) => Err(Attempt::Final(error)),
            (_, Some(0)) => Err(Error::Answer(host.to_owned(), "it came before the end of the input".to_owned()).into()),
            (_, Some(code)) => Err(said.attempt(host, code, accepted)),
            (_, None) => Err(got.err().unwrap_or_else(|| Error::Cut(host.to_owned())).into()),
        }
    })
}

fn kill(child: &Mutex<Child>) {
    if let Ok(mut child) = child.lock() {
        let _ = child.kill();
    }
}

/// Waits for a program that has closed its standard output, and not for ever.
fn wait(child: &Mutex<Child>) -> Option<ExitStatus> {
    let began = Instant::now();
    loop {
        match child.lock().ok()?.try_wait() {
            Ok(None) => {}
            status => return status.ok().flatten(),
        }
        if began.elapsed() > PATIENCE {
            kill(child);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Takes the lines of standard error as they come. What ssh itself asks or says is for the person at the terminal, at once.
fn follow(stderr: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let live = io::stderr().is_terminal();
        let mut lines = BufReader::new(stderr);
        loop {
            let mut line = Vec::new();
            match lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let line = clean(String::from_utf8_lossy(&line).trim_end());
            if live && !line.starts_with("sigsh: ") && !is_noise(&line) {
                eprintln!("{line}");
            }
            let _ = sender.send(line);
        }
    });
    lines
}

/// All lines; but a connection that stays open may keep standard error open, too.
fn collect(lines: &Receiver<String>) -> Vec<String> {
    let mut all = Vec::new();
    while let Ok(line) = lines.recv_timeout(Duration::from_millis(500)) {
        if all.len() < MOST_LINES && !is_noise(&line) {
            all.push(line);
        }
    }
    all
}

/// What ssh says when it cannot share a connection and goes on with one of its own.
fn is_noise(line: &str) -> bool {
    line.is_empty()
        || line.contains("disabling multiplexing")
        || line.starts_with("mux_client_")
        || line.starts_with("Control socket connect(")
}

/// What was said on standard error: sigsh's own error and hint, and ssh's last words.
struct Said {
    error: Option<String>,
    hint: Option<String>,
    last: Option<String>,
}

impl Said {
    fn of(lines: &[String]) -> Said {
        let after = |prefix: &str| lines.iter().find_map(|line| line.strip_prefix(prefix)).map(str::to_owned);
        let last = lines.iter().rfind(|line| !line.starts_with("sigsh: ")).cloned();
        Said { error: after("sigsh: error: "), hint: after("sigsh: hint: "), last }
    }

    /// What an exit code other than 0 means.
    fn attempt(self, host: &str, code: i32, accepted: bool) -> Attempt {
        let line = self.error.or(self.last).unwrap_or_else(|| "it gives no reason".to_owned());
        if code == SSH {
            if accepted {
                return Error::Cut(host.to_owned()).into();
            }
            let lasting = LASTING.iter().any(|words| line.contains(words));
            return Attempt::Nothing { error: Error::Refused { host: host.to_owned(), code: 69, line, hint: None }, lasting };
        }
        // 126 and 127: a shell that has found no sigsh.
        let known = u8::try_from(code).ok().filter(|code| (64..=78).contains(code)).unwrap_or(69);
        let error = Error::Refused { host: host.to_owned(), code: known, line, hint: self.hint };
        match code {
            75 => Attempt::Nothing { error, lasting: false },
            78 | 126 | 127 => Attempt::Nothing { error, lasting: true },
            _ => Attempt::Final(error),
        }
    }
}
