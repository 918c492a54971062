//! Which program goes to which LSM hook on the running kernel: hooks' arguments differ between
//! versions, and a program that reads another argument than it thinks would guard nothing.

use redirect_common::guard::Hook;

use crate::Error;
use crate::btf::Btf;

/// What the kernel calls a hook's place for BPF programs.
const PREFIX: &str = "bpf_lsm_";

/// A program and what it expects of its hook.
#[derive(Debug)]
pub(super) struct Program {
    /// Its name in the object.
    pub(super) name: &'static str,
    /// The hook's.
    pub(super) hook: &'static str,
    /// Arguments that it reads: place, and the type's name without `const` and `*`.
    reads: &'static [(usize, &'static str)],
}

/// Hooks that came after Linux 6.1, or that it keeps under another name: what they guard is
/// reached by others where they are absent.
const LATER: [&str; 4] =
    ["file_ioctl_compat", "inode_set_acl", "inode_remove_acl", "inode_file_setattr"];

const TASK: &[(usize, &str)] = &[(0, "task_struct")];
const SOCKET: &[(usize, &str)] = &[(0, "socket")];
const FILE: &[(usize, &str)] = &[(0, "file")];
const ENTRY_FIRST: &[(usize, &str)] = &[(0, "dentry")];
const ENTRY_SECOND: &[(usize, &str)] = &[(1, "dentry")];
const IOCTL: &[(usize, &str)] = &[(0, "file"), (1, "unsigned int")];

/// What the programs of each hook read; a hook that is not here has one that reads nothing. Where
/// there are several for a hook, the one that fits is taken.
const READS: &[Program] = &[
    reads("capable", "capable", &[(2, "int")]),
    reads("task_kill", "task_kill", TASK),
    reads("ptrace_access_check", "ptrace_access_check", TASK),
    reads("task_setnice", "task_setnice", TASK),
    reads("task_setioprio", "task_setioprio", TASK),
    reads("task_setscheduler", "task_setscheduler", TASK),
    reads("task_setrlimit", "task_setrlimit", TASK),
    reads("task_movememory", "task_movememory", TASK),
    reads("socket_create", "socket_create", &[(0, "int"), (1, "int"), (2, "int"), (3, "int")]),
    reads("socket_bind", "socket_bind", SOCKET),
    reads("socket_connect", "socket_connect", SOCKET),
    reads("socket_sendmsg", "socket_sendmsg", SOCKET),
    reads("socket_recvmsg", "socket_recvmsg", SOCKET),
    reads("unix_stream_connect", "unix_stream_connect", &[(1, "sock")]),
    reads("unix_may_send", "unix_may_send", &[(1, "socket")]),
    reads("file_open", "file_open", FILE),
    reads("file_permission", "file_permission", &[(0, "file"), (1, "int")]),
    reads("file_receive", "file_receive", FILE),
    reads("file_ioctl", "file_ioctl", IOCTL),
    reads("file_ioctl_compat", "file_ioctl_compat", IOCTL),
    reads("file_fcntl", "file_fcntl", &[(1, "unsigned int"), (2, "long unsigned int")]),
    reads("inode_permission", "inode_permission", &[(0, "inode"), (1, "int")]),
    reads("inode_create", "inode_create", ENTRY_SECOND),
    reads("inode_unlink", "inode_unlink", ENTRY_SECOND),
    reads("inode_link", "inode_link", &[(0, "dentry"), (2, "dentry")]),
    reads("inode_symlink", "inode_symlink", ENTRY_SECOND),
    reads("inode_mkdir", "inode_mkdir", ENTRY_SECOND),
    reads("inode_rmdir", "inode_rmdir", ENTRY_SECOND),
    reads("inode_mknod", "inode_mknod", ENTRY_SECOND),
    reads("inode_rename", "inode_rename", &[(1, "dentry"), (3, "dentry")]),
    reads("inode_setattr", "inode_setattr", ENTRY_FIRST),
    reads("inode_setattr_idmap", "inode_setattr", ENTRY_SECOND),
    reads("inode_setxattr", "inode_setxattr", ENTRY_SECOND),
    reads("inode_removexattr", "inode_removexattr", ENTRY_SECOND),
    reads("inode_set_acl", "inode_set_acl", ENTRY_SECOND),
    reads("inode_remove_acl", "inode_remove_acl", ENTRY_SECOND),
    reads("inode_file_setattr", "inode_file_setattr", ENTRY_FIRST),
];

const fn reads(
    name: &'static str,
    hook: &'static str,
    reads: &'static [(usize, &'static str)],
) -> Program {
    Program { name, hook, reads }
}

/// The programs for this kernel, by hook; an error if it lacks a hook, or has one with arguments
/// that no program knows.
pub(super) fn choose(btf: &Btf<'_>) -> Result<Vec<Program>, Error> {
    let functions = btf.functions(PREFIX)?;
    let mut chosen = Vec::with_capacity(Hook::NAMES.len());
    for &hook in Hook::NAMES {
        let Some(parameters) = functions.get(&*format!("{PREFIX}{hook}")) else {
            if LATER.contains(&hook) {
                continue;
            }
            return Err(Error::NoHook(hook));
        };
        let fits = |program: &&Program| {
            let as_read = |(place, wanted): &(usize, &str)| parameters.get(*place) == Some(wanted);
            program.hook == hook && program.reads.iter().all(as_read)
        };
        let program = match READS.iter().find(fits) {
            Some(Program { name, reads, .. }) => Program { name, hook, reads },
            None if READS.iter().any(|program| program.hook == hook) => {
                return Err(Error::OtherHook(hook));
            }
            None => reads(hook, hook, &[]),
        };
        chosen.push(program);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::btf::VMLINUX;

    #[test]
    fn this_kernel_has_a_program_for_every_hook() {
        let data = fs::read(VMLINUX).unwrap();
        let chosen = choose(&Btf::parse(&data).unwrap()).unwrap();
        for &hook in Hook::NAMES {
            let programs = chosen.iter().filter(|program| program.hook == hook).count();
            assert!(programs == 1 || LATER.contains(&hook), "{hook}: {programs}");
        }
    }

    #[test]
    fn what_programs_read_is_of_a_hook() {
        for program in READS {
            assert!(Hook::NAMES.contains(&program.hook), "{}", program.name);
        }
    }
}
