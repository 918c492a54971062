"""Ways out by sockets of one's own."""

import ctypes
import fcntl
import mmap
import os
import select
import socket
import struct

import calls
import wire

MSG_FASTOPEN = 0x20000000
TCP_FASTOPEN_CONNECT = 30
SO_BINDTODEVICE = 25
IPPROTO_MPTCP = 262


def tcp4(context):
    return wire.tcp(context)


def tcp4_remote(context):
    return wire.tcp(context, context["remote"])


def tcp4_daemon_down(context):
    return wire.tcp(context)


def tcp6_daemon_down(context):
    return wire.tcp(context, "::1", socket.AF_INET6)


def tcp6(context):
    return wire.tcp(context, "::1", socket.AF_INET6)


def tcp6_remote(context):
    return wire.tcp(context, context["remote6"], socket.AF_INET6)


def tcp_mapped(context):
    return wire.tcp(context, "::ffff:" + context["remote"], socket.AF_INET6)


def tcp_non_blocking(context):
    made = socket.socket()
    made.setblocking(False)
    made.connect_ex((context["local"], context["port"]))
    select.select([], [made], [], wire.PATIENCE_S)
    return wire.tell(wire.stream(made), context)


def tcp_bound_source(context):
    made = wire.stream(socket.socket())
    made.bind(("10.99.9.1", 0))
    made.connect((context["remote"], context["port"]))
    return wire.tell(made, context)


def tcp_bound_device(context):
    made = wire.stream(socket.socket())
    made.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, b"cable\0")
    made.connect((context["remote"], context["port"]))
    return wire.tell(made, context)


def tcp_reconnect(context):
    """AF_UNSPEC dissolves the association (connect(2)); the socket is then connected elsewhere."""
    made = wire.stream(socket.socket())
    try:
        made.connect((context["local"], 1))
    except OSError:
        pass
    libc_connect(made, struct.pack("=H14x", 0))
    made.connect((context["local"], context["port"]))
    return wire.tell(made, context)


def libc_connect(made, address):
    if calls.LIBC.connect(made.fileno(), address, len(address)) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def tfo_sendto(context):
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("=qq", wire.PATIENCE_S, 0))
    made.sendto(wire.token(context), MSG_FASTOPEN, (context["local"], context["port"]))
    said = made.recv(100)
    if not said:
        raise ConnectionResetError("closed without an answer")
    return said


def tfo_connect(context):
    made = wire.stream(socket.socket())
    made.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
    made.connect((context["local"], context["port"]))
    return wire.tell(made, context)


def mptcp(context):
    made = wire.stream(socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP))
    made.connect((context["local"], context["port"] + 1))
    return wire.tell(made, context)


def udp(context, port, connected, host=None, family=socket.AF_INET, protocol=0):
    made = wire.stream(socket.socket(family, socket.SOCK_DGRAM, protocol))
    to = (host or context["remote"], port)
    if connected:
        made.connect(to)
        made.send(wire.token(context))
    else:
        made.sendto(wire.token(context), to)
    return made.recv(100) if protocol == 0 else None


def udp_connect(context):
    return udp(context, context["port"], True)


def udp_sendto(context):
    return udp(context, context["port"], False)


def udp_sendto_local(context):
    return udp(context, context["port"], False, context["local"])


def udp6_connect(context):
    return udp(context, context["port"], True, context["remote6"], socket.AF_INET6)


def udp6_sendto(context):
    return udp(context, context["port"], False, context["remote6"], socket.AF_INET6)


def quic_connect(context):
    return udp(context, 443, True)


def quic_sendto(context):
    return udp(context, 443, False)


def dns_tls_datagram(context):
    return udp(context, 853, False)


def dns_tunnel(context):
    """A datagram to port 53 of a server of one's own; the daemon's resolver answers instead, or nobody."""
    return udp(context, 53, False)


def udplite_connect(context):
    return udp(context, context["port"], True, protocol=socket.IPPROTO_UDPLITE)


