//! Descent of agents' processes: who forked whom, and what each was started as.
//!
//! A process in an enrolled cgroup, or forked by one that is followed, is followed to its end. Each
//! entry holds its ancestors, so a parent's end, a double fork or setsid(2) takes nothing from it.
//! Nothing is refused here; what is missed is counted, and leaves its mark on the records.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated::{
    bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_uid_gid, bpf_ktime_get_boot_ns,
    bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_ringbuf_output,
};
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use redirect_common::{
    EXEC_ARGUMENT_BYTES, EXEC_PATH_BYTES, ExecEvent, LINEAGE_WHOLE, LOST_EXEC, LOST_PROCESS,
    Lineage, MAX_ANCESTORS, Offsets, ProcessId,
};

use crate::maps::{EXEC_DRAFT, EXECS, MISSED, PROCESSES, count};
use crate::process::{belongs_to, executable, identify, offsets, read, walk};

/// `sched_process_fork(struct task_struct *parent, struct task_struct *child)`, on the parent.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn sched_process_fork(ctx: RawTracePointContext) -> i32 {
    // What can't be read is not followed: its connections say so.
    let _unread = forked(ctx.arg(1));
    0
}

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`, on `p`.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn sched_process_exec(ctx: RawTracePointContext) -> i32 {
    let _unread = executed(ctx.arg(2));
    0
}

/// `sched_process_exit(struct task_struct *p)`, on `p`; later kernels give more.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sched_process_exit(_: RawTracePointContext) -> i32 {
    let _unread = exited();
    0
}

#[inline(always)]
fn forked(child: u64) -> Result<(), i32> {
    let at = offsets();
    let tgid: u32 = read(child, at.task_tgid)?;
    if tgid == current_tgid() {
        return Ok(());
    }
    let leader = leader(&at)?;
    let parent = identify(leader, &at)?;
    let mut lineage = EMPTY;
    // SAFETY: the parent's entry is changed by the parent only, which is here.
    if let Some(known) = unsafe { PROCESSES.get(&parent) } {
        let mut place = 1;
        while place < MAX_ANCESTORS {
            lineage.ancestors[place] = known.ancestors[place - 1];
            place += 1;
        }
        lineage.enrolled = known.enrolled;
        lineage.image_ns = known.image_ns;
        lineage.image_tgid = known.image_tgid;
        lineage.exe_ino = known.exe_ino;
        lineage.exe_dev = known.exe_dev;
        lineage.flags = known.flags;
        lineage.depth = known.depth.saturating_add(1);
    } else {
        lineage.enrolled = belongs_to();
        if lineage.enrolled == 0 {
            return Ok(());
        }
        walk(&mut lineage.ancestors, 1, leader, &at)?;
    }
    lineage.ancestors[0] = parent;
    let id = ProcessId { start_ns: read(child, at.task_start_boottime)?, tgid, pad: 0 };
    follow(&id, &mut lineage);
    Ok(())
}

#[inline(always)]
fn executed(binary: u64) -> Result<(), i32> {
    let at = offsets();
    let leader = leader(&at)?;
    let id = identify(leader, &at)?;
    let enrolled = belongs_to();
    let (dev, ino) = executable(leader, &at).unwrap_or((0, 0));
    let now = now();
    if let Some(known) = PROCESSES.get_ptr_mut(&id) {
        // SAFETY: exec leaves the process one thread, which is here.
        let known = unsafe { &mut *known };
        known.image_ns = now;
        known.image_tgid = id.tgid;
        known.exe_ino = ino;
        known.exe_dev = dev;
        known.uid = current_uid();
        if enrolled != 0 {
            known.enrolled = enrolled;
        }
    } else if enrolled != 0 {
        let mut lineage = Lineage {
            enrolled,
            image_ns: now,
            image_tgid: id.tgid,
            exe_ino: ino,
            exe_dev: dev,
            flags: if missed() { 0 } else { LINEAGE_WHOLE },
            ..EMPTY
        };
        walk(&mut lineage.ancestors, 0, leader, &at)?;
        follow(&id, &mut lineage);
    } else {
        return Ok(());
    }
    report(binary, leader, &at, (id, now, enrolled), (dev, ino));
    Ok(())
}

/// The last thread's end is the process's: the kernel counts before it calls here (kernel/exit.c,
/// `do_exit`).
#[inline(always)]
fn exited() -> Result<(), i32> {
    let at = offsets();
    let leader = leader(&at)?;
    let signal: u64 = read(leader, at.task_signal)?;
    let live: i32 = read(signal, at.signal_live)?;
    if live == 0 {
        let _not_followed = PROCESSES.remove(&identify(leader, &at)?);
    }
    Ok(())
}

#[inline(always)]
fn follow(id: &ProcessId, lineage: &mut Lineage) {
    lineage.uid = current_uid();
    lineage.at_ns = now();
    if PROCESSES.insert(id, &*lineage, BPF_ANY.into()).is_err() {
        count(LOST_PROCESS);
        set_missed();
    }
}

/// Puts path and arguments into the ring.
#[inline(always)]
fn report(
    binary: u64,
    leader: u64,
    at: &Offsets,
    (process, at_ns, enrolled): (ProcessId, u64, u64),
    (exe_dev, exe_ino): (u32, u64),
) {
    let Some(draft) = EXEC_DRAFT.get_ptr_mut(0) else { return };
    // SAFETY: this CPU's draft, which is zero before its first use and never read beyond what this
    // run has written.
    let event = unsafe { &mut *draft };
    event.process = process;
    event.at_ns = at_ns;
    event.enrolled = enrolled;
    event.exe_ino = exe_ino;
    event.exe_dev = exe_dev;
    event.uid = current_uid();
    event.path[0] = 0;
    if let Ok(path) = read::<u64>(binary, at.binprm_filename) {
        let room = EXEC_PATH_BYTES as u32;
        let to = (&raw mut event.path).cast();
        // SAFETY: the helper checks the address and writes no more than there is room for.
        unsafe { bpf_probe_read_kernel_str(to, room, path as *const _) };
    }
    let (total, kept) = arguments(event, leader, at).unwrap_or((0, 0));
    event.argument_bytes = total;
    event.arguments_kept = kept as u32;
    let size = (HEAD_BYTES + kept) as u64;
    let ring = (&raw const EXECS).cast_mut().cast();
    // SAFETY: the verifier knows the size as no larger than the draft.
    if unsafe { bpf_ringbuf_output(ring, draft.cast(), size, 0) } != 0 {
        count(LOST_EXEC);
    }
}

/// Bytes of an event before its arguments.
const HEAD_BYTES: usize = size_of::<ExecEvent>() - EXEC_ARGUMENT_BYTES;

/// Copies the arguments; answers how many bytes there are, and how many were copied. Right after an
/// exec they are in memory: the kernel has just written them.
#[inline(always)]
fn arguments(event: &mut ExecEvent, leader: u64, at: &Offsets) -> Result<(u32, usize), i32> {
    let mm: u64 = read(leader, at.task_mm)?;
    let (start, end): (u64, u64) = (read(mm, at.mm_arg_start)?, read(mm, at.mm_arg_end)?);
    let total = end.saturating_sub(start);
    // A mask, because the verifier of 6.1 does not carry a comparison over to the register used.
    let kept = if total >= EXEC_ARGUMENT_BYTES as u64 {
        EXEC_ARGUMENT_BYTES as u64 - 1
    } else {
        total & (EXEC_ARGUMENT_BYTES as u64 - 1)
    };
    let to = (&raw mut event.arguments).cast();
    // SAFETY: the helper checks the address and writes no more than there is room for.
    match unsafe { bpf_probe_read_user(to, kept as u32, start as *const _) } {
        0 => Ok((total as u32, kept as usize)),
        error => Err(error as i32),
    }
}

/// Leader of the current task's process.
#[inline(always)]
fn leader(at: &Offsets) -> Result<u64, i32> {
    // SAFETY: a helper without arguments.
    read(unsafe { bpf_get_current_task() }, at.task_group_leader)
}

/// From now on what looks like an agent's start may be a descendant that was missed.
#[inline(always)]
fn set_missed() {
    if let Some(missed) = MISSED.get_ptr_mut(0) {
        // SAFETY: an array's value, one word that only ever becomes 1.
        unsafe { write_volatile(missed, 1) };
    }
}

#[inline(always)]
fn missed() -> bool {
    // SAFETY: as above.
    MISSED.get_ptr(0).is_none_or(|missed| unsafe { read_volatile(missed) } != 0)
}

#[inline(always)]
fn current_tgid() -> u32 {
    // SAFETY: a helper without arguments.
    (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32
}

#[inline(always)]
fn current_uid() -> u32 {
    // SAFETY: a helper without arguments.
    (unsafe { bpf_get_current_uid_gid() }) as u32
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_boot_ns() }
}

const EMPTY: Lineage = Lineage {
    ancestors: [ProcessId { start_ns: 0, tgid: 0, pad: 0 }; MAX_ANCESTORS],
    enrolled: 0,
    at_ns: 0,
    image_ns: 0,
    exe_ino: 0,
    exe_dev: 0,
    image_tgid: 0,
    uid: 0,
    flags: 0,
    depth: 0,
    pad: 0,
};
