"""Ways to other processes and to the kernel."""

import ctypes
import os
import signal
import struct
import subprocess
import time

import calls

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_POKEDATA = 0x4206, 0x4207, 5


def daemon_kill(context):
    os.kill(context["pid"], signal.SIGKILL)


def daemon_stop(context):
    os.kill(context["pid"], signal.SIGSTOP)


def daemon_terminate(context):
    """A polite end is an end."""
    os.kill(context["pid"], signal.SIGTERM)
    time.sleep(1)


def daemon_kill_by_descriptor(context):
    """pidfd_send_signal(2)."""
    process = calls.syscall(calls.PIDFD_OPEN, context["pid"], 0)
    calls.syscall(424, process, signal.SIGKILL, None, 0)


def daemon_kill_by_cgroup(context):
    """cgroup.kill ends all that are in it (cgroups, Linux 5.14)."""
    with open(os.path.join(context["pid_cgroup"], "cgroup.kill"), "w") as kill:
        kill.write("1")


def daemon_freeze(context):
    with open(os.path.join(context["pid_cgroup"], "cgroup.freeze"), "w") as freeze:
        freeze.write("1")
    with open(os.path.join(context["pid_cgroup"], "cgroup.freeze"), "w") as freeze:
        freeze.write("0")
    return "EFFECT"


def daemon_limit(context):
    """prlimit(2): a daemon that may open no file."""
    import resource

    resource.prlimit(context["pid"], resource.RLIMIT_NOFILE, resource.prlimit(context["pid"], resource.RLIMIT_NOFILE))
    resource.prlimit(context["pid"], resource.RLIMIT_CORE, (0, 0))
    return "EFFECT"


def ptrace_seize(pid):
    calls.syscall(calls.PTRACE, PTRACE_SEIZE, pid, None, None)
    with open(f"/proc/{pid}/status") as status:
        traced = f"TracerPid:\t{os.getpid()}\n" in status.read()
    return "EFFECT" if traced else None


def daemon_ptrace(context):
    return ptrace_seize(context["pid"])


def other_ptrace(context):
    """A third process, neither the agent's nor the daemon's."""
    return ptrace_seize(context["holder"])


def daemon_memory_read(context):
    with open(f"/proc/{context['pid']}/maps") as maps:
        start = int(maps.readline().split("-")[0], 16)
    with open(f"/proc/{context['pid']}/mem", "rb") as memory:
        memory.seek(start)
        return "EFFECT" if memory.read(4) == b"\x7fELF" else None


def daemon_memory_write(context):
    descriptor = os.open(f"/proc/{context['pid']}/mem", os.O_RDWR)
    os.close(descriptor)
    return "EFFECT"


def daemon_vm_read(context):
    """process_vm_readv(2) (310) of the program's first bytes; its place is in maps."""
    with open(f"/proc/{context['pid']}/maps") as maps:
        start = int(maps.readline().split("-")[0], 16)
    buffer = ctypes.create_string_buffer(4)
    local = struct.pack("=QQ", ctypes.addressof(buffer), 4)
    remote = struct.pack("=QQ", start, 4)
    calls.syscall(310, context["pid"], local, 1, remote, 1, 0)
    return "EFFECT" if buffer.raw == b"\x7fELF" else None


def daemon_environment(context):
    with open(f"/proc/{context['pid']}/environ", "rb") as environment:
        return "EFFECT" if environment.read(10) else None


def daemon_descriptors(context):
    """The daemon's files by its table of descriptors."""
    table = f"/proc/{context['pid']}/fd"
    refusal = None
    for number in os.listdir(table):
        try:
            os.close(os.open(f"{table}/{number}", os.O_RDONLY | os.O_NONBLOCK))
            return "EFFECT"
        except OSError as error:
            refusal = error
    raise refusal


def daemon_oom(context):
    """The kernel's choice of whom to end when memory is short (proc_pid_oom_score_adj(5))."""
    path = f"/proc/{context['pid']}/oom_score_adj"
    with open(path) as score:
        before = score.read()
    with open(path, "w") as score:
        score.write("7")
    with open(path) as score:
        changed = score.read() == "7\n"
    with open(path, "w") as score:
        score.write(before)
    return "EFFECT" if changed else None


def other_signal(context):
    """A process outside the slice."""
    os.kill(context["holder"], signal.SIGSTOP)
    os.kill(context["holder"], signal.SIGCONT)
    return "EFFECT"


def set_sysctl(path, value):
    """Writes a setting, looks, and puts the old one back."""
    with open(path) as setting:
        before = setting.read().strip()
    with open(path, "w") as setting:
        setting.write(value)
    with open(path) as setting:
        changed = setting.read().strip() == value
    with open(path, "w") as setting:
        setting.write(before)
    return "EFFECT" if changed else None


def sysctl_route_localnet(context):
    """Loopback addresses over the cable."""
    return set_sysctl("/proc/sys/net/ipv4/conf/cable/route_localnet", "1")


def sysctl_forward(context):
    return set_sysctl("/proc/sys/net/ipv4/conf/cable/forwarding", "1")


