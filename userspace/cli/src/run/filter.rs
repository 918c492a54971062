//! The filter of system calls: a list of what agents have no use for, and what would be a way past
//! the hooks. What is not on it passes: agents are ordinary programs.
//!
//! Calls of another architecture (32-bit programs) end the process.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};
use types::control::Permission;

/// Calls with their rules; none means any call.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Refused with EPERM, unless the permission is given.
const REFUSED: [(Option<Permission>, &[c_long]); 9] = [
    (
        Some(Permission::Ptrace),
        &[
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_process_madvise,
            libc::SYS_pidfd_getfd,
            libc::SYS_kcmp,
        ],
    ),
    (Some(Permission::Namespaces), &[libc::SYS_unshare, libc::SYS_setns]),
    (
        Some(Permission::Mount),
        &[
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_mount_setattr,
            SYS_OPEN_TREE_ATTR,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
        ],
    ),
    (Some(Permission::Bpf), &[libc::SYS_bpf]),
    (Some(Permission::PerfEvents), &[libc::SYS_perf_event_open]),
    (Some(Permission::Keyring), &[libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key]),
    (Some(Permission::Userfaultfd), &[libc::SYS_userfaultfd]),
    (Some(Permission::FileHandles), &[libc::SYS_open_by_handle_at]),
    (
        None,
        &[
            libc::SYS_kexec_load,
            libc::SYS_kexec_file_load,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_acct,
            libc::SYS_quotactl,
            libc::SYS_quotactl_fd,
            libc::SYS_nfsservctl,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_sethostname,
            libc::SYS_setdomainname,
            libc::SYS_fanotify_init,
            libc::SYS_vhangup,
            libc::SYS_syslog,
        ],
    ),
];

/// Linux 6.15; newer than our libc's list.
const SYS_OPEN_TREE_ATTR: c_long = 467;

/// Terminal requests that put input into the terminal the agent shares with its caller.
const TERMINAL_INPUT: [u64; 2] = [libc::TIOCSTI, libc::TIOCLINUX];

/// clone(2)'s flags for new namespaces.
const NEW_NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// x86-64's second set of numbers for the same calls (x32), and those that have one of their own
/// there: arch/x86/entry/syscalls/syscall_64.tbl.
#[cfg(target_arch = "x86_64")]
const X32_BIT: c_long = 0x4000_0000;
#[cfg(target_arch = "x86_64")]
const X32_OWN: [(c_long, c_long); 5] = [
    (libc::SYS_ioctl, 514),
    (libc::SYS_ptrace, 521),
    (libc::SYS_kexec_load, 528),
    (libc::SYS_process_vm_readv, 539),
    (libc::SYS_process_vm_writev, 540),
];

/// The filters, one per answer; each must be installed.
pub(super) fn compile(allow: &[Permission]) -> Result<Vec<BpfProgram>> {
    let answers = [
        (libc::EPERM, refused(allow)?),
        (libc::ENOSYS, unknown(allow)),
        (libc::EAFNOSUPPORT, families(allow)?),
    ];
    let mut programs = Vec::new();
    for (errno, rules) in answers {
        if !rules.is_empty() {
            programs.push(program(errno.unsigned_abs(), rules)?);
        }
    }
    Ok(programs)
}

/// Installs them for this thread and all that comes from it; no_new_privs comes with it.
pub(super) fn install(programs: &[BpfProgram]) -> Result<()> {
    programs
        .iter()
        .try_for_each(|program| apply_filter(program))
        .context("the system call filter can't be installed")
}

fn refused(allow: &[Permission]) -> Result<Rules> {
    let mut rules = Rules::new();
    for (permission, calls) in REFUSED {
        if permission.is_none_or(|permission| !allow.contains(&permission)) {
            rules.extend(calls.iter().map(|&call| (call, Vec::new())));
        }
    }
    if !allow.contains(&Permission::Namespaces) {
        let with = |&flag: &i32| {
            let flag = u64::from(flag.unsigned_abs());
            rule(&[(0, SeccompCmpOp::MaskedEq(flag), flag)])
        };
        let clone = NEW_NAMESPACES.iter().map(with).collect::<Result<_>>()?;
        rules.insert(libc::SYS_clone, clone);
    }
    let requests = TERMINAL_INPUT.iter().map(|&request| rule(&[(1, SeccompCmpOp::Eq, request)]));
    rules.insert(libc::SYS_ioctl, requests.collect::<Result<_>>()?);
    Ok(rules)
}

