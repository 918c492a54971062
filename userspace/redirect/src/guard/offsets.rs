//! Member offsets for the guard's programs.

use redirect_common::guard::GuardOffsets;

use crate::Error;
use crate::btf::Btf;

/// Offsets of every member that the guard's programs read; an error if the kernel has not all.
pub(super) fn find(btf: &Btf<'_>) -> Result<GuardOffsets, Error> {
    let within = |outer, member, inner, last| {
        Ok::<u32, Error>(btf.offset(outer, member)? + btf.offset(inner, last)?)
    };
    Ok(GuardOffsets {
        task_cgroups: btf.offset("task_struct", "cgroups")?,
        task_pid_links: btf.offset("task_struct", "pid_links")?,
        css_set_dfl_cgrp: btf.offset("css_set", "dfl_cgrp")?,
        cgroup_level: btf.offset("cgroup", "level")?,
        cgroup_ancestors: btf.offset("cgroup", "ancestors")?,
        cgroup_kn: btf.offset("cgroup", "kn")?,
        kernfs_node_id: btf.offset("kernfs_node", "id")?,
        proc_inode_pid: btf.offset("proc_inode", "pid")?,
        proc_inode_vfs_inode: btf.offset("proc_inode", "vfs_inode")?,
        pid_tasks: btf.offset("pid", "tasks")?,
        socket_sk: btf.offset("socket", "sk")?,
        sock_family: within("sock", "__sk_common", "sock_common", "skc_family")?,
        sock_cgroup: within("sock", "sk_cgrp_data", "sock_cgroup_data", "cgroup")?,
        unix_sock_dentry: within("unix_sock", "path", "path", "dentry")?,
        dentry_d_parent: btf.offset("dentry", "d_parent")?,
        dentry_d_inode: btf.offset("dentry", "d_inode")?,
        dentry_d_sb: btf.offset("dentry", "d_sb")?,
        dentry_name: within("dentry", "d_name", "qstr", "name")?,
        super_block_s_root: btf.offset("super_block", "s_root")?,
        super_block_s_magic: btf.offset("super_block", "s_magic")?,
        super_block_s_dev: btf.offset("super_block", "s_dev")?,
        inode_i_mode: btf.offset("inode", "i_mode")?,
        inode_i_rdev: btf.offset("inode", "i_rdev")?,
        inode_i_ino: btf.offset("inode", "i_ino")?,
        inode_i_sb: btf.offset("inode", "i_sb")?,
        file_f_mode: btf.offset("file", "f_mode")?,
        file_f_inode: btf.offset("file", "f_inode")?,
        file_dentry: within("file", "f_path", "path", "dentry")?,
        file_private_data: btf.offset("file", "private_data")?,
        pad: 0,
    })
}
