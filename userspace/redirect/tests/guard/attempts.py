"""What an agent that runs as root tries, once each: prints `NAME OUTCOME` lines.

Arguments: the daemon's pid, an outsider's pid, hidden directory, read-only directory, allowed
socket, outsider's socket, outsider's abstract socket, outsider's datagram socket, a cgroup.procs
file, a directory to work in. Standard error is a TCP connection made by another process.
"""
import ctypes, errno, fcntl, os, pty, resource, signal, socket, struct, sys, threading, time

(daemon, outsider, hidden, fixed, allowed, foreign, abstract, datagram, procs, work) = sys.argv[1:11]
daemon, outsider = int(daemon), int(outsider)
libc = ctypes.CDLL(None, use_errno=True)


def call(number, *args):
    if libc.syscall(number, *args) < 0:
        raise OSError(ctypes.get_errno(), "")


def attempt(name, what):
    try:
        answer = what()
        said = answer if isinstance(answer, str) else "done"
    except OSError as error:
        said = errno.errorcode.get(error.errno, str(error.errno))
    except Exception as error:
        said = type(error).__name__
    print(name, said, flush=True)


def write(path, data=b"1\n", flags=os.O_WRONLY):
    fd = os.open(path, flags)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def create(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def connect(kind, path):
    with socket.socket(socket.AF_UNIX, kind) as s:
        s.connect(path)


def own_unix():
    path = work + "/own.sock"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.connect(path)
        client.send(b"x")
        assert server.accept()[0].recv(1) == b"x"


def own_datagrams():
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    a.send(b"x")
    assert b.recv(1) == b"x"


def own_child():
    pid = os.fork()
    if pid == 0:
        time.sleep(30)
        os._exit(0)
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM


def own_thread_name():
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        write(f"/proc/self/task/{thread.native_id}/comm", b"worker\n", os.O_RDWR)
    finally:
        done.set()


def own_file():
    path = work + "/file"
    create(path)
    write(path)
    os.chmod(path, 0o640)
    os.chown(path, 1, 1)
    os.rename(path, path + ".moved")
    os.link(path + ".moved", path)
    os.unlink(path)


def other_user():
    pid = os.fork()
    if pid == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            os._exit(0)
        except OSError:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def terminal_input():
    master, slave = pty.openpty()
    fcntl.ioctl(slave, 0x5412, b"x")


def by_handle():
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0) + bytes(128))
    mount = ctypes.c_int()
    if libc.name_to_handle_at(-100, hidden.encode(), handle, ctypes.byref(mount), 0) < 0:
        raise OSError(ctypes.get_errno(), "")
    fd = os.open(work, os.O_RDONLY)
    if libc.open_by_handle_at(fd, handle, os.O_RDONLY) < 0:
        raise OSError(ctypes.get_errno(), "")


def received():
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(allowed)
        _, fds, _, _ = socket.recv_fds(s, 1, 1)
        return None if fds else "nothing"


def inherited():
    socket.socket(fileno=os.dup(2)).send(b"x")


def inherited_sendfile():
    path = work + "/sent"
    create(path)
    write(path, b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    return os.sendfile(2, fd, 0, 10)


tcp, udp, raw, packet = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.AF_PACKET
SETNS, BPF, PERF, INIT_MODULE, UNSHARE, PIDFD_OPEN, PIDFD_GETFD = 308, 321, 298, 175, 272, 434, 438

# The daemon and other tasks.
attempt("signal_daemon", lambda: os.kill(daemon, 0))
attempt("signal_outsider", lambda: os.kill(outsider, signal.SIGTERM))
attempt("prlimit_daemon", lambda: resource.prlimit(daemon, resource.RLIMIT_NOFILE, (64, 64)))
attempt("nice_daemon", lambda: os.setpriority(os.PRIO_PROCESS, daemon, 19))
attempt("affinity_daemon", lambda: os.sched_setaffinity(daemon, {0}))
attempt("memory_daemon", lambda: os.close(os.open(f"/proc/{daemon}/mem", os.O_RDWR)))
attempt("descriptors_daemon", lambda: os.readlink(f"/proc/{daemon}/fd/0") and None)
attempt("oom_daemon", lambda: write(f"/proc/{daemon}/oom_score_adj", b"1000"))
attempt("sigio_daemon", lambda: fcntl.fcntl(0, fcntl.F_SETOWN, daemon) and None)
attempt("ptrace_outsider", lambda: call(101, 0x4206, outsider, 0, 0))
attempt("pidfd_getfd", lambda: call(PIDFD_GETFD, os.pidfd_open(outsider), 0, 0))
attempt("own_child", own_child)

# The kernel.
attempt("bpf", lambda: call(BPF, 0, ctypes.create_string_buffer(128), 128))
attempt("perf", lambda: call(PERF, ctypes.create_string_buffer(struct.pack("II", 1, 112) + bytes(104)), 0, -1, -1, 0))
attempt("module", lambda: call(INIT_MODULE, b"x", 1, b""))
attempt("user_namespace", lambda: call(UNSHARE, 0x10000000))
attempt("network_namespace", lambda: call(UNSHARE, 0x40000000))
attempt("mount_namespace", lambda: call(UNSHARE, 0x00020000))
attempt("mount", lambda: call(165, b"none", work.encode(), b"tmpfs", 0, 0))
attempt("unmount", lambda: call(166, b"/sys/fs/bpf", 2))
attempt("clock", lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()))
attempt("sysctl", lambda: write("/proc/sys/net/ipv4/conf/all/route_localnet", b"0"))
attempt("sysrq", lambda: os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY)))
attempt("sysfs", lambda: os.close(os.open("/sys/kernel/uevent_helper", os.O_WRONLY)) if os.path.exists("/sys/kernel/uevent_helper") else os.close(os.open("/sys/kernel/mm/ksm/run", os.O_WRONLY)))
attempt("cgroup_procs", lambda: os.close(os.open(procs, os.O_WRONLY)))
attempt("cgroup_mkdir", lambda: os.mkdir(os.path.dirname(procs) + "/x"))
attempt("physical_memory", lambda: os.close(os.open("/dev/mem", os.O_RDONLY)))
attempt("device_node", lambda: os.mknod(work + "/block", 0o060600, os.makedev(7, 0)))
attempt("terminal_input", terminal_input)
attempt("null_device", lambda: write("/dev/null"))
attempt("random_device", lambda: os.close(os.open("/dev/urandom", os.O_RDONLY)))

