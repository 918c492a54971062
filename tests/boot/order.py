"""Runs in a virtual machine as a unit of systemd's, beside the units that ship: what starts when, and what of the
agents reaches a sink that is no target. Each thing seen is a line of /vm/seen.txt; the second boot finds it there.
"""

import json
import os
import socket
import subprocess
import threading
import time
import traceback

SEEN = "/vm/seen.txt"
COUNTS = "/run/seen"
PORT = 7001
# A daemon without KVM, its hooks and its guard, is ready after some 20 s; on a busy machine after minutes.
PATIENCE_S = 300
# Who counts by which name: a unit in the agents' slice, and one that `vestibule run` starts.
AGENTS = {"in-slice": "in-slice.service", "probe": "vestibule-agent@probe.service"}
DROP_IN = "/etc/systemd/system/vestibule.service.d/test.conf"


def seen(line):
    with open(SEEN, "a") as file:
        file.write(line + "\n")


def systemctl(*arguments):
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True)
    return done.stdout.strip()


def show(unit, name):
    return systemctl("show", "-P", name, unit)


def sink():
    """Says a byte to whoever comes."""
    listener = socket.create_server(("127.0.0.1", PORT))

    def serve():
        while True:
            made, _ = listener.accept()
            try:
                made.send(b"x")
            except OSError:
                pass
            made.close()

    threading.Thread(target=serve, daemon=True).start()


def counts(name):
    """What steady.py has counted, by unit: reached, door, cut, and errors; and when what became what."""
    try:
        with open(f"{COUNTS}/{name}") as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def count(name, what):
    return counts(name).get(what, 0)


def wait(condition, seconds=PATIENCE_S):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def drop_in(text):
    """Changes the daemon's unit; an empty text takes the change away."""
    os.makedirs(os.path.dirname(DROP_IN), exist_ok=True)
    with open(DROP_IN, "w") as file:
        file.write(text)
    systemctl("daemon-reload")


def ran():
    """Units behind the door that a process was started for."""
    started = [unit for unit in AGENTS.values() if int(show(unit, "ExecMainStartTimestampMonotonic") or 0)]
    return started + sorted(os.listdir(COUNTS))


def nothing_runs(while_what):
    systemctl("start", *AGENTS.values())
    started = ran()
    seen(f"{while_what}: {started} ran" if started else f"{while_what}: no agent runs")
    systemctl("reset-failed")


def daemon_is_ready():
    return wait(lambda: show("vestibule.service", "ActiveState") == "active")


def comes_to_the_door(name):
    """Connections of a unit end at the daemon, and nowhere else, from now on."""
    if not wait(lambda: count(name, "door") > 0):
        return f"nothing comes to the door ({counts(name)})"
    before = counts(name)
    if not wait(lambda: count(name, "door") > before["door"] + 20):
        return f"it stops coming ({counts(name)})"
    reached = count(name, "reached") - before.get("reached", 0)
    return f"it reached the sink ({counts(name)})" if reached else "it comes to the door"


def started_after_the_daemon(unit):
    ready = int(show("vestibule.service", "ActiveEnterTimestampMonotonic") or 0)
    started = int(show(unit, "ExecMainStartTimestampMonotonic") or 0)
    return 0 < ready < started


def slow_start(while_what, names):
    """All are wanted at once, and the daemon takes its time."""
    wait(lambda: show("vestibule.service", "ActiveState") == "activating")
    early, started = [], []
    while show("vestibule.service", "ActiveState") == "activating":
        # What was looked at before the daemon was seen to be on its way.
        early = early or started
        started = ran()
        time.sleep(0.1)
    is_ready = daemon_is_ready()
    told = {name: comes_to_the_door(name) for name in names}
    after = all(started_after_the_daemon(AGENTS[name]) for name in names)
    if early or not is_ready or not after:
        seen(f"{while_what}: {early} ran before it (ready: {is_ready}, after: {after})")
        return
    seen(f"{while_what}: agents start after it")
    for name in names:
        seen(f"{while_what}: {name}: {told[name]}")


