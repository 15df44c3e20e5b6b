//! What no rule about files holds: calls of the kernel that are refused (seccomp), and what only the superuser may. A
//! terminal is not typed into, and no sockets are made where there is to be no network.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, sock_filter,
};

use super::plan::Plan;
use super::{By, Network};

/// On x86-64 every call has a second number.
const SECOND: i64 = 0x4000_0000;

/// Closes it around this thread and all that it starts.
pub(super) fn close(plan: &Plan) -> Result<(), String> {
    match filter(plan)? {
        Some(filter) => apply_filter(&filter).map_err(|failure| failure.to_string()),
        None => Ok(()),
    }
}

/// What the kernel is to go by; none on a machine of a kind for which nobody can write it, where it is not needed.
pub(super) fn filter(plan: &Plan) -> Result<Option<BpfProgram>, String> {
    let failed = |failure: &dyn std::error::Error| failure.to_string();
    let Ok(arch) = TargetArch::try_from(ARCH) else {
        let is_shut = plan.network == Network::None && plan.by == By::Landlock;
        return match is_shut || !plan.sockets {
            true => Err(format!("on {ARCH} sockets cannot be refused")),
            false => Ok(None),
        };
    };
    let mut rules = rules(plan).map_err(|failure| failed(&failure))?;
    if ARCH == "x86_64" {
        let again: Vec<_> = rules.iter().map(|(call, rules)| (call | SECOND, rules.clone())).collect();
        rules.extend(again);
    }
    let refuse = SeccompAction::Errno(rustix::io::Errno::PERM.raw_os_error().unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).map_err(|failure| failed(&failure))?;
    BpfProgram::try_from(filter).map(Some).map_err(|failure| failed(&failure))
}

/// A filter as the kernel reads it.
pub(super) fn bytes(filter: &BpfProgram) -> Vec<u8> {
    let instruction = |it: &sock_filter| {
        let ([a, b], [c, d, e, f]) = (it.code.to_ne_bytes(), it.k.to_ne_bytes());
        [a, b, it.jt, it.jf, c, d, e, f]
    };
    filter.iter().flat_map(instruction).collect()
}

/// What is left to the superuser: what installing programs takes, and not what opens the memory of processes, disks and the kernel
/// itself, around every fence.
const LEFT: [CapabilitySet; 12] = [
    CapabilitySet::AUDIT_WRITE,
    CapabilitySet::CHOWN,
    CapabilitySet::DAC_OVERRIDE,
    CapabilitySet::FOWNER,
    CapabilitySet::FSETID,
    CapabilitySet::KILL,
    CapabilitySet::NET_BIND_SERVICE,
    CapabilitySet::SETFCAP,
    CapabilitySet::SETGID,
    CapabilitySet::SETPCAP,
    CapabilitySet::SETUID,
    CapabilitySet::SYS_CHROOT,
];

/// Takes from this thread, and all that it starts, what the superuser may beyond that. New programs do not get it back, as none gets
/// more than it had.
pub(super) fn give_up() -> Result<(), String> {
    let failed = |failure: rustix::io::Errno| format!("what only the superuser may cannot be given up: {failure}");
    let has = capabilities(None).map_err(failed)?;
    let left: CapabilitySet = LEFT.into_iter().collect();
    let [effective, permitted, inheritable] = [has.effective, has.permitted, has.inheritable].map(|has| has & left);
    let kept = CapabilitySets { effective, permitted, inheritable };
    if kept == has { Ok(()) } else { set_capabilities(None, kept).map_err(failed) }
}

/// The names of what is left of what this process may: nothing, where it is not the superuser's.
pub(super) fn left() -> Vec<String> {
    let has = capabilities(None).map(|has| has.permitted).unwrap_or(CapabilitySet::empty());
    let left: CapabilitySet = LEFT.into_iter().collect();
    (has & left).iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}

/// Calls, and what their arguments are like where they are refused: empty for any.
fn rules(plan: &Plan) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let when = |argument, how, value| {
        SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value)?])
    };
    let number = |value: u32| u64::from(value);
    let mut rules = BTreeMap::new();
    // What is put into the input of a terminal is run by the shell that is there.
    let typing = [number(TIOCSTI), number(TIOCLINUX)].map(|request| when(1, SeccompCmpOp::Eq, request));
    rules.insert(libc::SYS_ioctl, typing.into_iter().collect::<Result<_, _>>()?);
    let unix = u64::from(libc::AF_UNIX.unsigned_abs());
    let mut sockets = Vec::new();
    if plan.network == Network::None {
        sockets.push(when(0, SeccompCmpOp::Ne, unix)?);
    }
    if !plan.sockets {
        sockets.push(when(0, SeccompCmpOp::Eq, unix)?);
    }
    if !sockets.is_empty() {
        rules.insert(libc::SYS_socket, sockets);
        // It makes sockets too, and nobody sees its arguments.
        rules.insert(libc::SYS_io_uring_setup, Vec::new());
    }
    Ok(rules)
}

/// Types into a terminal.
const TIOCSTI: u32 = 0x5412;

/// Pastes into a console.
const TIOCLINUX: u32 = 0x541C;
