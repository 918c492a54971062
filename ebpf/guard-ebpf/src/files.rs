//! Open files: devices, the kernel's control files, what is protected, and descriptors that come
//! from elsewhere.

use aya_ebpf::helpers::bpf_probe_read_kernel_str_bytes;
use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;
use redirect_common::guard::{FIXED, HIDDEN, Hook};

use crate::caller::{held, owns_sock, owns_task};
use crate::protected::{PROC, magic, protection, steers_kernel};
use crate::read::{offset, read};
use crate::verdict::{ALLOW, unless};
use crate::{devices, sockets};

const FMODE_WRITE: u32 = 2;
const MAY_WRITE: i32 = 2;
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;
const S_IFBLK: u16 = 0o060_000;
const S_IFCHR: u16 = 0o020_000;

/// Opening anything; executing it too.
#[lsm(hook = "file_open")]
pub fn file_open(ctx: LsmContext) -> i32 {
    if !held() {
        return ALLOW;
    }
    unless(may_hold(ctx.arg::<*const u8>(0) as u64), Hook::FileOpen)
}

/// A descriptor out of a message.
#[lsm(hook = "file_receive")]
pub fn file_receive(ctx: LsmContext) -> i32 {
    if !held() {
        return ALLOW;
    }
    unless(may_receive(ctx.arg::<*const u8>(0) as u64), Hook::FileReceive)
}

/// Reading and writing, for descriptors that were there before the agent was: before Linux 6.5
/// `sendfile` reaches a socket by no other hook.
#[lsm(hook = "file_permission")]
pub fn file_permission(ctx: LsmContext) -> i32 {
    if !held() {
        return ALLOW;
    }
    let mask: i32 = ctx.arg(1);
    let may = may_go_on(ctx.arg::<*const u8>(0) as u64, mask & MAY_WRITE != 0);
    unless(may, Hook::FilePermission)
}

/// See [`may_ioctl`].
#[lsm(hook = "file_ioctl")]
pub fn file_ioctl(ctx: LsmContext) -> i32 {
    if !held() {
        return ALLOW;
    }
    unless(may_ioctl(ctx.arg::<*const u8>(0) as u64, ctx.arg::<u32>(1)), Hook::FileIoctl)
}

/// The same from 32-bit programs, where the kernel asks apart.
#[lsm(hook = "file_ioctl_compat")]
pub fn file_ioctl_compat(ctx: LsmContext) -> i32 {
    if !held() {
        return ALLOW;
    }
    unless(may_ioctl(ctx.arg::<*const u8>(0) as u64, ctx.arg::<u32>(1)), Hook::FileIoctlCompat)
}

/// Whom a file's signals go to: a chosen signal to a chosen process would be a kill without
/// `task_kill`. To oneself it is harmless.
#[lsm(hook = "file_fcntl")]
pub fn file_fcntl(ctx: LsmContext) -> i32 {
    const F_SETOWN: u32 = 8;
    const F_SETOWN_EX: u32 = 15;
    let command: u32 = ctx.arg(1);
    if !matches!(command, F_SETOWN | F_SETOWN_EX) || !held() {
        return ALLOW;
    }
    // SAFETY: a helper without arguments.
    let tgid = unsafe { bpf_get_current_pid_tgid() } >> 32;
    let owner: u64 = ctx.arg(2);
    let own = command == F_SETOWN && (owner == 0 || owner & 0xffff_ffff == tgid);
    unless(Ok(own), Hook::FileFcntl)
}

#[inline(always)]
fn may_receive(file: u64) -> Result<bool, i32> {
    let inode: u64 = read(file, offset!(file_f_inode))?;
    let mode: u16 = read(inode, offset!(inode_i_mode))?;
    if mode & S_IFMT == S_IFSOCK {
        let socket: u64 = read(file, offset!(file_private_data))?;
        return owns_sock(read(socket, offset!(socket_sk))?);
    }
    may_hold(file)
}

/// Whether an agent may have a file open in the way that it is.
#[inline(always)]
fn may_hold(file: u64) -> Result<bool, i32> {
    let writes = read::<u32>(file, offset!(file_f_mode))? & FMODE_WRITE != 0;
    let entry: u64 = read(file, offset!(file_dentry))?;
    if !is_harmless_node(file)? || !may_go_on(file, writes)? {
        return Ok(false);
    }
    let protection = protection(entry);
    Ok(protection != HIDDEN && !(writes && protection > FIXED))
}