def with_its_sockets(what, names, act):
    """A daemon that ends and starts again under systemd gets its sockets back; agents wait meanwhile."""
    before = {name: counts(name) for name in names}
    pid = show("vestibule.service", "MainPID")
    act()
    is_new = wait(lambda: show("vestibule.service", "MainPID") not in ("0", pid)) and daemon_is_ready()
    told = {name: comes_to_the_door(name) for name in names}
    for name in names:
        now = counts(name)
        if any(now.get(how) != before[name].get(how) for how in now if how not in ("door", "cut", "turns")):
            told[name] = f"from {before[name]} to {now}"
    log = subprocess.run(
        ["journalctl", "--no-pager", "-b", f"_PID={show('vestibule.service', 'MainPID')}"], capture_output=True, text=True
    )
    stored = "from_store=true" in log.stdout
    right = is_new and stored and set(told.values()) == {"it comes to the door"}
    seen(f"{what}: " + ("it has its sockets, agents were not refused" if right else f"{is_new} {stored} {told}"))


def first_boot():
    # The way that agents try works where nobody holds them.
    systemctl("start", "free.service")
    seen("before: " + ("the sink is reached" if wait(lambda: count("free", "reached") > 0) else "no sink"))
    systemctl("stop", "free.service")
    os.unlink(f"{COUNTS}/free")
    drop_in("[Service]\nExecStart=\nExecStart=/bin/false\nRestart=no\n")
    nothing_runs("the daemon fails")
    drop_in("")
    unit = "/etc/systemd/system/vestibule.service"
    os.rename(unit, "/etc/systemd/kept")
    os.symlink("/dev/null", unit)
    systemctl("daemon-reload")
    nothing_runs("the daemon is masked")
    os.unlink(unit)
    os.rename("/etc/systemd/kept", unit)
    drop_in("[Service]\nExecStartPre=/bin/sleep 5\nTimeoutStartSec=300\n")
    systemctl("start", "--no-block", "vestibule.service", *AGENTS.values())
    slow_start("the daemon is slow", AGENTS)
    systemctl("start", "ruled.service")
    seen(f"a unit by rule: {comes_to_the_door('ruled')}")
    names = ("in-slice", "probe", "ruled")
    with_its_sockets("killed", names, kill)
    with_its_sockets("restarted", names, lambda: systemctl("restart", "vestibule.service"))
    before = {name: counts(name) for name in names}
    systemctl("stop", "vestibule.service")
    refused = "ECONNREFUSED"
    held = wait(lambda: all(count(name, refused) > before[name].get(refused, 0) + 20 for name in before), 30)
    free = [n for n in before if count(n, "reached") > before[n].get("reached", 0)]
    seen("stopped: agents are refused" if held and not free else f"stopped: free {free}, refused {held}")


def kill():
    systemctl("kill", "--signal=KILL", "--kill-whom=main", "vestibule.service")


def second_boot():
    """With the guard: it holds what is in the agents' slice, systemd's own preparations among it."""
    slow_start("rebooted", ["probe"])
    systemctl("start", "ruled.service")
    seen(f"rebooted: a unit by rule: {comes_to_the_door('ruled')}")
    with_its_sockets("rebooted, killed", ("probe", "ruled"), kill)
    seen("rebooted: in the guarded slice itself systemd starts " + ("something" if counts("in-slice") else "nothing"))


def main():
    os.makedirs(COUNTS, exist_ok=True)
    os.chmod(COUNTS, 0o1777)
    sink()
    try:
        if os.path.exists(SEEN):
            second_boot()
        else:
            first_boot()
    except Exception as error:
        traceback.print_exc()
        seen(f"the test failed: {error!r}")
    with open("/vm/journal.txt", "w") as file:
        subprocess.run(["journalctl", "--no-pager", "-b"], stdout=file, check=False)
    os.sync()
    systemctl("reboot")


main()
