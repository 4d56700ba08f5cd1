//! The three sandboxes. There is no switch that turns one off, here or anywhere.
//!
//! Each process stacks two layers: the one of [`begin`], taken before the first fork and shared by all, and its own.

pub mod paths;
pub mod syscalls;

use crate::channel::Channel;
use crate::sys;
use landlock::RulesetError;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::Pid;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use syscalls::{Bonds, Row, When};

/// Why a process is not confined, and therefore must not go on.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel has no Landlock of ABI 2 or later, or it is not enabled.
    #[error("the kernel cannot enforce Landlock file rules: {0}")]
    Landlock(#[from] RulesetError),
    /// A path that the configuration names cannot be opened for a rule.
    #[error("cannot open {0} for a sandbox rule")]
    Path(PathBuf),
    /// A filter was refused.
    #[error("the kernel refuses the system call filter: {0}")]
    Seccomp(String),
    /// A resource or privilege could not be given up.
    #[error("cannot give up privileges: {0}")]
    Privileges(#[from] Errno),
}

/// Confines the program before it reads anything: no new privileges, no core file, no ptrace by others of the same account,
/// no descriptor but the standard ones, no exec, no path created but by configuration, signals to children only.
///
/// # Errors
/// Any [`SandboxError`]: the program must end.
pub fn begin() -> Result<(), SandboxError> {
    harden()?;
    sys::close_all_but(&[0, 1, 2])?;
    paths::begin()?;
    // What fails softly in the token process is not allowed to anybody else. Its second table is a part of its first.
    let token = syscalls::SOFTHSM_LOAD.iter().copied().filter(|row| !matches!(row.when, When::Fails(_)));
    filter(&[syscalls::BEGINNING, syscalls::HASHER, syscalls::MONITOR, &token.collect::<Vec<_>>()].concat(), Bonds::default())
}

/// What every program of sigsh does first: no new privileges, no core file, no ptrace by others of the same account; and a crash ends
/// a process with its own signal.
///
/// # Errors
/// [`SandboxError::Privileges`].
pub fn harden() -> Result<(), SandboxError> {
    prctl::set_no_new_privs()?;
    prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    sys::default_faults();
    Ok(())
}

/// Confines the hasher: standard input, its channel, and the file in memory for a text; nothing else.
///
/// # Errors
/// Any [`SandboxError`].
pub fn enter_hasher(channel: &Channel, body: BorrowedFd<'_>) -> Result<(), SandboxError> {
    paths::restrict(&[], &[])?;
    filter(syscalls::HASHER, Bonds { channel: Some(channel.number()), body: Some(body.as_raw_fd()), ..Bonds::default() })
}

/// Confines the monitor, once all that it reads is open. These children are what it may still end.
///
/// # Errors
/// Any [`SandboxError`].
pub fn enter_monitor(children: &[Option<Pid>]) -> Result<(), SandboxError> {
    let children = children.iter().copied().flatten().collect::<Vec<_>>();
    sys::settle_time_zone();
    paths::restrict_without_scope()?;
    filter(syscalls::MONITOR, Bonds { children: Some(&children), ..Bonds::default() })
}

/// What a kind of token needs. Chosen by `sandbox = "…"` in a token's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// SoftHSM 2: files only. Its store stays read-only.
    Softhsm,
}

impl Profile {
    /// The profile's own readable paths, given the module's environment.
    fn read<'a>(self, environment: &dyn Fn(&str) -> Option<&'a str>) -> Vec<&'a Path> {
        match self {
            Profile::Softhsm => vec![
                Path::new(environment("SOFTHSM2_CONF").unwrap_or("/etc/softhsm/softhsm2.conf")),
                Path::new("/etc/ssl/openssl.cnf"),
            ],
        }
    }
}

/// What the configuration says of a token's surroundings.
pub struct Surroundings<'a> {
    /// Which tables apply.
    pub profile: Profile,
    /// Paths to read: the module's file, and what the operator named.
    pub read: Vec<&'a Path>,
    /// Paths to read and write.
    pub write: Vec<&'a Path>,
    /// The module's environment.
    pub environment: &'a dyn Fn(&str) -> Option<&'a str>,
}

/// Where dynamic libraries and the loader's cache are. What does not exist is passed over.
const LIBRARIES: [&str; 5] = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache"];

/// Confines the token process before it loads the module.
///
/// # Errors
/// Any [`SandboxError`].
pub fn enter_token(around: &Surroundings<'_>) -> Result<(), SandboxError> {
    let own = around.profile.read(around.environment);
    let optional = LIBRARIES.iter().map(Path::new).chain(own).filter(|path| path.exists());
    let read = optional.chain(around.read.iter().copied()).collect::<Vec<_>>();
    paths::restrict(&read, &around.write)?;
    match around.profile {
        Profile::Softhsm => filter(syscalls::SOFTHSM_LOAD, Bonds::default()),
    }
}

/// Narrows the token process down once it is logged in.
///
/// # Errors
/// Any [`SandboxError`].
pub fn narrow_token(profile: Profile) -> Result<(), SandboxError> {
    match profile {
        Profile::Softhsm => filter(syscalls::SOFTHSM_SIGN, Bonds::default()),
    }
}

fn filter(rows: &[Row], bonds: Bonds<'_>) -> Result<(), SandboxError> {
    let refused = |error: &dyn std::fmt::Display| SandboxError::Seccomp(error.to_string());
    for program in syscalls::compile(rows, bonds).map_err(|error| refused(&error))?.iter().rev() {
        seccompiler::apply_filter(program).map_err(|error| refused(&error))?;
    }
    Ok(())
}
