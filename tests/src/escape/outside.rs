//! The world outside: sinks here, and at the other end of a virtual cable; folders of this namespace alone.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::ip;
use crate::process::{Running, run, wait_until};

/// The sinks' port, here and at the cable's other end.
pub(super) const SINK_PORT: u16 = 7001;

/// Where the cable leads to; nobody routes these addresses here.
pub(super) const REMOTE: &str = "10.99.9.2";
/// The same in IPv6.
pub(super) const REMOTE6: &str = "fd99:9::2";

/// The system's Python: it is there for every user, also in a virtual machine.
pub(super) const PYTHON: &str = "/usr/bin/python3";

/// Folders that attempts write to; what they do there is seen in this mount namespace alone.
const OWN_FOLDERS: &[&str] = &["/run", "/var/spool/cron/crontabs", "/root/.ssh", "/usr/local/bin"];

/// Folders below a copy of `/etc`, or below those, which must be there to be written to.
const MADE_FOLDERS: &[&str] = &[
    "/run/systemd/system",
    "/etc/cron.d",
    "/etc/systemd/system",
    "/etc/profile.d",
    "/etc/udev/rules.d",
];

/// Starts the sinks: the far ones first, these second.
///
/// # Errors
/// If this process has no network and mount namespace of its own, or may not change them.
pub(super) fn start(folder: &Path) -> Result<[Running; 2]> {
    own_folders(folder)?;
    ip("link set lo up")?;
    // icmp(7): who may send echo requests; a namespace starts with nobody.
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").context("ping_group_range")?;
    let mut remote = sinks(folder, "remote")?;
    wait_ready(&mut remote)?;
    cable(&remote)?;
    let mut local = sinks(folder, "local")?;
    wait_ready(&mut local)?;
    Ok([remote, local])
}

/// Puts memory over each folder, or over the nearest there is above it; `/etc` as a copy of what it was.
fn own_folders(folder: &Path) -> Result<()> {
    for folder in OWN_FOLDERS.iter().map(Path::new) {
        let there = folder.ancestors().find(|path| path.is_dir()).context("there is a root")?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "tmpfs"]).arg(there), 10)?
            .ok()?;
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let etc = folder.join("etc");
    run(Command::new("cp").args(["-a", "/etc"]).arg(&etc), 60)?.ok()?;
    run(Command::new("mount").arg("--bind").args([etc.as_path(), Path::new("/etc")]), 10)?.ok()?;
    for folder in MADE_FOLDERS {
        fs::create_dir_all(folder).context(*folder)?;
    }
    Ok(())
}

fn sinks(folder: &Path, place: &str) -> Result<Running> {
    let mut command = Command::new("unshare");
    if place == "remote" {
        command.arg("--net");
    }
    command.args(["--", PYTHON, "-IB"]).arg(folder.join("scripts/outside.py"));
    command.arg(place).arg(folder.join("outside/arrivals"));
    Running::new(place, command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()))
}

/// Lays a cable to the far sinks' network namespace.
fn cable(remote: &Running) -> Result<()> {
    let pid = remote.pid();
    // An earlier stage's cable goes when its other end's namespace does.
    wait_until("the cable is there", 10, || {
        Ok(ip(&format!("link add cable type veth peer name cable netns {pid}")).is_ok())
    })?;
    for (number, is_here) in [(1, true), (2, false)] {
        for command in [
            "link set lo up".to_owned(),
            "link set cable up".to_owned(),
            format!("addr add 10.99.9.{number}/24 dev cable"),
            format!("addr add fd99:9::{number}/64 dev cable nodad"),
        ] {
            if is_here {
                ip(&command)?;
                continue;
            }
            let mut there = Command::new("nsenter");
            there.args(["--net", "--target", &pid.to_string(), "ip"]).args(command.split(' '));
            run(&mut there, 10)?.ok().context(command)?;
        }
    }
    Ok(())
}

fn wait_ready(process: &mut Running) -> Result<()> {
    let output = process.take_stdout().context("its output is a pipe")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).context("the sinks")?;
    if line.trim() != "ready" {
        bail!("the sinks do not start: {line}");
    }
    Ok(())
}
