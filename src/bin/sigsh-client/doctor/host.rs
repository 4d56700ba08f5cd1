//! One host: that it answers, and so many connections at once.

use super::key::{self, Sample};
use super::{Findings, known};
use crate::error::Error;
use crate::input::read_at_most;
use crate::runtime;
use crate::settings::{Key, Settings};
use crate::ssh::{self, Answer, Attempt, session};
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest answer in bytes: a certificate.
const MAX_ANSWER: u64 = 1 << 20;

/// Looks at a host. What the first one that signs has signed goes to `samples`.
///
/// # Errors
/// [`Error::Io`] when there is no place for what is signed.
pub(super) fn examine<'a>(
    findings: &mut Findings,
    all: &'a Settings,
    host: &str,
    samples: &mut Vec<(&'a Key, Vec<Sample>)>,
) -> Result<(), Error> {
    known::examine(findings, all, host);
    let settings = Settings { hosts: vec![host.to_owned()], retry: Duration::ZERO, local_fallback: Vec::new(), ..all.clone() };
    let began = Instant::now();
    match ask(&settings, host, "version") {
        Ok(answer) => {
            let version = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
            if !version.starts_with("sigsh ") {
                findings.error(&format!("{host}: what answers is not sigsh: it must be the account's shell or forced command"));
                return Ok(());
            }
            findings.ok(&format!("{host}: answers in {}: {version}", seconds(began)));
        }
        Err(error) => {
            findings.error(&format!("{host}: {}", reason(&error, host)));
            return Ok(());
        }
    }
    reuse(findings, &settings, host);
    parallel(findings, &settings, host);
    let mut clock = None;
    for key in &all.keys {
        let (made, skew) = key::examine(findings, &settings, host, key)?;
        clock = clock.or(skew);
        if !made.is_empty() && !samples.iter().any(|(other, _)| std::ptr::eq(*other, key)) {
            samples.push((key, made));
        }
    }
    if let Some(ahead) = clock {
        key::clocks(findings, host, ahead);
    }
    Ok(())
}

/// Asks for something that is short.
///
/// # Errors
/// What an attempt says.
pub(super) fn ask(settings: &Settings, host: &str, request: &str) -> Result<Vec<u8>, Error> {
    let read = |answer: &mut Answer<'_>| read_at_most(answer, MAX_ANSWER).map_err(|error| Error::unread(host, &error));
    session(settings, host, request, |_| Ok(()), read).map_err(|attempt| match attempt {
        Attempt::Nothing { error, .. } | Attempt::Part(error) | Attempt::Final(error) => error,
    })
}

/// Why a host has not answered, and what to do.
pub(super) fn reason(error: &Error, host: &str) -> String {
    let of_host = format!("{host}: ");
    let plain = |text: String| text.strip_prefix(&of_host).map(str::to_owned).unwrap_or(text);
    let text = plain(error.to_string());
    // Who reads this has run doctor.
    let hint = error.hint().filter(|hint| !hint.contains("sigsh-client doctor"));
    let remedy = hint.map_or_else(|| remedy(&text, host), plain);
    format!("{text}; {remedy}")
}

fn remedy(error: &str, host: &str) -> String {
    if error.contains("Permission denied (") {
        "give the host's operator this machine's public ssh key, or name its file by ssh-options = [\"-i\", \"…\"]".to_owned()
    } else if error.contains("ost key verification failed") || error.contains("HOST IDENTIFICATION") {
        "ask its operator for the host's key, and write that one to known_hosts".to_owned()
    } else if error.contains("the signature is not good") {
        "ask its operator by which key it signs, and compare the certificate".to_owned()
    } else {
        format!("'ssh -v {host} version' says more")
    }
}

/// Whether the next call finds the connection open.
fn reuse(findings: &Findings, settings: &Settings, host: &str) {
    if settings.reuse.is_none() {
        return;
    }
    let began = Instant::now();
    let shared = runtime::control_path(&settings.ssh_options).is_ok_and(|path| {
        let mut check = Command::new("ssh");
        check.current_dir("/");
        check
            .args(&settings.ssh_options)
            .arg("-o")
            .arg(format!("ControlPath={}", path.display()))
            .args(["-O", "check", "--", host]);
        check.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    });
    let again = Instant::now();
    match ask(settings, host, "version") {
        Ok(_) if shared => findings.ok(&format!("{host}: the connection is used again, in {}", seconds(again))),
        _ => findings.warning(&format!(
            "{host}: the connection is not used again, each signature takes a new one of {}; see ControlPath and ControlMaster in \
             ssh's configuration",
            seconds(began)
        )),
    }
}

/// Opens as many connections as a build may, all at once and none of them shared.
fn parallel(findings: &mut Findings, settings: &Settings, host: &str) {
    let mut alone = Settings { reuse: None, ..settings.clone() };
    // Nobody can answer so many questions.
    alone.ssh_options.extend(["-oBatchMode=yes", "-oControlMaster=no"].map(str::to_owned));
    let connect = || {
        let mut command = ssh::command(&alone, host).map_err(io::Error::other)?;
        command.arg("version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
    };
    let children = (0..settings.parallel).map(|_| connect()).collect::<Vec<_>>();
    let ended = children.into_iter().map(|child| child.and_then(Child::wait_with_output));
    let failed = ended.filter_map(|output| match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()),
        Err(error) => Some(error.to_string()),
    });
    let failed = failed.collect::<Vec<_>>();
    let all = settings.parallel;
    match failed.first() {
        None => findings.ok(&format!("{host}: {all} connections at once")),
        Some(why) => findings.error(&format!(
            "{host}: {} of {all} connections at once failed: {why}; lower parallel here, or raise MaxStartups and PerSourceMaxStartups there",
            failed.len()
        )),
    }
}

fn seconds(since: Instant) -> String {
    format!("{:.2} s", since.elapsed().as_secs_f64())
}
