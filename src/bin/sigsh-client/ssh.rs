//! One request to one host, through the system's ssh.

use crate::error::{Error, say};
use crate::runtime;
use crate::settings::Settings;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, BufRead, BufReader, IsTerminal, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// ssh's own exit code: it could not connect, or the connection broke.
const SSH: i32 = 255;

/// How much of what a host says on stderr is kept, in lines.
const MOST_LINES: usize = 100;

/// The longest line of them, in bytes.
const MAX_LINE: u64 = 1000;

/// How long ssh may take to leave when its standard output is closed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What ssh says when it would say it again, and what that is: nobody there, nobody let in, or a matter of settings.
const LASTING: [(&str, u8); 8] = [
    ("Name or service not known", 69),
    ("Permission denied", 77),
    ("Too many authentication failures", 77),
    ("Host key verification failed", 78),
    ("Bad configuration option", 78),
    ("Can't open user config file", 78),
    ("Bad owner or permissions on", 78),
    ("No user exists for uid", 78),
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

/// What goes to ssh and comes from it.
struct Traffic {
    began: Instant,
    timeout: Duration,
    last: AtomicU64,
    written: Mutex<u64>,
    received: AtomicU64,
}

impl Traffic {
    fn new(timeout: Duration) -> Traffic {
        Traffic { began: Instant::now(), timeout, last: 0.into(), written: 0.into(), received: 0.into() }
    }

    fn moved(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// How many bytes were written. Who holds it lets nobody write.
    fn written(&self) -> MutexGuard<'_, u64> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a pipe can be used: as long as the host may be silent.
    fn wait(&self, pipe: impl AsFd, flags: PollFlags) -> io::Result<()> {
        loop {
            let silence = self.began.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)));
            if silence > self.timeout {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match poll(&mut [PollFd::new(&pipe, flags)], Some(&Timespec { tv_sec: 0, tv_nsec: 200_000_000 })) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What is sent to the host. The pipe never blocks: who does not read would hold us for ever.
struct Sending<'a>(PipeWriter, &'a Traffic);

impl Write for Sending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Sending(pipe, traffic) = self;
        loop {
            let mut all = traffic.written();
            match pipe.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => drop(all),
                Err(error) => return Err(error),
                Ok(written) => {
                    *all += written as u64;
                    traffic.moved();
                    return Ok(written);
                }
            }
            traffic.wait(&*pipe, PollFlags::OUT)?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What comes from it.
struct Receiving<'a>(ChildStdout, &'a Traffic);

impl Read for Receiving<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Receiving(stdout, traffic) = self;
        // A byte now and then is no answer, so it does not count.
        traffic.wait(&*stdout, PollFlags::IN)?;
        let length = stdout.read(buffer)?;
        traffic.received.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// What a host answers.
pub(crate) struct Answer<'a>(BufReader<Receiving<'a>>);

impl Answer<'_> {
    /// Something whole has come, so the host is not silent.
    pub(crate) fn moved(&self) {
        self.0.get_ref().1.moved();
    }
}

impl Read for Answer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl BufRead for Answer<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        self.0.consume(bytes);
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
    for option in [
        "RemoteCommand=none",
        "ConnectTimeout=15",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=4",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
    ] {
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
    read: impl FnOnce(&mut Answer<'_>) -> Result<T, Error>,
) -> Result<T, Attempt> {
    let no_pipe = |error| Error::Io("a pipe", error);
    let (theirs, ours) = io::pipe().map_err(no_pipe)?;
    rustix::io::ioctl_fionbio(&ours, true).map_err(|error| no_pipe(error.into()))?;
    let mut command = command(settings, host)?;
    command.arg(request).stdin(theirs.try_clone().map_err(no_pipe)?).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| Error::Io("cannot start ssh", error))?;
    // The command keeps an end of the pipe.
    drop(command);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stdout = stdout.ok_or_else(|| no_pipe(io::ErrorKind::BrokenPipe.into()))?;
    let lines = stderr.map(follow);
    let traffic = Traffic::new(settings.timeout);
    let child = Mutex::new(child);
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
        let mut answer = Answer(BufReader::new(Receiving(stdout, traffic)));
        let got = read(&mut answer);
        if matches!(&got, Err(error) if !matches!(error, Error::Short(_))) {
            kill(child);
        }
        drop(answer);
        let status = wait(child);
        // What is left in the pipe was never taken by ssh, so no host has it.
        let all = traffic.written();
        let taken = *all > rustix::io::ioctl_fionread(&theirs).unwrap_or(0);
        drop(theirs);
        drop(all);
        let wrote = writer.join().unwrap_or_else(|_| Err(Error::Io("the sending thread", io::ErrorKind::Other.into())));
        let received = traffic.received.load(Ordering::Relaxed) > 0;
        let accepted = received || taken;
        let nothing = |error| Attempt::Nothing { error, lasting: false };
        match (wrote, got, status.and_then(|status| status.code())) {
            (Err(error), ..) if !matches!(error, Error::Gone) => Err(error.into()),
            (_, Err(error @ Error::Silent(_)), _) if !accepted => Err(nothing(error)),
            (_, Err(error), _) if !matches!(error, Error::Short(_)) => Err(error.into()),
            (Ok(()), got, Some(0)) => got.map_err(Attempt::Final),
            (.., Some(0)) => Err(Error::Answer(host.to_owned(), "it came before the end of the input".to_owned()).into()),
            (.., Some(SSH)) | (.., None) if accepted => Err(Error::Cut(host.to_owned()).into()),
            (.., code) => {
                let said = Said::of(&lines.map(|lines| collect(&lines)).unwrap_or_default());
                Err(said.attempt(host, code.unwrap_or(SSH), received))
            }
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
    let (sender, lines) = sync_channel(MOST_LINES);
    std::thread::spawn(move || {
        let live = io::stderr().is_terminal();
        let mut stderr = BufReader::new(stderr);
        loop {
            let mut line = Vec::new();
            match stderr.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            // Who says more than that is read, so that it goes on, and not heard.
            let shown = live && !line.starts_with("sigsh: ");
            if !is_noise(&line) && sender.try_send(line.clone()).is_ok() && shown {
                say(&line);
            }
        }
    });
    lines
}

/// All lines; but a connection that stays open may keep standard error open, too.
fn collect(lines: &Receiver<String>) -> Vec<String> {
    std::iter::from_fn(|| lines.recv_timeout(Duration::from_millis(500)).ok()).collect()
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

    /// What an exit code other than 0 means; `received` when there was an answer, too. ssh's own only when no host has accepted anything.
    fn attempt(self, host: &str, code: i32, received: bool) -> Attempt {
        let line = self.error.or(self.last).unwrap_or_else(|| "it gives no reason".to_owned());
        let (known, lasting) = match code {
            SSH => LASTING.iter().find(|(words, _)| line.contains(words)).map_or((69, false), |(_, code)| (*code, true)),
            // A shell that has found no sigsh.
            126 | 127 => (69, true),
            code => (u8::try_from(code).ok().filter(|code| (64..=78).contains(code)).unwrap_or(69), code == 78),
        };
        let line = line.trim_end_matches('.').to_owned();
        let error = Error::Refused { host: host.to_owned(), code: known, line, hint: self.hint };
        match code {
            SSH | 75 | 78 | 126 | 127 if !received => Attempt::Nothing { error, lasting },
            _ => Attempt::Final(error),
        }
    }
}