def sysctl_bpf(context):
    """A setting of BPF's: the clock of every program; the ones beside it say who may load programs."""
    return set_sysctl("/proc/sys/kernel/bpf_stats_enabled", "1")


def sysctl_core_pattern(context):
    """A program that the kernel starts as root for whoever crashes."""
    return set_sysctl("/proc/sys/kernel/core_pattern", "|/bin/true")


def sysctl_modprobe(context):
    """A program that the kernel starts as root for whoever asks for a protocol."""
    return set_sysctl("/proc/sys/kernel/modprobe", "/bin/true")


def sysctl_ptrace_scope(context):
    return set_sysctl("/proc/sys/kernel/yama/ptrace_scope", "1")


def sysrq(context):
    """h: help, the harmless one; b would reboot."""
    with open("/proc/sysrq-trigger", "w") as trigger:
        trigger.write("h")
    return "EFFECT"


def sysfs_write(context):
    """A setting of the kernel, set to what it is."""
    path = next(p for p in ("/sys/kernel/mm/ksm/sleep_millisecs", "/sys/kernel/rcu_normal") if os.path.exists(p))
    with open(path, "r+") as setting:
        value = setting.read()
        setting.seek(0)
        setting.write(value)
    return "EFFECT"


def tracefs_write(context):
    with open("/sys/kernel/tracing/trace_marker", "w") as marker:
        marker.write("escape")
    return "EFFECT"


def memory_device(context):
    """/dev/mem: the first page holds the BIOS's data."""
    with open("/dev/mem", "rb") as memory:
        return "EFFECT" if memory.read(16) else None


def module_path():
    release = os.uname().release
    for folder, _, files in os.walk(f"/lib/modules/{release}/kernel/drivers/net"):
        for name in files:
            if name.startswith("dummy.ko"):
                return os.path.join(folder, name)
    raise FileNotFoundError("this kernel has no modules")


def loaded():
    with open("/proc/modules") as modules:
        return any(line.startswith("dummy ") for line in modules)


def module_modprobe(context):
    subprocess.run(["/sbin/modprobe", "dummy"], check=True, capture_output=True)
    return unloaded()


def module_finit(context):
    """finit_module(2); MODULE_INIT_COMPRESSED_FILE (4) where it is compressed."""
    path = module_path()
    with open(path, "rb") as module:
        flags = 0 if path.endswith(".ko") else 4
        calls.syscall(calls.FINIT_MODULE, module.fileno(), b"", flags)
    return unloaded()


def unloaded():
    there = loaded()
    # delete_module(2) (176), so that the next attempt loads it again.
    calls.LIBC.syscall(176, b"dummy", os.O_NONBLOCK)
    return "EFFECT" if there else None


def kexec_file(context):
    """kexec_file_load(2) of Debian's image; KEXEC_FILE_NO_INITRAMFS (4). Unloaded at once (1)."""
    image = os.open(context["image"], os.O_RDONLY)
    calls.syscall(calls.KEXEC_FILE_LOAD, image, -1, 1, b"", 4)
    with open("/sys/kernel/kexec_loaded") as state:
        there = state.read().strip() == "1"
    calls.LIBC.syscall(calls.KEXEC_FILE_LOAD, -1, -1, ctypes.c_long(0), None, ctypes.c_long(1))
    return "EFFECT" if there else None


def set_clock(context):
    """Records carry times: clock_settime(2) to now."""
    now = time.clock_gettime(time.CLOCK_REALTIME)
    time.clock_settime(time.CLOCK_REALTIME, now)
    return "EFFECT"


def set_host_name(context):
    """The node's name in records."""
    import socket

    socket.sethostname(socket.gethostname())
    return "EFFECT"


def mount_over_archive(context):
    """Something else where the archive was."""
    folder = os.path.dirname(context["file"]).encode()
    calls.syscall(calls.MOUNT, b"none", folder, b"tmpfs", 0, None)


def perf_event(context):
    """perf_event_open(2) (298) of all processes on a processor: a view into others."""
    # type SOFTWARE, size 112, config CPU_CLOCK; pid -1, cpu 0.
    attributes = struct.pack("=IIQ", 1, 112, 0) + bytes(96)
    os.close(calls.syscall(298, attributes, -1, 0, -1, 0))
    return "EFFECT"


ATTEMPTS = {}
for each in (
    daemon_kill, daemon_stop, daemon_terminate, daemon_kill_by_descriptor, daemon_kill_by_cgroup, daemon_freeze,
    daemon_limit, daemon_ptrace, other_ptrace, daemon_memory_read, daemon_memory_write, daemon_vm_read,
    daemon_environment, daemon_descriptors, daemon_oom, other_signal, sysctl_route_localnet, sysctl_forward,
    sysctl_bpf, sysctl_core_pattern, sysctl_modprobe, sysctl_ptrace_scope, sysrq, sysfs_write, tracefs_write,
    memory_device, module_modprobe, module_finit, kexec_file, set_clock, set_host_name,
    mount_over_archive, perf_event,
):
    ATTEMPTS[each.__name__] = each
