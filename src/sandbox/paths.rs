//! Landlock: which paths a process may open. File rules are required (ABI 2); network and scope rules are taken where the
//! kernel has them, up to a pinned ABI, so that a newer kernel changes nothing that was not tested.

use super::SandboxError;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};
use std::path::Path;

/// Required of the kernel (Linux 5.19).
pub const REQUIRED: ABI = ABI::V2;
/// Used where the kernel has it (Linux 6.12); later ones are not asked for.
pub const PINNED: ABI = ABI::V6;

/// What no process of sigsh ever does to a path: these rights are given up before the first fork and never granted again.
fn never() -> BitFlags<AccessFs> {
    AccessFs::Execute
        | AccessFs::MakeBlock
        | AccessFs::MakeChar
        | AccessFs::MakeFifo
        | AccessFs::MakeSock
        | AccessFs::MakeSym
        | AccessFs::MakeDir
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

fn ruleset(files: BitFlags<AccessFs>, net: BitFlags<AccessNet>, scope: BitFlags<Scope>) -> Result<Ruleset, SandboxError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(files & AccessFs::from_all(REQUIRED))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(files)?
        .handle_access(net)?;
    Ok(if scope.is_empty() { ruleset } else { ruleset.scope(scope)? })
}

/// The layer of all three processes: no exec, no TCP service, no signal or abstract socket to the outside.
pub(super) fn begin() -> Result<(), SandboxError> {
    ruleset(never(), AccessNet::BindTcp.into(), Scope::from_all(PINNED))?.create()?.restrict_self()?;
    Ok(())
}

/// The layer of all but the hasher, which has its own: TCP to these ports alone.
pub(super) fn settle(connect: &[u16]) -> Result<(), SandboxError> {
    can_keep_to(connect)?;
    let handled = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(AccessNet::from_all(PINNED))?;
    allow(handled.create()?, connect)?.restrict_self()?;
    Ok(())
}

/// Who is to be kept to some ports needs a kernel that can (ABI 4); where the filter refuses TCP altogether, an older one will do.
///
/// # Errors
/// [`SandboxError::Ports`].
pub fn can_keep_to(connect: &[u16]) -> Result<(), SandboxError> {
    let hard = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessNet::from_all(PINNED));
    if connect.is_empty() { Ok(()) } else { hard().map(drop).map_err(SandboxError::Ports) }
}

fn allow(created: RulesetCreated, connect: &[u16]) -> Result<RulesetCreated, SandboxError> {
    Ok(created.add_rules(connect.iter().map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp))))?)
}

/// A child's own layer: these paths, TCP to these ports, and no signal to its parent or sibling.
pub(super) fn restrict(read: &[&Path], write: &[&Path], connect: &[u16]) -> Result<(), SandboxError> {
    can_keep_to(connect)?;
    let handled = ruleset(AccessFs::from_all(PINNED), AccessNet::from_all(PINNED), Scope::from_all(PINNED))?;
    let mut created = allow(handled.create()?, connect)?;
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let writing = reading | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg;
    for (paths, rights) in [(read, reading), (write, writing)] {
        for path in paths {
            let fd = PathFd::new(path).map_err(|_| SandboxError::Path(path.to_path_buf()))?;
            let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(PINNED) };
            created = created.add_rule(PathBeneath::new(fd, rights))?;
        }
    }
    created.restrict_self()?;
    Ok(())
}

/// The monitor's own layer: no path at all. It takes no signal scope, for it must be able to kill its children.
pub(super) fn restrict_without_scope() -> Result<(), SandboxError> {
    ruleset(AccessFs::from_all(PINNED), AccessNet::from_all(PINNED), BitFlags::EMPTY)?.create()?.restrict_self()?;
    Ok(())
}

/// What the running kernel cannot enforce of this, in words, for `sigsh-admin check`.
///
/// # Errors
/// When it cannot even enforce what is required.
pub fn missing() -> Result<Vec<&'static str>, SandboxError> {
    let hard = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    hard().handle_access(AccessFs::from_all(REQUIRED))?.create()?;
    let optional = [
        ("truncate", hard().handle_access(AccessFs::Truncate).and_then(Ruleset::create)),
        ("tcp", hard().handle_access(AccessNet::from_all(PINNED)).and_then(Ruleset::create)),
        ("device ioctl", hard().handle_access(AccessFs::IoctlDev).and_then(Ruleset::create)),
        ("signals and abstract sockets", hard().scope(Scope::from_all(PINNED)).and_then(Ruleset::create)),
    ];
    Ok(optional.into_iter().filter(|(_, outcome)| outcome.is_err()).map(|(what, _)| what).collect())
}
