//! One request to one host, through the system's ssh.

mod said;
mod traffic;

use crate::error::Error;
use crate::runtime;
use crate::settings::Settings;
use said::{Said, collect, follow};
use std::io::{self, BufReader, IsTerminal, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
pub(crate) use traffic::Answer;
use traffic::{Receiving, Sending, Traffic};

/// ssh's own exit code: it could not connect, or the connection broke.
const SSH: i32 = 255;

/// How long ssh may take to leave when its standard output is closed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a host did not sign.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It has accepted nothing; another host may. `lasting` when it would say the same again.
    Nothing { error: Error, lasting: bool },
    /// It has signed a part, which is kept, and has had enough for now.
    Part(Error),
    /// It may have signed, or has refused to.
    Final(Error),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Attempt {
        Attempt::Final(error)
    }
}

/// The ssh that speaks to this host, without the request.
///
/// # Errors
/// [`Error::Io`] when there is no place for the sockets of shared connections.
pub(crate) fn command(settings: &Settings, host: &str) -> Result<Command, Error> {
    let mut command = Command::new("ssh");
    // A connection that is kept would keep a file system busy.
    command.current_dir("/");
    // ssh takes the first value that it reads, so these come before ours.
    command.args(&settings.ssh_options).args(["-T", "-a", "-x"]);
    let mut set = |option: &str| {
        command.args(["-o", option]);
    };
    for option in [
        // Some are of OpenSSH 8.7.
        "IgnoreUnknown=ForkAfterAuthentication,SessionType,StdinNull",
        "ForkAfterAuthentication=no",
        "SessionType=default",
        "StdinNull=no",
        "RemoteCommand=none",
        // What it says tells why it has failed.
        "LogLevel=ERROR",
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
    match settings.reuse {
        Some(time) => {
            set("ControlMaster=auto");
            set(&format!("ControlPersist={}", time.as_secs()));
            set(&format!("ControlPath={}", runtime::control_path(&settings.ssh_options)?.display()));
        }
        None => set("ControlPath=none"),
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
    let lines = stderr.map(follow).transpose().map_err(|error| start_failed(&mut child, error))?;
    let traffic = Traffic::new(settings.timeout);
    let child = Mutex::new(child);
    std::thread::scope(|scope| {
        let (child, traffic) = (&child, &traffic);
        let writer = std::thread::Builder::new().spawn_scoped(scope, move || {
            let mut pipe = Sending(ours, traffic);
            let wrote = write(&mut pipe);
            if matches!(&wrote, Err(error) if !matches!(error, Error::Gone)) {
                // What stops too early should not look like the end of the input. Where it does all the same, because another ssh shares
                // the connection, the declared size and the end of a tar tell the host.
                kill(child);
            }
            wrote
        });
        let writer = writer.map_err(|error| child.lock().map_or(Error::Gone, |mut child| start_failed(&mut child, error)))?;
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
        let signed = traffic.has_signed();
        let accepted = traffic.has_answer() || taken;
        let said = Said::of(lines.map(|lines| collect(&lines)).unwrap_or_default());
        let nothing = |error| Attempt::Nothing { error, lasting: false };
        match (wrote, got, status.and_then(|status| status.code())) {
            (Err(Error::Silent(_)), ..) | (_, Err(Error::Silent(_)), _) if !accepted => {
                Err(nothing(Error::Silent(host.to_owned())))
            }
            (Err(Error::Silent(_)), ..) => Err(Error::Silent(host.to_owned()).into()),
            (Err(error), ..) if !matches!(error, Error::Gone) => Err(error.into()),
            (_, Err(error), _) if !matches!(error, Error::Short(_)) => Err(error.into()),
            (Ok(()), got, Some(0)) => got.map_err(Attempt::Final),
            (.., Some(0)) => Err(Error::Answer(host.to_owned(), "it came before the end of the input".to_owned()).into()),
            (.., Some(SSH)) | (.., None) if accepted => Err(said.cut(host).into()),
            (.., code) => Err(said.attempt(host, code.unwrap_or(SSH), signed)),
        }
    })
}

/// ssh alone is of no use.
fn start_failed(child: &mut Child, error: io::Error) -> Error {
    let _ = child.kill();
    let _ = child.wait();
    Error::Io("cannot start a thread", error)
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
