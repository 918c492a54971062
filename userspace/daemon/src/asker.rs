//! Who asks for something that must not go unnoticed.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// A process on this host and the person behind it, as far as the kernel says.
#[derive(Debug, Serialize)]
pub(crate) struct Asker {
    pid: u32,
    /// Real user; root, or it would not be heard.
    uid: Option<u32>,
    /// Who logged in, whatever they became since (`/proc/PID/loginuid`); absent for what no login
    /// started.
    login_uid: Option<u32>,
    /// `pts/N`, `ttyN`, or `MAJOR:MINOR`; absent without a controlling terminal.
    tty: Option<String>,
}

/// Who a person is to this host, as far as it can tell: of whom a login is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HostUser {
    /// Who logged in to the host, by the kernel's word.
    Login(u32),
    /// Who called sudo, by its word, where the kernel keeps no account of logins.
    Sudo(u32),
    /// The user of the process, where there is no better word: all of root's are one.
    User(u32),
}

impl HostUser {
    /// Who is behind a process; an error if that has ended.
    pub(crate) fn of(tgid: u32, sudo_uid: Option<u32>) -> Result<Self> {
        let Asker { uid, login_uid, .. } = Asker::of(tgid);
        let by_process = uid.context("the process that asks has ended")?;
        let by_sudo = sudo_uid.map_or(Self::User(by_process), Self::Sudo);
        Ok(login_uid.map_or(by_sudo, Self::Login))
    }
}

impl std::fmt::Display for HostUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Login(uid) => write!(f, "login uid {uid}"),
            Self::Sudo(uid) => write!(f, "sudo uid {uid}"),
            Self::User(uid) => write!(f, "uid {uid}"),
        }
    }
}

impl Asker {
    /// What is known of a process; little, if it has ended.
    pub(crate) fn of(tgid: u32) -> Self {
        let read = |file: &str| fs::read_to_string(format!("/proc/{tgid}/{file}")).ok();
        let status = read("status");
        let uid = status.as_deref().and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
            line.split_whitespace().next()?.parse().ok()
        });
        let login_uid = read("loginuid").and_then(|uid| uid.trim().parse().ok());
        Self {
            pid: tgid,
            uid,
            login_uid: login_uid.filter(|uid| *uid != NO_LOGIN),
            tty: read("stat").as_deref().and_then(tty),
        }
    }
}

impl std::fmt::Display for Asker {
    /// As votes have it: `process 7, uid 0, login uid 1000, pts/3`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pid, uid, login_uid, tty } = self;
        write!(f, "process {pid}")?;
        if let Some(uid) = uid {
            write!(f, ", uid {uid}")?;
        }
        if let Some(uid) = login_uid {
            write!(f, ", login uid {uid}")?;
        }
        tty.as_ref().map_or(Ok(()), |tty| write!(f, ", {tty}"))
    }
}

/// `loginuid` of what no login started: -1.
const NO_LOGIN: u32 = u32::MAX;

/// Field 7 of proc_pid_stat(5), a device number: minor in bits 31 to 20 and 7 to 0, major in 15 to
/// 8. Majors from the kernel's Documentation/admin-guide/devices.txt.
fn tty(stat: &str) -> Option<String> {
    let number: u32 = stat.rsplit_once(") ")?.1.split(' ').nth(4)?.parse().ok()?;
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xfff00));
    match major {
        0 => None,
        4 if minor < 64 => Some(format!("tty{minor}")),
        136..=143 => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        _ => Some(format!("{major}:{minor}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_named() {
        let stat = |tty: u32| format!("7 (a) b) S 1 7 7 {tty} 7 0");
        assert_eq!(tty(&stat(0)), None);
        assert_eq!(tty(&stat(0x8803)).as_deref(), Some("pts/3"));
        assert_eq!(tty(&stat(0x0401)).as_deref(), Some("tty1"));
        assert_eq!(tty(&stat(0x0440)).as_deref(), Some("4:64"));
        assert_eq!(tty("no stat"), None);
    }

    #[test]
    fn this_process_is_known() {
        let Asker { pid, uid, .. } = Asker::of(std::process::id());
        assert_eq!(pid, std::process::id());
        assert_eq!(uid, Some(rustix::process::getuid().as_raw()));
    }
}