def udplite_sendto(context):
    return udp(context, context["port"], False, context["local"], protocol=socket.IPPROTO_UDPLITE)


def sctp(context):
    made = wire.stream(socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP))
    made.connect((context["local"], context["port"]))
    return wire.tell(made, context)


def sctp_connectx(context):
    """SCTP_SOCKOPT_CONNECTX (linux/sctp.h, 110) never passes connect(2)."""
    made = wire.stream(socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP))
    address = struct.pack("=H", socket.AF_INET) + struct.pack(">H", context["port"])
    address += socket.inet_aton(context["local"]) + bytes(8)
    try:
        made.setsockopt(socket.IPPROTO_SCTP, 110, address)
    except BlockingIOError:
        select.select([], [made], [], wire.PATIENCE_S)
    return wire.tell(made, context)


def raw_ip(context):
    """An IP protocol of one's own (253, RFC 3692: for experiments)."""
    made = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253)
    made.sendto(wire.token(context), (context["remote"], 0))


def ping_payload(context):
    """An echo request carries what it is given."""
    made = wire.stream(socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP))
    made.sendto(struct.pack(">BBHHH", 8, 0, 0, 0, 1) + wire.token(context), (context["remote"], 0))


def packet_frame(context):
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    made.bind(("cable", 0))
    made.send(b"\xff" * 6 + b"\x02" * 6 + struct.pack(">H", 0x88B5) + wire.token(context))


def packet_datagram(context):
    made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    made.sendto(wire.token(context), ("cable", 0x88B5, 0, 0, b"\xff" * 6))


def xdp_socket(context):
    """Making one is the effect: it is the way to a device's queues (44: AF_XDP)."""
    made = socket.socket(44, socket.SOCK_RAW, 0)
    # XDP_UMEM_REG (linux/if_xdp.h): without memory it is of no use.
    area = mmap.mmap(-1, 65536)
    place = ctypes.addressof(ctypes.c_char.from_buffer(area))
    made.setsockopt(283, 4, struct.pack("=QQIII4x", place, 65536, 4096, 0, 0))
    return "EFFECT"


def vsock(context):
    """Context id 1 is this machine (vsock(7)); a hypervisor's is 2."""
    made = wire.stream(socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
    made.connect((1, context["port"]))
    return wire.tell(made, context)


def alg_socket(context):
    """The kernel's ciphers: no way out, but surface nobody needs."""
    made = socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET, 0)
    made.bind(("hash", "sha256"))
    operation, _ = made.accept()
    operation.sendall(b"x")
    return "EFFECT" if operation.recv(32) else None


def netlink_route(context):
    """A route by which the agent's packets would go elsewhere."""
    import subprocess

    route = ["192.0.2.0/24", "dev", "lo"]
    done = subprocess.run(["/sbin/ip", "route", "add", *route], capture_output=True, text=True)
    if done.returncode:
        raise PermissionError(done.stderr)
    subprocess.run(["/sbin/ip", "route", "del", *route], capture_output=True)
    return "EFFECT"


def uring(entries=8, flags=0):
    """io_uring(7): descriptor and parameters (struct io_uring_params, 120 bytes)."""
    parameters = ctypes.create_string_buffer(struct.pack("=IIII", entries, 0, flags, 0), 120)
    return calls.syscall(calls.IO_URING_SETUP, entries, parameters), parameters.raw