/// Whether it is no device, or one that agents may open. One that a launcher hands on as standard
/// input or output may be another, such as a serial console.
#[inline(always)]
fn is_harmless_node(file: u64) -> Result<bool, i32> {
    let inode: u64 = read(file, offset!(file_f_inode))?;
    let mode: u16 = read(inode, offset!(inode_i_mode))?;
    Ok(mode & S_IFMT != S_IFCHR || devices::is_harmless(read(inode, offset!(inode_i_rdev))?))
}

/// The part of it that is asked for descriptors at hand too, and costs no walk.
#[inline(always)]
fn may_go_on(file: u64, writes: bool) -> Result<bool, i32> {
    let inode: u64 = read(file, offset!(file_f_inode))?;
    let mode: u16 = read(inode, offset!(inode_i_mode))?;
    match mode & S_IFMT {
        S_IFSOCK => return sockets::may_use(read(file, offset!(file_private_data))?),
        S_IFBLK => return Ok(false),
        _ => {}
    }
    if !writes {
        return Ok(true);
    }
    let magic = magic(inode)?;
    if magic == PROC {
        return may_write_proc(inode, read(file, offset!(file_dentry))?);
    }
    Ok(!steers_kernel(magic))
}

/// In procfs an agent writes what ordinary programs write about themselves.
#[inline(always)]
fn may_write_proc(inode: u64, entry: u64) -> Result<bool, i32> {
    let proc_inode = inode.wrapping_sub(u64::from(offset!(proc_inode_vfs_inode)));
    let pid: u64 = read(proc_inode, offset!(proc_inode_pid))?;
    if pid == 0 {
        return Ok(false);
    }
    let parent: u64 = read(entry, offset!(dentry_d_parent))?;
    if !is_about_oneself(&name(entry)?) && name(parent)? != *b"attr\0\0\0\0\0\0\0\0\0\0\0\0" {
        return Ok(false);
    }
    // `pid.tasks[PIDTYPE_PID].first` is the `pid_links[PIDTYPE_PID]` of the task.
    let link: u64 = read(pid, offset!(pid_tasks))?;
    if link == 0 {
        return Ok(false);
    }
    owns_task(link.wrapping_sub(u64::from(offset!(task_pid_links))))
}

#[inline(always)]
fn is_about_oneself(name: &[u8; 16]) -> bool {
    *name == *b"comm\0\0\0\0\0\0\0\0\0\0\0\0"
        || *name == *b"oom_score_adj\0\0\0"
        || *name == *b"oom_adj\0\0\0\0\0\0\0\0\0"
        || *name == *b"timerslack_ns\0\0\0"
        || *name == *b"coredump_filter\0"
        || *name == *b"clear_refs\0\0\0\0\0\0"
        || *name == *b"mem\0\0\0\0\0\0\0\0\0\0\0\0\0"
}

/// An entry's name; cut after 15 bytes, which is as long as any of those above.
#[inline(always)]
fn name(entry: u64) -> Result<[u8; 16], i32> {
    let text: u64 = read(entry, offset!(dentry_name))?;
    let mut name = [0; 16];
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel_str_bytes(text as *const u8, &mut name) }.map_err(|_| -1)?;
    Ok(name)
}

/// Control calls that escape: typing into a terminal that others read, sending a file's signals
/// to others, and changing a protected file's attributes. Devices and sockets need capabilities
/// for the rest.
#[inline(always)]
fn may_ioctl(file: u64, command: u32) -> Result<bool, i32> {
    const TIOCSTI: u32 = 0x5412;
    const TIOCLINUX: u32 = 0x541c;
    const FIOSETOWN: u32 = 0x8901;
    const SIOCSPGRP: u32 = 0x8902;
    if matches!(command, TIOCSTI | TIOCLINUX | FIOSETOWN | SIOCSPGRP) {
        return Ok(false);
    }
    // File systems' calls have type 'f' (FS_IOC_SETFLAGS) or 'X' (FS_IOC_FSSETXATTR).
    if matches!((command >> 8) as u8, b'f' | b'X') {
        return Ok(protection(read(file, offset!(file_dentry))?) <= FIXED);
    }
    Ok(true)
}
