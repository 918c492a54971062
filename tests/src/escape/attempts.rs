//! Which attempts there are, and what is expected of each; the code is in `tests/escape`.

use super::stage::Role;
use super::watch::Watch;
use super::{Level, Seen};

/// One way past the door.
#[derive(Debug)]
pub struct Attempt {
    /// Its name, and that of its function.
    pub name: &'static str,
    /// What closes it, in the words of the bypass matrix.
    pub closed_by: &'static str,
    pub(super) watch: Watch,
    pub(super) setting: Setting,
    a1: Seen,
    a2: Seen,
    /// What becomes of it at A1 before [`UNIX_HOOKS`].
    a1_before: Option<Seen>,
}

/// The first kernel with hooks on AF_UNIX: major and minor number.
const UNIX_HOOKS: (u32, u32) = (6, 7);

/// What it starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// An agent that runs, before a daemon that runs.
    Usual,
    /// The daemon was killed.
    DaemonDown,
    /// An agent that is started for it, with a socket as its standard output.
    StandardOutput,
    /// A process that is enrolled while it runs.
    Late,
}

impl Attempt {
    /// Answers what must become of it at a level, on a kernel of this release.
    pub fn expected(&self, level: Level, release: &str) -> Seen {
        match (level, self.a1_before) {
            (Level::A1, Some(before)) if version(release) < UNIX_HOOKS => before,
            (Level::A1, _) => self.a1,
            (Level::A2, _) => self.a2,
        }
    }

    /// Who shows that it works where nobody is enrolled: the agent's own user first.
    pub(super) fn controls(level: Level) -> &'static [Role] {
        match level {
            Level::A1 => &[Role::User, Role::Root],
            Level::A2 => &[Role::Root],
        }
    }

    const fn watching(self, watch: Watch) -> Self {
        Self { watch, ..self }
    }

    const fn while_down(self) -> Self {
        Self { setting: Setting::DaemonDown, ..self }
    }

    const fn late(self) -> Self {
        Self { setting: Setting::Late, ..self }
    }

    const fn with_standard_output(self) -> Self {
        Self { setting: Setting::StandardOutput, ..self }
    }
}

const fn attempt(name: &'static str, closed_by: &'static str, a1: Seen, a2: Seen) -> Attempt {
    let (watch, setting) = (Watch::Nothing, Setting::Usual);
    Attempt { name, closed_by, watch, setting, a1, a2, a1_before: None }
}

/// Answers a release's major and minor number; zeros where it has none.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The same at both levels.
const fn proxied(name: &'static str) -> Attempt {
    attempt(name, CONNECT, Seen::Proxied, Seen::Proxied)
}

const fn refused(name: &'static str, closed_by: &'static str) -> Attempt {
    attempt(name, closed_by, Seen::Refused, Seen::Refused)
}

/// What kernels without hooks on AF_UNIX close for root alone: a user's sockets are ruled by their modes there.
const fn unix(name: &'static str, closed_by: &'static str) -> Attempt {
    Attempt { a1_before: Some(Seen::Allowed), ..refused(name, closed_by) }
}

const fn archive(name: &'static str) -> Attempt {
    refused(name, "owner and mode; file_open, inode_*").watching(Watch::Archive)
}

const CONNECT: &str = "connect4/6";
const DATAGRAM: &str = "connect4/6, sendmsg4/6";
const CREATE: &str = "sock_create";
const NO_CAPABILITY: &str = "no capability; socket_create, capable";
const JOIN: &str = "setsockopt";
const ENDED: &str = "SOCK_DESTROY at enrollment; socket_connect, socket_sendmsg";
const ENDED_UNIX: &str = "shut down at enrollment; unix_stream_connect, unix_may_send";
const EGRESS: &str = "cgroup_skb/egress; capable";
const HANDED: &str = "launcher closes descriptors; socket_connect, socket_sendmsg, file_permission";
const RECEIVED: &str = "connect_unix, mount namespace, modes; file_receive";
const CGROUPS: &str = "owner and mount namespace; inode_permission, inode_*";
const NAMESPACES: &str = "seccomp, connect4/6; userns_create";
const PINS: &str = "owner, mount namespace; inode_*, sb_umount, sb_mount";
const BPF: &str = "seccomp, unprivileged_bpf_disabled; bpf";
const OTHERS: &str = "uid, seccomp; task_kill, ptrace_access_check";
const BIND: &str = "bind4/6; socket_bind";
const SERVICES: &str =
    "connect_unix, sendmsg_unix, mount namespace, modes; unix_stream_connect, unix_may_send";
const SYSCTL: &str = "owner; cgroup/sysctl, file_open";
const MODULES: &str = "no capability, seccomp; capable, kernel_read_file";
const FILES: &str = "owner; inode_* on what is protected";

