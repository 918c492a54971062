//! The agent's environment: its caller's, but for what names a socket or a descriptor.

use std::path::Path;
use std::process::Command;

use super::user::User;

/// Descriptors handed on, and sockets of agents of another kind, engines and desktops.
const NAMES_SOCKETS: [&str; 19] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "NODE_CHANNEL_FD",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "GPG_AGENT_INFO",
    "DOCKER_HOST",
    "CONTAINER_HOST",
    "CONTAINERD_ADDRESS",
    "DBUS_SESSION_BUS_ADDRESS",
    "DBUS_SYSTEM_BUS_ADDRESS",
    "DBUS_STARTER_ADDRESS",
    "XDG_RUNTIME_DIR",
    "WAYLAND_SOCKET",
    "WAYLAND_DISPLAY",
    "DISPLAY",
    "VESTIBULE_CONTROL",
];

/// Removes those variables but the kept ones, and says who the user is, if it changes.
pub(super) fn clean(command: &mut Command, keep: &[String], user: &User) {
    for name in NAMES_SOCKETS.iter().filter(|name| !keep.iter().any(|kept| kept == *name)) {
        command.env_remove(name);
    }
    if let Some(account) = &user.account {
        command.env("HOME", &account.home).env("SHELL", &account.shell);
        command.env("USER", &account.name).env("LOGNAME", &account.name);
        for name in ["SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND", "MAIL"] {
            command.env_remove(name);
        }
    }
}

/// Where runtimes that bring authorities of their own are told of others: OpenSSL, Python's requests,
/// curl, Node.js, AWS's, git, gRPC, pip and libpq.
const NAMES_AUTHORITIES: [&str; 9] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "AWS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "PIP_CERT",
    "PGSSLROOTCERT",
];

/// Has the agent trust the authorities in `bundle`, whatever its caller's variables said.
pub(super) fn trust(command: &mut Command, keep: &[String], bundle: &Path) {
    for name in NAMES_AUTHORITIES.iter().filter(|name| !keep.iter().any(|kept| kept == *name)) {
        command.env(name, bundle);
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::run::user::Account;

    #[test]
    fn sockets_go_and_the_home_is_the_users() {
        let account =
            Account { name: "nobody".into(), home: "/nonexistent".into(), shell: "/bin/sh".into() };
        let user = User { uid: 65534, gid: 65534, groups: None, account: Some(account) };
        let mut command = Command::new("true");
        clean(&mut command, &["DISPLAY".to_owned()], &user);
        let set: Vec<_> = command.get_envs().collect();
        assert!(set.contains(&("DOCKER_HOST".as_ref(), None)));
        assert!(!set.iter().any(|(name, _)| *name == "DISPLAY"));
        let home = PathBuf::from("/nonexistent");
        assert!(set.contains(&("HOME".as_ref(), Some(home.as_os_str()))));
    }
}
