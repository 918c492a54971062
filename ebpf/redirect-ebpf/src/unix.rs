//! `connect()` of agents to sockets of AF_UNIX, and datagrams to them: to those alone that the
//! operator lists (Linux 6.7 has these hooks).
//!
//! aya has no names for the hooks: the sections below say another one, and the daemon loads the
//! programs itself (`userspace/redirect/src/unix.rs`).

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{
    bpf_get_current_task, bpf_probe_read_kernel, bpf_probe_read_kernel_str,
};
use aya_ebpf::macros::{cgroup_sock_addr, raw_tracepoint};
use aya_ebpf::programs::{RawTracePointContext, SockAddrContext};
use redirect_common::unix::{ANY, LISTED, NAME_BYTES, Name, UnixOffsets, UnixRefusal};

use crate::address::End;
use crate::events;
use crate::maps::{UNIX_PATHS, UNIX_RULES};
use crate::process::{self, read};
use crate::refuse::{ALLOW, ECONNREFUSED, Refused, answer, event};

const AF_UNIX: u32 = 1;
/// `offsetof(struct sockaddr_un, sun_path)`
const NAME_AT: u32 = 2;

/// Set by the daemon before it loads the programs.
#[unsafe(no_mangle)]
static UNIX_OFFSETS: UnixOffsets = UnixOffsets {
    context_address: 0,
    context_length: 0,
    task_fs: 0,
    fs_root: 0,
    task_nsproxy: 0,
    nsproxy_mnt_ns: 0,
    mnt_ns_user_ns: 0,
    user_ns_number: 0,
};

/// `BPF_CGROUP_UNIX_CONNECT`
#[cgroup_sock_addr(connect4)]
pub fn connect_unix(ctx: SockAddrContext) -> i32 {
    decide(&ctx)
}

/// `BPF_CGROUP_UNIX_SENDMSG`: a datagram that names where it goes.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg_unix(ctx: SockAddrContext) -> i32 {
    decide(&ctx)
}

/// Notes the view of the file system of the process that runs it through `BPF_PROG_TEST_RUN`: the
/// daemon. It is never attached.
#[raw_tracepoint]
pub fn learn_view(_: RawTracePointContext) -> i32 {
    let (Some(rules), Ok((root, user_ns))) = (UNIX_RULES.get_ptr_mut(0), view()) else { return -1 };
    let Ok(number) = read(user_ns, offsets().user_ns_number) else { return -1 };
    // SAFETY: an array's value, which nobody else writes before the programs are attached.
    unsafe {
        (*rules).root = root;
        (*rules).user_ns = user_ns;
        (*rules).user_ns_number = number;
    }
    0
}

#[inline(always)]
fn decide(ctx: &SockAddrContext) -> i32 {
    let mode = UNIX_RULES.get(0).map_or(0, |rules| rules.mode);
    if mode == ANY {
        return ALLOW;
    }
    let mut name: Name = [0; NAME_BYTES];
    let length = name_of(ctx, &mut name);
    let is_enrolled = process::enrolled().is_some();
    // What is listed may be reached by who is no agent yet, such as what systemd prepares for a unit
    // in the slice; not by one that is revoked.
    let may_reach = is_enrolled || process::belongs_to() == 0;
    if may_reach && mode == LISTED && is_listed(&name) && sees_as_daemon() {
        return ALLOW;
    }
    let reason = if is_enrolled { Refused::Unix } else { Refused::NotEnrolled };
    let nowhere = End { family: AF_UNIX, address: [0; 4], port: 0 };
    events::put(&UnixRefusal { event: event(ctx, reason, &nowhere, 0), length, pad: 0, name });
    answer(ECONNREFUSED)
}

/// Puts the name that the caller said into zeros; answers its length, 0 where it can't be read.
/// The kernel has copied it already, and asks before it looks the name up.
#[inline(always)]
fn name_of(ctx: &SockAddrContext, name: &mut Name) -> u32 {
    let at = offsets();
    // The context as programs see it stands for the kernel's own, which has the address.
    let context = ctx.as_ptr() as u64;
    let (Ok(address), Ok(length)) =
        (read::<u64>(context, at.context_address), read::<u32>(context, at.context_length))
    else {
        return 0;
    };
    // 108 at most: the mask is for the verifier, and leaves room for the NUL.
    let length = length.wrapping_sub(NAME_AT) & (NAME_BYTES as u32 - 1);
    let (to, from) = (name.as_mut_ptr().cast(), (address + u64::from(NAME_AT)) as *const _);
    // SAFETY: `name` has room for so many bytes; the helper checks the address.
    let copied = unsafe { bpf_probe_read_kernel_str(to, length + 1, from) };
    if copied > 1 {
        return copied as u32 - 1;
    }
    // An abstract name, which begins with NUL: for the record alone.
    // SAFETY: as above.
    if unsafe { bpf_probe_read_kernel(to, length, from) } < 0 { 0 } else { length }
}

/// Whether the name is that of a listed socket, byte by byte: paths from the root alone are.
#[inline(always)]
fn is_listed(name: &Name) -> bool {
    // SAFETY: only whether there is a value matters.
    unsafe { UNIX_PATHS.get(name) }.is_some()
}

/// Whether a path names to the caller what it names to the daemon, as far as that can be told: its
/// root directory is the daemon's, and nobody without privileges has put mounts into its view.
#[inline(always)]
fn sees_as_daemon() -> bool {
    let (Some(rules), Ok((root, user_ns))) = (UNIX_RULES.get(0), view()) else { return false };
    root == rules.root && user_ns == rules.user_ns
}

/// The current task's root directory, and the user namespace that its mount namespace belongs to.
#[inline(always)]
fn view() -> Result<(u64, u64), i32> {
    let at = offsets();
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let root: u64 = read(read(task, at.task_fs)?, at.fs_root)?;
    let mounts: u64 = read(read(task, at.task_nsproxy)?, at.nsproxy_mnt_ns)?;
    Ok((root, read(mounts, at.mnt_ns_user_ns)?))
}

#[inline(always)]
fn offsets() -> UnixOffsets {
    // SAFETY: a read_volatile of a static, so that the compiler does not fold in the zeros.
    unsafe { core::ptr::read_volatile(&raw const UNIX_OFFSETS) }
}
