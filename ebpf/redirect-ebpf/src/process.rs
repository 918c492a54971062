//! The calling process: identity, ancestors, executable, what holds it back, enrolment.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_get_current_pid_tgid,
    bpf_get_current_task, bpf_get_current_uid_gid,
};
use redirect_common::{
    LINEAGE_SEEN, LINEAGE_WHOLE, MAX_ANCESTORS, MAX_CGROUP_LEVEL, MODE_ENFORCE, NO_MEMBER, Offsets,
    PROCESS_LOGIN, PROCESS_NO_NEW_PRIVS, ProcessId, ProcessRecord,
};

use crate::maps::{ENROLLED, PROCESSES};

/// Bit of `task_struct.atomic_flags` (include/linux/sched.h, `PFA_NO_NEW_PRIVS`).
const NO_NEW_PRIVS: u64 = 1;

/// Set by the daemon before it loads the programs.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets {
    task_group_leader: 0,
    task_real_parent: 0,
    task_tgid: 0,
    task_start_boottime: 0,
    task_mm: 0,
    task_comm: 0,
    mm_exe_file: 0,
    file_f_inode: 0,
    inode_i_ino: 0,
    inode_i_sb: 0,
    super_block_s_dev: 0,
    task_cred: 0,
    cred_euid: 0,
    cred_cap_effective: 0,
    task_atomic_flags: 0,
    task_seccomp_mode: 0,
    task_loginuid: 0,
    task_sessionid: 0,
    task_signal: 0,
    signal_live: 0,
    mm_arg_start: 0,
    mm_arg_end: 0,
    binprm_filename: 0,
    pad: 0,
};

/// This kernel's offsets.
#[inline(always)]
pub fn offsets() -> Offsets {
    // SAFETY: a read_volatile of a static, so that the compiler does not fold in the zeros.
    unsafe { core::ptr::read_volatile(&raw const OFFSETS) }
}

/// The nearest enrolled cgroup at or above the caller's, if connections from it are to be
/// redirected. None where none is enrolled, the nearest is revoked, or the caller is too deep.
#[inline(always)]
pub fn enrolled() -> Option<u64> {
    if ancestor(MAX_CGROUP_LEVEL) != 0 {
        return None;
    }
    let mut level = MAX_CGROUP_LEVEL - 1;
    while level >= 0 {
        let id = ancestor(level);
        if id != 0 {
            // SAFETY: the value is one word, written whole by the daemon.
            if let Some(mode) = unsafe { ENROLLED.get(id) } {
                return if *mode == MODE_ENFORCE { Some(id) } else { None };
            }
        }
        level -= 1;
    }
    None
}

/// The nearest enrolled cgroup in whatever mode, or the caller's own: for telling, not deciding.
#[inline(always)]
pub fn enrolled_or_own() -> u64 {
    let mut level = MAX_CGROUP_LEVEL - 1;
    while level >= 0 {
        let id = ancestor(level);
        // SAFETY: only whether there is a value is looked at.
        if id != 0 && unsafe { ENROLLED.get(id) }.is_some() {
            return id;
        }
        level -= 1;
    }
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_current_cgroup_id() }
}

/// The caller's thread group id in the initial pid namespace.
#[inline(always)]
pub fn tgid() -> u32 {
    // SAFETY: a helper without arguments.
    unsafe { (bpf_get_current_pid_tgid() >> 32) as u32 }
}

/// The nearest enrolled cgroup at or above the caller's, in whatever mode; 0 for none. Made for
/// processes that are mostly nobody's agents: it ends at the caller's own level.
#[inline(always)]
pub fn belongs_to() -> u64 {
    let (mut nearest, mut level) = (0, 0);
    while level < MAX_CGROUP_LEVEL {
        let id = ancestor(level);
        if id == 0 {
            return nearest;
        }
        // SAFETY: only whether there is a value matters.
        if unsafe { ENROLLED.get(id) }.is_some() {
            nearest = id;
        }
        level += 1;
    }
    nearest
}

/// Fills in who calls. The group leader stands for the process: the current task may be any of
/// its threads or an io_uring worker. What holds it back is the current task's, which is what the
/// kernel would ask. An error means that an identity could not be read.
#[inline(always)]
pub fn describe(process: &mut ProcessRecord) -> Result<(), i32> {
    let at = offsets();
    // SAFETY: helpers without arguments.
    let (task, ids, cgroup) =
        unsafe { (bpf_get_current_task(), bpf_get_current_uid_gid(), bpf_get_current_cgroup_id()) };
    process.cgroup = cgroup;
    process.uid = ids as u32;
    process.gid = (ids >> 32) as u32;

    let leader: u64 = read(task, at.task_group_leader)?;
    let id = identify(leader, &at)?;
    process.tgid = id.tgid;
    process.start_ns = id.start_ns;
    process.comm = read(leader, at.task_comm)?;
    let (dev, ino) = executable(leader, &at).unwrap_or((0, 0));
    process.exe_dev = dev;
    process.exe_ino = ino;

    let held = confinement(process, task, &at)?;
    process.flags = held | descent(process, leader, &id, &at)?;
    Ok(())
}