# About oneself.
attempt("own_comm", lambda: write("/proc/self/comm", b"renamed\n"))
attempt("own_thread_name", own_thread_name)
attempt("own_oom", lambda: write("/proc/self/oom_score_adj", b"500"))
attempt("own_file", own_file)
attempt("other_user", other_user)

# Sockets.
attempt("packet_socket", lambda: socket.socket(packet, raw).close())
attempt("raw_socket", lambda: socket.socket(socket.AF_INET, raw, 1).close())
attempt("vsock", lambda: socket.socket(40, tcp).close())
attempt("mptcp", lambda: socket.socket(socket.AF_INET, tcp, 262).close())
attempt("udplite", lambda: socket.socket(socket.AF_INET, udp, 136).close())
attempt("netlink_audit", lambda: socket.socket(socket.AF_NETLINK, raw, 9).close())
attempt("netlink_route", lambda: socket.socket(socket.AF_NETLINK, raw, 0).close())
attempt("tcp", lambda: socket.socket(socket.AF_INET, tcp).close())
attempt("udp", lambda: socket.socket(socket.AF_INET6, udp).close())
attempt("inherited_send", inherited)
attempt("inherited_sendfile", inherited_sendfile)
attempt("unix_foreign", lambda: connect(tcp, foreign))
attempt("unix_symlink", lambda: (os.symlink(foreign, work + "/s"), connect(tcp, work + "/s")) and None)
attempt("unix_abstract", lambda: connect(tcp, "\0" + abstract))
attempt("unix_datagram", lambda: connect(udp, datagram))
attempt("unix_allowed", lambda: connect(tcp, allowed))
attempt("unix_received", received)
attempt("unix_own", own_unix)
attempt("unix_pair", own_datagrams)

# What is protected.
attempt("hidden_read", lambda: os.close(os.open(hidden + "/deep/key", os.O_RDONLY)))
attempt("hidden_list", lambda: os.listdir(hidden) and None)
attempt("hidden_handle", by_handle)
attempt("hidden_create", lambda: create(hidden + "/new"))
attempt("hidden_unlink", lambda: os.unlink(hidden + "/deep/key"))
attempt("hidden_rename", lambda: os.rename(hidden, hidden + ".away"))
attempt("hidden_parent_rename", lambda: os.rename(os.path.dirname(hidden), os.path.dirname(hidden) + ".away"))
attempt("hidden_chmod", lambda: os.chmod(hidden, 0o777))
attempt("hidden_truncate", lambda: os.truncate(hidden + "/deep/key", 0))
attempt("hidden_utime", lambda: os.utime(hidden + "/deep/key"))
attempt("hidden_link", lambda: os.link(hidden + "/deep/key", work + "/key"))
attempt("hidden_symlink", lambda: os.symlink("/", hidden + "/s"))
attempt("hidden_mkdir", lambda: os.mkdir(hidden + "/d"))
attempt("hidden_mknod", lambda: os.mkfifo(hidden + "/fifo"))
attempt("hidden_xattr", lambda: os.setxattr(hidden + "/deep/key", "trusted.x", b"1"))
attempt("hidden_replace", lambda: (create(work + "/r"), os.rename(work + "/r", hidden + "/deep/key")) and None)
attempt("fixed_read", lambda: os.close(os.open(fixed + "/policy", os.O_RDONLY)))
attempt("fixed_write", lambda: write(fixed + "/policy"))
attempt("fixed_create", lambda: create(fixed + "/new"))
attempt("fixed_attributes", lambda: fcntl.ioctl(os.open(fixed + "/policy", os.O_RDONLY), 0x40086602, struct.pack("l", 0)) and None)
print("end", flush=True)