/// Calls that programs do without where the kernel has none: clone3, whose flags a filter can't
/// see, and io_uring.
fn unknown(allow: &[Permission]) -> Rules {
    let mut rules = Rules::new();
    if !allow.contains(&Permission::Namespaces) {
        rules.insert(libc::SYS_clone3, Vec::new());
    }
    if !allow.contains(&Permission::IoUring) {
        for call in
            [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register]
        {
            rules.insert(call, Vec::new());
        }
    }
    rules
}

/// Socket families that stay: Unix, IPv4, IPv6, and routing's netlink, which says what addresses
/// there are.
fn families(allow: &[Permission]) -> Result<Rules> {
    let mut rules = Rules::new();
    if allow.contains(&Permission::AnySocket) {
        return Ok(rules);
    }
    let vsock = allow.contains(&Permission::Vsock).then_some(libc::AF_VSOCK);
    let known = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let other: Vec<_> = known
        .into_iter()
        .chain(vsock)
        .map(|family| (0, SeccompCmpOp::Ne, u64::from(family.unsigned_abs())))
        .collect();
    let mut socket = vec![rule(&other)?];
    if !allow.contains(&Permission::Netlink) {
        let is_netlink = (0, SeccompCmpOp::Eq, u64::from(libc::AF_NETLINK.unsigned_abs()));
        let not_route = (2, SeccompCmpOp::Ne, u64::from(libc::NETLINK_ROUTE.unsigned_abs()));
        socket.push(rule(&[is_netlink, not_route])?);
    }
    rules.insert(libc::SYS_socket, socket);
    let not_unix = (0, SeccompCmpOp::Ne, u64::from(libc::AF_UNIX.unsigned_abs()));
    rules.insert(libc::SYS_socketpair, vec![rule(&[not_unix])?]);
    Ok(rules)
}

/// All of the conditions, each of an argument's lower 32 bits: the kernel takes an `int` there.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule> {
    let condition = |(argument, operator, value): &(u8, SeccompCmpOp, u64)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *value)
    };
    let conditions = conditions.iter().map(condition).collect::<Result<_, _>>()?;
    Ok(SeccompRule::new(conditions)?)
}

fn program(errno: u32, rules: Rules) -> Result<BpfProgram> {
    #[cfg(target_arch = "x86_64")]
    let rules = with_x32(rules);
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let (pass, refuse) = (SeccompAction::Allow, SeccompAction::Errno(errno));
    Ok(SeccompFilter::new(rules, pass, refuse, arch)?.try_into()?)
}

#[cfg(target_arch = "x86_64")]
fn with_x32(rules: Rules) -> Rules {
    let mut all = rules.clone();
    for (call, rules) in rules {
        if let Some((_, own)) = X32_OWN.iter().find(|(number, _)| *number == call) {
            all.insert(own | X32_BIT, rules.clone());
        }
        all.insert(call | X32_BIT, rules);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_take_calls_off_the_list() {
        let all = refused(&[]).unwrap();
        let some = refused(&[Permission::Ptrace, Permission::Namespaces]).unwrap();
        assert!(all.contains_key(&libc::SYS_ptrace) && all.contains_key(&libc::SYS_clone));
        assert!(!some.contains_key(&libc::SYS_ptrace) && !some.contains_key(&libc::SYS_clone));
        assert!(some.contains_key(&libc::SYS_bpf) && some.contains_key(&libc::SYS_reboot));
        assert!(unknown(&[Permission::IoUring, Permission::Namespaces]).is_empty());
        assert!(families(&[Permission::AnySocket]).unwrap().is_empty());
    }

    #[test]
    fn the_filters_fit_the_kernels_limit() {
        for program in compile(&[]).unwrap() {
            assert!(program.len() < 4096, "{}", program.len());
        }
    }
}
