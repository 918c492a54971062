"""Processes that run before they are enrolled. Up to its `yield`, an attempt is nobody's agent."""

import os
import socket

import calls
import wire


def late_tcp(context):
    yield
    return wire.tcp(context)


def late_connected(context):
    made = wire.stream(socket.create_connection((context["local"], context["port"])))
    yield
    return wire.tell(made, context)


def late_revived(context):
    """A socket that was ended, disconnected and connected anew (AF_UNSPEC)."""
    made = wire.stream(socket.create_connection((context["local"], context["port"])))
    yield
    calls.LIBC.connect(made.fileno(), bytes(16), 16)
    made.connect((context["local"], context["port"]))
    return wire.tell(made, context)


def late_unconnected(context):
    made = wire.stream(socket.socket())
    yield
    made.connect((context["local"], context["port"]))
    return wire.tell(made, context)


def late_datagram(context):
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    yield
    made.sendto(wire.token(context), (context["local"], context["port"]))


def late_datagram_connected(context):
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.connect((context["remote"], context["port"]))
    yield
    made.send(wire.token(context))


def late_unix(context):
    """A socket has the hooks of the cgroup it was made in."""
    made = wire.stream(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    yield
    made.connect(os.path.join(context["sockets"], "database"))
    return wire.tell(made, context)


def late_unix_datagram(context):
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    yield
    made.sendto(wire.token(context), os.path.join(context["sockets"], "datagrams"))


def late_unix_pair(context):
    """One of a pair sends to others as well."""
    made, _other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    yield
    made.sendto(wire.token(context), os.path.join(context["sockets"], "datagrams"))


def late_child(context):
    """A child that was there before comes along."""
    asked, ask = os.pipe()
    answers, answer = os.pipe()
    if os.fork() == 0:
        os.close(ask)
        os.read(asked, 1)
        try:
            os.write(answer, wire.tcp(context).encode())
        except OSError as error:
            os.write(answer, f"!{error}".encode())
        os._exit(0)
    os.close(answer)
    yield
    os.write(ask, b"x")
    said = os.read(answers, 1000).decode()
    if said.startswith("!"):
        raise PermissionError(said)
    return said


ATTEMPTS = {}
for each in (
    late_tcp, late_connected, late_revived, late_unconnected, late_datagram, late_datagram_connected, late_unix,
    late_unix_datagram, late_unix_pair, late_child,
):
    ATTEMPTS[each.__name__] = each
