//! The three sandboxes. There is no switch that turns one off, here or anywhere.
//!
//! Each process stacks layers: the one of [`begin`], taken before the first fork and shared by all; that of [`settle`], which the hasher
//! does not need; and its own.

pub mod paths;
pub mod profiles;
pub mod syscalls;

use crate::channel::Channel;
use crate::sys;
use landlock::RulesetError;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::Pid;
pub use profiles::{Environment, Profile};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use syscalls::{Bonds, Row, When};

/// Why a process is not confined, and therefore must not go on.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel has no Landlock of ABI 2 or later, or it is not enabled.
    #[error("the kernel cannot enforce Landlock file rules: {0}")]
    Landlock(#[from] RulesetError),
    /// The kernel has no Landlock of ABI 4, and a token is behind TCP.
    #[error("the kernel cannot keep a token to its TCP ports, which takes Linux 6.7: {0}")]
    Ports(RulesetError),
    /// A path that the configuration names cannot be opened for a rule.
    #[error("cannot open {0} for a sandbox rule")]
    Path(PathBuf),
    /// A path that a module may write is a whole directory, and only the operator may name those.
    #[error("{0} is a directory")]
    Directory(PathBuf),
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
    filter(&[&[syscalls::HASHER, syscalls::MONITOR].concat()[..], &before(Profile::possible())].concat(), Bonds::default())
}

/// Narrows that down to what the configured kinds of token need, and to their TCP ports: before any word of the client is read.
///
/// # Errors
/// Any [`SandboxError`]: the program must end.
pub fn settle(profiles: &[Profile], connect: &[u16]) -> Result<(), SandboxError> {
    paths::settle(connect)?;
    filter(&[syscalls::MONITOR, &before(profiles)].concat(), Bonds::default())
}

/// What the monitor does before its own filter, and token processes of these kinds before theirs. Their second tables are a part of
/// their first.
pub fn before(profiles: &[Profile]) -> Vec<Row> {
    let all = profiles.iter().flat_map(|profile| profile.load()).collect::<Vec<_>>();
    // What fails softly in a token process is not allowed to anybody else; it fails for all where nobody else may do it.
    let fails = |row: &Row| matches!(row.when, When::Fails(_));
    let others = [syscalls::BEGINNING, syscalls::HASHER, syscalls::MONITOR, &all].concat();
    let firm = |row: &Row| !fails(row) || others.iter().all(|other| fails(other) || other.number != row.number);
    let tokens = all.iter().copied().filter(firm);
    syscalls::BEGINNING.iter().copied().chain(tokens).collect()
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
    paths::restrict(&[], &[], &[])?;
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

/// What the configuration says of a token's surroundings.
pub struct Surroundings<'a> {
    /// Which tables apply.
    pub profile: Profile,
    /// Paths to read: the module's file, and what the operator named.
    pub read: Vec<&'a Path>,
    /// Paths to read and write.
    pub write: Vec<&'a Path>,
    /// TCP ports to connect to.
    pub connect: &'a [u16],
    /// The module's environment.
    pub environment: &'a Environment<'a>,
}

/// Confines the token process before it loads the module.
///
/// # Errors
/// Any [`SandboxError`].
pub fn enter_token(around: &Surroundings<'_>) -> Result<(), SandboxError> {
    let own = around.profile.read(around.environment).into_iter().filter(|path| path.exists());
    let read = own.chain(around.read.iter().copied()).collect::<Vec<_>>();
    let own = around.profile.write(around.environment);
    if let Some(directory) = own.iter().find(|path| path.is_dir()) {
        return Err(SandboxError::Directory(directory.clone()));
    }
    let write = own.iter().map(AsRef::as_ref).chain(around.write.iter().copied()).collect::<Vec<_>>();
    paths::restrict(&read, &write, around.connect)?;
    filter(&around.profile.load(), Bonds::default())
}

/// Narrows the token process down once it is logged in, with whatever threads its module has started. `marker` is the descriptor of
/// the PIN's.
///
/// # Errors
/// Any [`SandboxError`].
pub fn narrow_token(profile: Profile, marker: RawFd) -> Result<(), SandboxError> {
    install(&profile.sign(), Bonds { marker: Some(marker), ..Bonds::default() }, seccompiler::apply_filter_all_threads)
}

fn filter(rows: &[Row], bonds: Bonds<'_>) -> Result<(), SandboxError> {
    install(rows, bonds, seccompiler::apply_filter)
}

type Apply = fn(&[seccompiler::sock_filter]) -> Result<(), seccompiler::Error>;

fn install(rows: &[Row], bonds: Bonds<'_>, apply: Apply) -> Result<(), SandboxError> {
    let refused = |error: &dyn std::fmt::Display| SandboxError::Seccomp(error.to_string());
    for program in syscalls::compile(rows, bonds).map_err(|error| refused(&error))?.iter().rev() {
        apply(program).map_err(|error| refused(&error))?;
    }
    Ok(())
}