/// What the process descends from and which exec made it; answers the flags that say how sure.
#[inline(always)]
fn descent(
    process: &mut ProcessRecord,
    leader: u64,
    id: &ProcessId,
    at: &Offsets,
) -> Result<u32, i32> {
    // SAFETY: an entry is changed by its own process only, in fork, exec and exit.
    if let Some(lineage) = unsafe { PROCESSES.get(id) } {
        process.ancestors = lineage.ancestors;
        process.image_ns = lineage.image_ns;
        process.image_tgid = lineage.image_tgid;
        let whole = lineage.flags & LINEAGE_WHOLE != 0 && lineage.depth <= MAX_ANCESTORS as u32;
        return Ok(LINEAGE_SEEN | if whole { LINEAGE_WHOLE } else { 0 });
    }
    process.image_ns = 0;
    process.image_tgid = 0;
    walk(&mut process.ancestors, 0, leader, at)?;
    Ok(0)
}

/// Puts the parents of the group leader `from`, as they stand now, into `ancestors` from `start`
/// on, and nothing behind them.
#[inline(always)]
pub fn walk(
    ancestors: &mut [ProcessId; MAX_ANCESTORS],
    start: usize,
    from: u64,
    at: &Offsets,
) -> Result<(), i32> {
    let (mut leader, mut ended) = (from, false);
    for place in ancestors.iter_mut().skip(start) {
        *place = ProcessId { start_ns: 0, tgid: 0, pad: 0 };
        if !ended {
            let parent: u64 = read(leader, at.task_real_parent)?;
            leader = read(parent, at.task_group_leader)?;
            *place = identify(leader, at)?;
            // The idle task: the parent of the first process, and its own.
            ended = place.tgid == 0;
            if ended {
                place.start_ns = 0;
            }
        }
    }
    Ok(())
}

/// Key of the process that `leader` leads.
#[inline(always)]
pub fn identify(leader: u64, at: &Offsets) -> Result<ProcessId, i32> {
    Ok(ProcessId {
        start_ns: read(leader, at.task_start_boottime)?,
        tgid: read(leader, at.task_tgid)?,
        pad: 0,
    })
}

/// What holds the task back; answers its flags.
#[inline(always)]
fn confinement(process: &mut ProcessRecord, task: u64, at: &Offsets) -> Result<u32, i32> {
    let cred: u64 = read(task, at.task_cred)?;
    process.euid = read(cred, at.cred_euid)?;
    process.cap_effective = read(cred, at.cred_cap_effective)?;
    let atomic: u64 = read(task, at.task_atomic_flags)?;
    let mut flags = if atomic & NO_NEW_PRIVS != 0 { PROCESS_NO_NEW_PRIVS } else { 0 };
    process.seccomp = 0;
    if at.task_seccomp_mode != NO_MEMBER {
        process.seccomp = read(task, at.task_seccomp_mode)?;
    }
    process.loginuid = 0;
    process.sessionid = 0;
    if at.task_loginuid != NO_MEMBER && at.task_sessionid != NO_MEMBER {
        process.loginuid = read(task, at.task_loginuid)?;
        process.sessionid = read(task, at.task_sessionid)?;
        flags |= PROCESS_LOGIN;
    }
    Ok(flags)
}

/// Device and inode of the executable; an error for a leader that has ended (its threads live on).
#[inline(always)]
pub fn executable(leader: u64, at: &Offsets) -> Result<(u32, u64), i32> {
    let mm: u64 = read(leader, at.task_mm)?;
    let file: u64 = read(mm, at.mm_exe_file)?;
    let inode: u64 = read(file, at.file_f_inode)?;
    let super_block: u64 = read(inode, at.inode_i_sb)?;
    Ok((read(super_block, at.super_block_s_dev)?, read(inode, at.inode_i_ino)?))
}

/// A value in the kernel's memory.
#[inline(always)]
pub fn read<T>(base: u64, offset: u32) -> Result<T, i32> {
    // SAFETY: the helper checks the address; `T` is an integer or an array of bytes.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T) }
}

#[inline(always)]
fn ancestor(level: i32) -> u64 {
    // SAFETY: any level may be asked for; 0 answers a level below the caller's own.
    unsafe { bpf_get_current_ancestor_cgroup_id(level) }
}