/// All of them, in the order of the matrix.
pub const ATTEMPTS: &[Attempt] = &[
    // connect v4/v6/mapped, non-blocking, reconnect, TFO, io_uring
    proxied("tcp4"),
    proxied("tcp4_remote"),
    proxied("tcp6"),
    proxied("tcp6_remote"),
    proxied("tcp_mapped"),
    proxied("tcp_non_blocking"),
    proxied("tcp_bound_source"),
    refused("tcp_bound_device", CONNECT),
    proxied("tcp_reconnect"),
    proxied("tfo_sendto"),
    proxied("tfo_connect"),
    proxied("through_the_proxy_itself"),
    attempt("uring_connect", URING, Seen::Refused, Seen::Proxied),
    attempt("uring_connect_async", URING, Seen::Refused, Seen::Proxied),
    attempt("uring_connect_sqpoll", URING, Seen::Refused, Seen::Refused),
    attempt("uring_socket", URING, Seen::Refused, Seen::Proxied),
    // QUIC/UDP connect, sendto
    refused("udp_connect", DATAGRAM),
    refused("udp_sendto", DATAGRAM),
    refused("udp_sendto_local", DATAGRAM),
    refused("udp6_connect", DATAGRAM),
    refused("udp6_sendto", DATAGRAM),
    refused("quic_connect", DATAGRAM),
    refused("quic_sendto", DATAGRAM),
    refused("dns_tls_datagram", DATAGRAM),
    // The daemon's resolver answers that it does not understand.
    attempt("dns_tunnel", DATAGRAM, Seen::Contained, Seen::Contained),
    // MPTCP; UDP-Lite, RAW, SCTP, odd protocols; AF_PACKET, AF_XDP; AF_VSOCK
    refused("mptcp", CREATE),
    refused("udplite_connect", CREATE),
    refused("udplite_sendto", CREATE),
    refused("sctp", CREATE),
    refused("sctp_connectx", CREATE),
    refused("raw_ip", CREATE),
    refused("ping_payload", EGRESS),
    refused("packet_frame", NO_CAPABILITY),
    refused("packet_datagram", NO_CAPABILITY),
    refused("xdp_socket", NO_CAPABILITY),
    refused("alg_socket", "seccomp; socket_create"),
    refused("vsock", "seccomp; socket_create"),
    // groups that the kernel reports to the network
    refused("multicast4", JOIN),
    refused("multicast4_source", JOIN),
    refused("multicast4_group", JOIN),
    refused("multicast4_by_six", JOIN),
    refused("multicast6", JOIN),
    refused("multicast6_source", JOIN),
    refused("multicast6_large", JOIN),
    refused("anycast6", JOIN),
    // nft/iptables DNAT of the proxy port; TUN + forwarding
    refused("dnat_remote", EGRESS),
    refused("dnat_local", EGRESS),
    refused("netlink_route", "no capability; capable"),
    refused("tun", "no capability; tun_dev_create"),
    // inherited or pre-existing sockets
    refused("inherited_connected", HANDED),
    refused("inherited_write", HANDED),
    refused("inherited_sendfile", HANDED),
    refused("inherited_unconnected", HANDED),
    refused("inherited_datagram", HANDED),
    refused("inherited_standard_output", HANDED).with_standard_output(),
    // processes that run before they are enrolled
    proxied("late_tcp").late(),
    proxied("late_child").late(),
    refused("late_connected", ENDED).late(),
    refused("late_revived", ENDED).late(),
    refused("late_unconnected", ENDED).late(),
    refused("late_datagram", ENDED).late(),
    refused("late_datagram_connected", ENDED).late(),
    unix("late_unix", ENDED_UNIX).late(),
    unix("late_unix_datagram", ENDED_UNIX).late(),
    unix("late_unix_pair", ENDED_UNIX).late(),
    // SCM_RIGHTS, pidfd_getfd
    unix("scm_rights", RECEIVED),
    unix("scm_rights_abstract", RECEIVED),
    refused("pidfd_getfd", OTHERS),
    // leave cgroup: cgroup.procs, CLONE_INTO_CGROUP
    refused("leave_by_procs", CGROUPS),
    refused("leave_by_new_mount", CGROUPS),
    refused("leave_by_uring", CGROUPS),
    refused("clone_into_cgroup", CGROUPS),
    refused("remove_cgroup", CGROUPS),
    refused("child_cgroup", CGROUPS),
    // new netns; user namespace
    refused("net_namespace", NAMESPACES),
    refused("user_namespace", NAMESPACES),
    refused("user_net_namespace", NAMESPACES),
    refused("user_namespace_mount", NAMESPACES),
    // detach/unpin BPF, bpf()
    refused("unlink_pins", PINS).watching(Watch::Pins),
    refused("rename_pins", PINS).watching(Watch::Pins),
    refused("unmount_pins", PINS).watching(Watch::Pins),
    refused("mount_over_pins", PINS).watching(Watch::Pins),
    refused("bpf_map", BPF),
    refused("bpf_link", BPF),
    refused("bpf_program", BPF),
    refused("bpf_map_by_number", BPF),
    // kill/stop/ptrace daemon or a third process
    refused("daemon_kill", OTHERS).watching(Watch::Process),
    refused("daemon_stop", OTHERS).watching(Watch::Process),
    refused("daemon_terminate", OTHERS).watching(Watch::Process),
    refused("daemon_kill_by_descriptor", OTHERS).watching(Watch::Process),
    refused("daemon_kill_by_cgroup", CGROUPS).watching(Watch::Process),
    refused("daemon_freeze", CGROUPS),
    refused("daemon_limit", OTHERS),
    refused("daemon_ptrace", OTHERS),
    refused("daemon_memory_read", OTHERS),
    refused("daemon_memory_write", OTHERS),
    refused("daemon_vm_read", OTHERS),
    refused("daemon_environment", OTHERS),
    refused("daemon_descriptors", OTHERS),
    refused("daemon_oom", OTHERS),
    refused("other_ptrace", OTHERS),
    refused("other_signal", OTHERS),
    // tamper with archive
    archive("archive_write"),
    archive("archive_append"),
    archive("archive_create"),
    archive("archive_unlink"),
    archive("archive_rename"),
    archive("archive_rename_folder"),
    archive("archive_truncate"),
    archive("archive_chmod"),
    archive("archive_chown"),
    archive("archive_link"),
    archive("archive_symlink"),
    archive("archive_mkdir"),
    archive("archive_rmdir"),
    archive("archive_utime"),
    archive("archive_setxattr"),
    archive("archive_open_uring"),
    archive("mount_over_archive"),
    refused("archive_read", "owner; file_open"),
    refused("archive_block_device", "no capability; file_open, inode_mknod"),
    // squat the proxy port while daemon is down; daemon crash
    refused("squat_port", BIND).while_down(),
    refused("squat_port_any", BIND).while_down(),
    refused("squat_port_six", BIND).while_down(),
    refused("tcp4_daemon_down", "pins").while_down(),
    refused("tcp6_daemon_down", "pins").while_down(),
    // database/docker/D-Bus/resolver AF_UNIX
    refused("unix_docker", SERVICES),
    refused("unix_docker_symlink", SERVICES),
    refused("unix_containerd", SERVICES),
    refused("unix_dbus", SERVICES),
    refused("unix_systemd", SERVICES),
    refused("unix_resolver", SERVICES),
    refused("unix_nscd", SERVICES),
    unix("unix_database", SERVICES),
    unix("unix_database_late", SERVICES),
    unix("unix_abstract", SERVICES),
    unix("unix_datagram", SERVICES),
    refused("daemon_control", SERVICES),
    // sysctl, sysrq, /proc/sys writes by uid 0
    refused("sysctl_route_localnet", SYSCTL),
    refused("sysctl_forward", SYSCTL),
    refused("sysctl_bpf", SYSCTL),
    refused("sysctl_core_pattern", SYSCTL),
    refused("sysctl_modprobe", SYSCTL),
    refused("sysctl_ptrace_scope", SYSCTL),
    refused("sysrq", SYSCTL),
    refused("sysfs_write", SYSCTL),
    refused("tracefs_write", SYSCTL),
    refused("set_clock", "no capability; settime"),
    refused("set_host_name", "no capability; capable"),
    refused("perf_event", "seccomp; perf_event_open"),
    // kernel modules, kexec, /dev/mem
    refused("memory_device", MODULES),
    refused("module_modprobe", MODULES),
    refused("module_finit", MODULES),
    refused("kexec_file", MODULES),
    // delegation over TCP; by file
    proxied("tcp_ssh"),
    refused("file_cron", FILES),
    refused("file_crontab", FILES),
    refused("file_systemd_unit", FILES),
    refused("file_systemd_run", FILES),
    refused("file_authorized_keys", FILES),
    refused("file_preload", FILES),
    refused("file_profile", FILES),
    refused("file_udev_rule", FILES),
    refused("file_binary", FILES),
];

const URING: &str = "seccomp; connect4/6, uring_sqpoll";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_what_the_matrix_closes_is_not_allowed() {
        let mut names: Vec<&str> = ATTEMPTS.iter().map(|a| a.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ATTEMPTS.len());
        for attempt in ATTEMPTS {
            for (level, release) in
                [(Level::A1, "6.1.0-56-amd64"), (Level::A1, "6.12.1+deb13"), (Level::A2, "6.1")]
            {
                let expected = attempt.expected(level, release);
                let is_open = level == Level::A1
                    && release.starts_with("6.1.")
                    && [SERVICES, RECEIVED, ENDED_UNIX].contains(&attempt.closed_by);
                assert!(expected != Seen::Allowed || is_open, "{}", attempt.name);
                assert_ne!(expected, Seen::Unproven, "{}", attempt.name);
            }
        }
    }

    #[test]
    fn releases_have_numbers() {
        assert_eq!(version("6.7-rc1"), UNIX_HOOKS);
        assert!(version("6.1.0-56-amd64") < UNIX_HOOKS && version("6.18.44-x") > UNIX_HOOKS);
        assert!(version("7.2.13") > UNIX_HOOKS);
    }
}
