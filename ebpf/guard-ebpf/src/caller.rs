//! Who asks: whether the current task is an agent's, and which; and whether something else is the
//! same agent's.

use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use redirect_common::MAX_CGROUP_LEVEL;
use redirect_common::guard::AgentsRoot;

use crate::maps::{ENROLLED, LEVELS};
use crate::read::{offset, read};

/// Set by the daemon before it loads the programs.
#[unsafe(no_mangle)]
static AGENTS_ROOT: AgentsRoot = AgentsRoot { id: 0, level: 0, pad: 0 };

/// An enrolled cgroup.
#[derive(Clone, Copy)]
pub struct Agent {
    pub id: u64,
    pub level: i32,
}

/// Whether the current task is held: below the slice's agents, or in a cgroup that was enrolled
/// elsewhere.
#[inline(always)]
pub fn held() -> bool {
    // SAFETY: a read_volatile of a static, so that the compiler does not fold in the zeros.
    let root = unsafe { core::ptr::read_volatile(&raw const AGENTS_ROOT) };
    if ancestor(root.level as i32) == root.id {
        return true;
    }
    // An array of one has it always; if not, everybody is held.
    let Some(levels) = LEVELS.get(0) else { return true };
    *levels != 0 && (agent().is_some() || ancestor(MAX_CGROUP_LEVEL) != 0)
}

/// The nearest enrolled cgroup at or above the current task's; none too deep.
#[inline(always)]
pub fn agent() -> Option<Agent> {
    let mut level = MAX_CGROUP_LEVEL - 1;
    while level >= 0 {
        let id = ancestor(level);
        // SAFETY: the value is one word, written whole by the daemon.
        if id != 0 && unsafe { ENROLLED.get(id) }.is_some() {
            return Some(Agent { id, level });
        }
        level -= 1;
    }
    None
}

/// The depth of the current task's cgroup, as far as one is looked at.
#[inline(always)]
pub fn level() -> u32 {
    let mut level = MAX_CGROUP_LEVEL;
    while level > 0 && ancestor(level) == 0 {
        level -= 1;
    }
    level as u32
}

/// Whether a task is the current agent's, or one that runs below it.
#[inline(always)]
pub fn owns_task(task: u64) -> Result<bool, i32> {
    let set: u64 = read(task, offset!(task_cgroups))?;
    owns(read(set, offset!(css_set_dfl_cgrp))?)
}

/// Whether a `struct sock` was made by the current agent, or one that runs below it: a socket
/// keeps the cgroup it was born in.
#[inline(always)]
pub fn owns_sock(sock: u64) -> Result<bool, i32> {
    owns(read(sock, offset!(sock_cgroup))?)
}

/// Whether a cgroup is the current agent's or below it.
#[inline(always)]
fn owns(cgroup: u64) -> Result<bool, i32> {
    let Some(agent) = agent() else { return Ok(false) };
    let level: i32 = read(cgroup, offset!(cgroup_level))?;
    if level < agent.level {
        return Ok(false);
    }
    // `cgroup.ancestors[level]`, from the root at 0 to the cgroup itself.
    let entry = offset!(cgroup_ancestors) + 8 * agent.level as u32;
    let node: u64 = read(read(cgroup, entry)?, offset!(cgroup_kn))?;
    let id: u64 = read(node, offset!(kernfs_node_id))?;
    Ok(id == agent.id)
}

#[inline(always)]
fn ancestor(level: i32) -> u64 {
    // SAFETY: any level may be asked for; 0 answers a level below the caller's own.
    unsafe { bpf_get_current_ancestor_cgroup_id(level) }
}