class Ring:
    """Submission and completion, one at a time."""

    def __init__(self, flags=0):
        self.descriptor, raw = uring(flags=flags)
        words = struct.unpack("=30I", raw)
        self.entries, self.flags = words[0], flags
        # sq_off starts at byte 40 (head, tail, mask, entries, flags, dropped, array), cq_off at 80 (…, cqes).
        self.sq_tail, self.sq_mask, self.sq_array = words[11], words[12], words[16]
        self.cq_head, self.cq_tail, self.cq_mask, self.cqes = words[20], words[21], words[22], words[25]
        self.queue = mmap.mmap(self.descriptor, self.sq_array + 4 * self.entries, offset=0)
        self.done = mmap.mmap(self.descriptor, self.cqes + 16 * words[1], offset=0x8000000)
        self.slots = mmap.mmap(self.descriptor, 64 * self.entries, offset=0x10000000)

    def submit(self, opcode, descriptor, offset, address, length=0, sqe_flags=0, op_flags=0):
        tail = struct.unpack_from("=I", self.queue, self.sq_tail)[0]
        slot = tail & struct.unpack_from("=I", self.queue, self.sq_mask)[0]
        entry = struct.pack("=BBHiQQII", opcode, sqe_flags, 0, descriptor, offset, address, length, op_flags)
        self.slots[64 * slot : 64 * slot + 64] = entry + bytes(32)
        struct.pack_into("=I", self.queue, self.sq_array + 4 * slot, slot)
        struct.pack_into("=I", self.queue, self.sq_tail, tail + 1)
        # SQPOLL: IORING_ENTER_SQ_WAKEUP; else submit one. Both wait for one answer (IORING_ENTER_GETEVENTS).
        polled = self.flags & 2
        calls.syscall(calls.IO_URING_ENTER, self.descriptor, 0 if polled else 1, 1, 3 if polled else 1, None, 0)
        head = struct.unpack_from("=I", self.done, self.cq_head)[0]
        place = self.cqes + 16 * (head & struct.unpack_from("=I", self.done, self.cq_mask)[0])
        result = struct.unpack_from("=i", self.done, place + 8)[0]
        struct.pack_into("=I", self.done, self.cq_head, head + 1)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result


IORING_OP_CONNECT, IORING_OP_SOCKET, IOSQE_ASYNC, IORING_SETUP_SQPOLL = 16, 45, 16, 2


def uring_connected(context, flags=0, sqe_flags=0, socket_too=False):
    ring = Ring(flags)
    if socket_too:
        # IORING_OP_SOCKET: domain in fd, type in off, protocol in len.
        made = socket.socket(fileno=ring.submit(IORING_OP_SOCKET, socket.AF_INET, socket.SOCK_STREAM, 0))
    else:
        made = socket.socket()
    address = struct.pack("=H", socket.AF_INET) + struct.pack(">H", context["port"])
    address = ctypes.create_string_buffer(address + socket.inet_aton(context["local"]) + bytes(8), 16)
    ring.submit(IORING_OP_CONNECT, made.fileno(), 16, ctypes.addressof(address), sqe_flags=sqe_flags)
    return wire.tell(wire.stream(made), context)


def uring_connect(context):
    return uring_connected(context)


def uring_connect_async(context):
    return uring_connected(context, sqe_flags=IOSQE_ASYNC)


def uring_connect_sqpoll(context):
    return uring_connected(context, flags=IORING_SETUP_SQPOLL)


def uring_socket(context):
    return uring_connected(context, socket_too=True)


def tun(context):
    """A device of one's own, which the host would forward for."""
    device = os.open("/dev/net/tun", os.O_RDWR)
    # TUNSETIFF, IFF_TUN | IFF_NO_PI (linux/if_tun.h).
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"escape0", 0x1001))
    return "EFFECT"


ATTEMPTS = {}
for each in (
    tcp4, tcp4_daemon_down, tcp6_daemon_down, tcp4_remote, tcp6, tcp6_remote, tcp_mapped, tcp_non_blocking, tcp_bound_source, tcp_bound_device,
    tcp_reconnect, tfo_sendto, tfo_connect, mptcp, udp_connect, udp_sendto, udp_sendto_local, udp6_connect,
    udp6_sendto, quic_connect, quic_sendto, dns_tls_datagram, dns_tunnel, udplite_connect, udplite_sendto, sctp,
    sctp_connectx, raw_ip, ping_payload, packet_frame, packet_datagram, xdp_socket, vsock, alg_socket,
    netlink_route, uring_connect, uring_connect_async, uring_connect_sqpoll, uring_socket, tun,
):
    ATTEMPTS[each.__name__] = each
