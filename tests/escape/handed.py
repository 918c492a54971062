"""Ways out by sockets that were made outside of the agent's cgroup."""

import array
import os
import socket

import calls
import hand
import wire

MSG_FASTOPEN = 0x20000000


def inherited_connected(context):
    """A socket that was connected before the agent started."""
    return wire.tell(wire.stream(socket.socket(fileno=os.dup(hand.CONNECTED))), context)


def inherited_write(context):
    os.write(hand.CONNECTED, wire.token(context))


def inherited_sendfile(context):
    path = f"/tmp/{context['token']}"
    with open(path, "w+b") as file:
        os.unlink(path)
        file.write(wire.token(context))
        file.flush()
        os.sendfile(hand.CONNECTED, file.fileno(), 0, 100)


def inherited_unconnected(context):
    """A socket keeps the cgroup it was made in, and hooks are the cgroup's."""
    made = wire.stream(socket.socket(fileno=os.dup(hand.UNCONNECTED)))
    calls.LIBC.connect(made.fileno(), bytes(16), 16)
    made.connect((context["local"], context["port"]))
    return wire.tell(made, context)


def inherited_datagram(context):
    made = wire.stream(socket.socket(fileno=os.dup(hand.DATAGRAM)))
    made.sendto(wire.token(context), (context["local"], context["port"]))


def inherited_standard_output(context):
    """Standard descriptors stay open in a program that is started: this one is a socket."""
    os.write(1, wire.token(context))


def scm_rights(context):
    """Another process hands a connected socket over."""
    with wire.stream(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as asking:
        asking.connect(os.path.join(context["sockets"], "giver"))
        _, given, _, _ = socket.recv_fds(asking, 100, 1)
        if not given:
            raise PermissionError("nothing came with it")
        return wire.tell(wire.stream(socket.socket(fileno=given[0])), context)


def scm_rights_abstract(context):
    """The same by a name that no file system holds."""
    with wire.stream(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as asking:
        asking.connect("\0vestibule-escape-giver")
        _, given, _, _ = socket.recv_fds(asking, 100, 1)
        if not given:
            raise PermissionError("nothing came with it")
        return wire.tell(wire.stream(socket.socket(fileno=given[0])), context)


def pidfd_getfd(context):
    """A copy of another process's connected socket (pidfd_getfd(2))."""
    process = calls.syscall(calls.PIDFD_OPEN, context["holder"], 0)
    for number in range(3, 60):
        try:
            copy = calls.syscall(calls.PIDFD_GETFD, process, number, 0)
        except OSError as error:
            if error.errno == 9:
                continue
            raise
        try:
            made = socket.socket(fileno=copy)
            if made.family == socket.AF_INET and made.getpeername()[1] == context["port"]:
                return wire.tell(wire.stream(made), context)
        except OSError:
            continue
    raise FileNotFoundError("it holds no such socket")


ATTEMPTS = {}
for each in (
    inherited_connected, inherited_write, inherited_sendfile, inherited_unconnected, inherited_datagram,
    inherited_standard_output, scm_rights, scm_rights_abstract, pidfd_getfd,
):
    ATTEMPTS[each.__name__] = each
