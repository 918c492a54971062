"""The world outside: sinks that write down every token that reaches them. Never enrolled.

`outside.py local FILE` runs beside the agents, `outside.py remote FILE` in a network namespace of its own, at the
other end of a virtual cable, where it also sees every frame that comes over it.
"""

import os
import re
import selectors
import socket
import sys

PORT = 7001
TOKEN = re.compile(rb"\[([0-9a-z-]{8,60})\]")
WATCH = selectors.DefaultSelector()


def arrived(way, data):
    """Writes the tokens in it down."""
    for token in TOKEN.findall(data):
        os.write(LOG, f"{token.decode()} {way}\n".encode())


def listen(way, family, kind, protocol, address):
    """A listening stream socket; a kernel without the protocol has none."""
    try:
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.listen(64)
        if way.startswith("tcp"):
            # RFC 7413: the first SYN may bring data.
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
    except OSError as error:
        print(f"no {way}: {error}", file=sys.stderr)
        return
    WATCH.register(made, selectors.EVENT_READ, (accept, way))


def bind(way, family, kind, protocol, address):
    """A datagram socket, likewise."""
    try:
        made = socket.socket(family, kind, protocol)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError as error:
        print(f"no {way}: {error}", file=sys.stderr)
        return
    WATCH.register(made, selectors.EVENT_READ, (datagram, way))


def accept(listener, way):
    connection, _ = listener.accept()
    WATCH.register(connection, selectors.EVENT_READ, (serve, way))


def serve(connection, way):
    try:
        data = connection.recv(65536)
        arrived(way, data)
        if data:
            connection.sendall(b"sink:" + data[:80])
    except OSError:
        data = b""
    if not data:
        WATCH.unregister(connection)
        connection.close()


def datagram(bound, way):
    data, peer = bound.recvfrom(65536)
    arrived(way, data)
    if peer and way.startswith("udp"):
        try:
            bound.sendto(b"sink:" + data[:80], peer)
        except OSError:
            pass


def frames():
    """Every frame from the cable: whatever leaves, by whichever protocol."""
    sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sniffer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    WATCH.register(sniffer, selectors.EVENT_READ, (frame, "frame"))


def frame(sniffer, way):
    data, source = sniffer.recvfrom(65536)
    # PACKET_OUTGOING: our own answers repeat the token.
    if source[2] != 4:
        arrived(way, data)


def main():
    for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        listen("tcp", family, socket.SOCK_STREAM, 0, (any_address, PORT))
        for port in (PORT, 443, 53, 853):
            bind("udp", family, socket.SOCK_DGRAM, 0, (any_address, port))
        bind("udplite", family, socket.SOCK_DGRAM, socket.IPPROTO_UDPLITE, (any_address, PORT))
        listen("sctp", family, socket.SOCK_STREAM, socket.IPPROTO_SCTP, (any_address, PORT))
    listen("mptcp", socket.AF_INET, socket.SOCK_STREAM, 262, ("0.0.0.0", PORT + 1))
    if sys.argv[1] == "remote":
        frames()
    else:
        beside_the_agents()
    print("ready", flush=True)
    while True:
        for key, _ in WATCH.select():
            act, way = key.data
            act(key.fileobj, way)


# Sockets of those who act for others, where programs look for them; and of a database.
SERVICES = (
    "/run/docker.sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/nscd/socket",
    "/run/containerd/containerd.sock",
    "/run/postgresql/.s.PGSQL.5432",
)


def beside_the_agents():
    """What only this host offers. /run is this namespace's own."""
    folder = os.path.join(os.path.dirname(sys.argv[2]), "sockets")
    for path in (*SERVICES, os.path.join(folder, "database")):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        listen(f"unix:{path}", socket.AF_UNIX, socket.SOCK_STREAM, 0, path)
        os.chmod(path, 0o666)
    path = os.path.join(folder, "datagrams")
    bind("unix:datagrams", socket.AF_UNIX, socket.SOCK_DGRAM, 0, path)
    os.chmod(path, 0o666)
    listen("unix:abstract", socket.AF_UNIX, socket.SOCK_STREAM, 0, "\0vestibule-escape")
    listen("vsock", socket.AF_VSOCK, socket.SOCK_STREAM, 0, (0xFFFFFFFF, PORT))
    for path in (os.path.join(folder, "giver"), "\0vestibule-escape-giver"):
        giver(path)
    os.chmod(os.path.join(folder, "giver"), 0o666)


def giver(path):
    """Hands a socket of its own, connected to the sink, to whoever comes."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(path)
    made.listen(8)
    WATCH.register(made, selectors.EVENT_READ, (give, "giver"))


GIVEN = []


def give(listener, _):
    visitor, _ = listener.accept()
    own = socket.create_connection(("127.0.0.1", PORT))
    try:
        socket.send_fds(visitor, [b"take"], [own.fileno()])
    except OSError as error:
        print(f"not given: {error}", file=sys.stderr)
    # Held on to: only a copy is the agent's.
    GIVEN.append((visitor, own))


LOG = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
main()
