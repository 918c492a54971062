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
}

/// What it starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// An agent that runs, before a daemon that runs.
    Usual,
    /// The daemon was killed.
    DaemonDown,
}

impl Attempt {
    /// Answers what must become of it at a level.
    pub fn expected(&self, level: Level) -> Seen {
        match level {
            Level::A1 => self.a1,
            Level::A2 => self.a2,
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
}

const fn attempt(name: &'static str, closed_by: &'static str, a1: Seen, a2: Seen) -> Attempt {
    Attempt { name, closed_by, watch: Watch::Nothing, setting: Setting::Usual, a1, a2 }
}

/// The same at both levels.
const fn proxied(name: &'static str) -> Attempt {
    attempt(name, CONNECT, Seen::Proxied, Seen::Proxied)
}

const fn refused(name: &'static str, closed_by: &'static str) -> Attempt {
    attempt(name, closed_by, Seen::Refused, Seen::Refused)
}

const fn archive(name: &'static str) -> Attempt {
    refused(name, "owner and mode; file_open, inode_*").watching(Watch::Archive)
}

const CONNECT: &str = "connect4/6";
const DATAGRAM: &str = "connect4/6, sendmsg4/6";
const CREATE: &str = "sock_create";
const NO_CAPABILITY: &str = "no capability; socket_create, capable";

/// All of them, in the order of the matrix.
pub const ATTEMPTS: &[Attempt] = &[
    proxied("tcp4"),
    proxied("tcp4_remote"),
    proxied("tcp6"),
    proxied("tcp6_remote"),
    proxied("tcp_mapped"),
    proxied("tcp_non_blocking"),
    proxied("tcp_bound_source"),
    proxied("tcp_bound_device"),
    proxied("tcp_reconnect"),
    proxied("tfo_sendto"),
    proxied("tfo_connect"),
    proxied("uring_connect"),
    proxied("uring_connect_async"),
    proxied("uring_connect_sqpoll"),
    proxied("uring_socket"),
    refused("udp_connect", DATAGRAM),
    refused("udp_sendto", DATAGRAM),
    refused("udp_sendto_local", DATAGRAM),
    refused("udp6_connect", DATAGRAM),
    refused("udp6_sendto", DATAGRAM),
    refused("quic_connect", DATAGRAM),
    refused("quic_sendto", DATAGRAM),
    refused("dns_tls_datagram", DATAGRAM),
    refused("mptcp", CREATE),
    refused("udplite_connect", CREATE),
    refused("udplite_sendto", CREATE),
    refused("sctp", CREATE),
    refused("sctp_connectx", CREATE),
    refused("raw_ip", CREATE),
    refused("ping_payload", "cgroup_skb/egress"),
    refused("packet_frame", NO_CAPABILITY),
    refused("packet_datagram", NO_CAPABILITY),
    refused("xdp_socket", NO_CAPABILITY),
    refused("vsock", "seccomp; socket_create"),
    refused("tun", "no capability; tun_dev_create"),
    refused("tcp4_daemon_down", "pins").while_down(),
    refused("tcp6_daemon_down", "pins").while_down(),
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
    refused("archive_read", "mode; file_open"),
    refused("archive_block_device", "no capability; file_open, inode_mknod"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_none_may_be_allowed() {
        let mut names: Vec<&str> = ATTEMPTS.iter().map(|a| a.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ATTEMPTS.len());
        for attempt in ATTEMPTS {
            for level in [Level::A1, Level::A2] {
                let expected = attempt.expected(level);
                assert!(!matches!(expected, Seen::Allowed | Seen::Unproven), "{}", attempt.name);
            }
        }
    }
}
