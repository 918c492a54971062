//! systemd with the shipped units: agents and the daemon at start, after kills and restarts, and after a reboot.
//!
//! What is looked at is in `tests/boot`, which runs inside.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use integration::paths;

use super::kernels::Kernel;
use super::machine::Machine;

/// One boot of systemd without KVM on a busy machine, with up to four starts of the daemon in it.
const BOOT_S: u64 = 1500;

/// What must have been seen, in this order; what is `rebooted` in a second boot, with the guard armed.
const EXPECTED: &[&str] = &[
    "before: the sink is reached",
    "the daemon fails: no agent runs",
    "the daemon is masked: no agent runs",
    "the daemon is slow: agents start after it",
    "the daemon is slow: in-slice: it comes to the door",
    "the daemon is slow: probe: it comes to the door",
    "a unit by rule: it comes to the door",
    "killed: it has its sockets, agents were not refused",
    "restarted: it has its sockets, agents were not refused",
    "stopped: agents are refused",
    "rebooted: agents start after it",
    "rebooted: probe: it comes to the door",
    "rebooted: a unit by rule: it comes to the door",
    "rebooted, killed: it has its sockets, agents were not refused",
    "rebooted: in the guarded slice itself systemd starts nothing",
];

/// Boots a kernel twice with systemd and answers what was seen.
///
/// # Errors
/// If something was seen that is not expected, or missing; with all that was.
pub(super) fn check(kernel: &Kernel, programs: &Path) -> Result<String> {
    let units = paths::root().join("packaging/systemd");
    ensure!(units.is_dir(), "no {}", units.display());
    let machine = Machine::new(kernel, "boot-order")?;
    let script = script(programs);
    for boot in ["the first boot", "the second boot"] {
        machine.run(&script, BOOT_S).context(boot)?;
    }
    let seen = fs::read_to_string(machine.results().join("seen.txt")).unwrap_or_default();
    let lines: Vec<&str> = seen.lines().collect();
    ensure!(
        lines == EXPECTED,
        "expected:\n  {}\nseen:\n  {}\nthe console ends:\n{}",
        EXPECTED.join("\n  "),
        lines.join("\n  "),
        machine.console_tail()
    );
    Ok(format!("systemd, two boots:\n  {}", lines.join("\n  ")))
}

/// Installs as an operator does, and goes to systemd.
fn script(programs: &Path) -> String {
    let root = paths::root().display();
    let programs = programs.display();
    format!("root={root} programs={programs}\n{INSTALL}{UNITS}{START}")
}

/// As docs/operator.md has it.
const INSTALL: &str = r#"
cd /etc/systemd/system
rm -rf ./*.wants
for unit in $root/packaging/systemd/*; do [ -f "$unit" ] && cp "$unit" .; done
mkdir -p /usr/local/bin && cp $programs/vestibuled $programs/vestibule /usr/local/bin/
mkdir -p -m 0700 /etc/vestibule && cp -r $root/policies /etc/vestibule/policies
[ -e /vm/seen.txt ] && guard=required || guard=off
cat > /etc/vestibule/vestibule.toml <<CONFIG
policy_dir = "/etc/vestibule/policies"
[kernel]
guard = "$guard"
[[target]]
name = "bank"
address = "127.0.0.1:1"
protocol = "postgresql"
[[profile]]
name = "probe"
agents = ["probe"]
user = "65534"
group = "65534"
[[enroll]]
agent = "ruled"
unit = "ruled.service"
[[enroll]]
agent = "in-slice"
unit = "in-slice.service"
CONFIG
mkdir -p /opt/agents /opt/test && cp $root/tests/boot/*.py /opt/test/
printf '#!/bin/sh\nexec /usr/bin/python3 -I /opt/test/steady.py probe\n' > /opt/agents/probe
chmod 0755 /opt/agents/probe
"#;

/// A unit that nobody holds, one in the agents' slice, one that a rule names, and the test.
const UNITS: &str = r"
cat > free.service <<'UNIT'
[Service]
User=65534
ExecStart=/usr/bin/python3 -I /opt/test/steady.py free
UNIT
sed 's/free$/ruled/' free.service > ruled.service
cat > in-slice.service <<'UNIT'
[Service]
Slice=vestibule-agents.slice
User=65534
ExecStart=/usr/bin/python3 -I /opt/test/steady.py in-slice
UNIT
cat > test.service <<'UNIT'
[Unit]
After=basic.target
[Service]
ExecStart=/usr/bin/python3 -I /opt/test/order.py
StandardOutput=journal+console
StandardError=journal+console
UNIT
cat > test.target <<'UNIT'
[Unit]
Requires=basic.target
Wants=test.service
UNIT
# After the reboot all are wanted at once, and the daemon is slow: only the units' own order keeps agents back.
if [ -e /vm/seen.txt ]; then
  mkdir -p test.target.wants vestibule.service.d
  ln -s ../vestibule.service ../in-slice.service test.target.wants/
  ln -s ../vestibule-agent@.service test.target.wants/vestibule-agent@probe.service
  printf '[Service]\nExecStartPre=/bin/sleep 5\nTimeoutStartSec=300\n' > vestibule.service.d/slow.conf
fi
";

const START: &str = r"
: > /etc/fstab
# A host that is a container itself is none in here.
rm -f /.dockerenv /run/.containerenv
# systemd empties them, file by file.
mount -t tmpfs tmpfs /tmp && mount -t tmpfs tmpfs /var/tmp && mount -t tmpfs tmpfs /var/log
# Nobody is there to be asked for the first boot's settings, and nothing is to be rebuilt.
tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id
touch /etc/.updated /var/.updated
exec /lib/systemd/systemd --unit=test.target --show-status=auto
";
