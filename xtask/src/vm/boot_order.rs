//! systemd starts the shipped units: agents' slice before the hooks are on, with them, and after a reboot.

use std::fs;

use anyhow::{Context, Result, ensure};
use integration::paths;

use super::kernels::Kernel;
use super::machine::Machine;

/// One boot of systemd without KVM on a busy machine, with the daemon's start in it.
const BOOT_S: u64 = 400;

/// What must have been seen, in this order; the last two after a reboot.
const EXPECTED: [&str; 5] = [
    "the daemon fails: nothing in the slice runs",
    "the daemon is masked: nothing in the slice runs",
    "the daemon runs: what runs in the slice is refused",
    "rebooted: what runs in the slice is refused",
    "rebooted: it started after the daemon was ready",
];

/// Boots a kernel twice with systemd and answers what was seen.
///
/// # Errors
/// If something in the slice ran without hooks, or did not run with them.
pub(super) fn check(kernel: &Kernel) -> Result<String> {
    let units = paths::root().join("packaging/systemd");
    ensure!(units.is_dir(), "no {}", units.display());
    let machine = Machine::new(kernel, "boot-order")?;
    fs::write(machine.results().join("test.sh"), TEST).context("the test")?;
    fs::write(machine.results().join("probe.py"), PROBE).context("the probe")?;
    let script = script()?;
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
fn script() -> Result<String> {
    let root = paths::root().display();
    let programs = paths::programs()?;
    let programs = programs.display();
    Ok(format!(
        r#"
cd /etc/systemd/system
rm -rf ./*.wants
for unit in {root}/packaging/systemd/*; do [ -f "$unit" ] && cp "$unit" .; done
mkdir -p /usr/local/bin && cp {programs}/vestibuled {programs}/vestibule /usr/local/bin/
mkdir -p -m 0700 /etc/vestibule && cp -r {root}/policies /etc/vestibule/policies
cat > /etc/vestibule/vestibule.toml <<'CONFIG'
policy_dir = "/etc/vestibule/policies"
[[target]]
name = "bank"
address = "127.0.0.1:1"
protocol = "postgresql"
CONFIG
cat > probe.service <<'UNIT'
[Service]
Type=oneshot
Slice=vestibule-agents.slice
User=65534
ExecStart=/usr/bin/python3 -I /vm/probe.py
StandardOutput=append:/run/probe.log
UNIT
cat > test.service <<'UNIT'
[Unit]
After=basic.target probe.service vestibule.service
[Service]
Type=oneshot
ExecStart=/bin/sh /vm/test.sh
StandardOutput=journal+console
StandardError=journal+console
TimeoutStartSec=360
UNIT
cat > test.target <<'UNIT'
[Unit]
Requires=basic.target
Wants=test.service
UNIT
# After the reboot both are wanted at once: only the units' own order keeps the probe back.
if [ -e /vm/seen.txt ]; then
  mkdir -p test.target.wants
  ln -s ../vestibule.service ../probe.service test.target.wants/
fi
: > /etc/fstab
exec /lib/systemd/systemd --unit=test.target --show-status=0
"#
    ))
}

/// Connects to a sink that is no target, and says how that went.
const PROBE: &str = "
import socket
try:
    with socket.create_connection(('127.0.0.1', 7001), timeout=10) as made:
        made.sendall(b'x')
        print('reached it' if made.recv(1) else 'refused', flush=True)
except OSError:
    print('refused', flush=True)
";

/// Runs as a unit of systemd's; the first boot has no `/vm/seen.txt`.
const TEST: &str = r#"
seen() { echo "$1" >> /vm/seen.txt; }
python3 -c "
import socket
l = socket.create_server(('127.0.0.1', 7001))
while True:
    c, _ = l.accept()
    c.send(b'x')
" &
nothing_runs() {
  rm -f /run/probe.log
  systemctl start probe.service
  if [ -s /run/probe.log ]; then seen "$1: it ran and $(cat /run/probe.log)"; else
    seen "$1: nothing in the slice runs"; fi
  systemctl reset-failed
}
if [ ! -e /vm/seen.txt ]; then
  # The probe's way works where nothing holds it.
  python3 -I /vm/probe.py | grep -q 'reached it' || seen 'the sink is not there'
  mkdir -p /etc/systemd/system/vestibule.service.d
  printf '[Service]\nExecStart=\nExecStart=/bin/false\nRestart=no\n' > /etc/systemd/system/vestibule.service.d/f.conf
  systemctl daemon-reload
  nothing_runs 'the daemon fails'
  rm -r /etc/systemd/system/vestibule.service.d
  cp /etc/systemd/system/vestibule.service /run/kept
  ln -sf /dev/null /etc/systemd/system/vestibule.service
  systemctl daemon-reload
  nothing_runs 'the daemon is masked'
  rm /etc/systemd/system/vestibule.service
  cp /run/kept /etc/systemd/system/vestibule.service
  systemctl daemon-reload
  systemctl start vestibule.service || journalctl --no-pager -u vestibule.service | tail -20
  rm -f /run/probe.log
  systemctl start probe.service
  seen "the daemon runs: what runs in the slice is $(cat /run/probe.log)"
else
  seen "rebooted: what runs in the slice is $(cat /run/probe.log)"
  ready=$(systemctl show -P ActiveEnterTimestampMonotonic vestibule.service)
  started=$(systemctl show -P ExecMainStartTimestampMonotonic probe.service)
  [ "$ready" -gt 0 ] && [ "$started" -gt "$ready" ] && seen 'rebooted: it started after the daemon was ready'
fi
journalctl --no-pager -b > /vm/journal.txt
sync
systemctl reboot
"#;
