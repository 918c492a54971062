"""An agent that opens connections all at once: flood.py PORT COUNT NUMBER; each NUMBER has a source
address of its own, with about 28,000 ports.

Says `ready`; then, for each line: opens them all; waits until each has been answered or closed; closes them all.
Each time it says one JSON object.
"""
import errno
import json
import resource
import select
import socket
import struct
import sys
import time

PORT, COUNT, NUMBER = (int(argument) for argument in sys.argv[1:])
SSL_REQUEST = struct.pack("!II", 8, 80877103)
IP_BIND_ADDRESS_NO_PORT = 24
# Six retransmissions of a SYN: 1 + 2 + 4 + ... s (tcp(7), tcp_syn_retries).
PATIENCE_S = 140

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def tell(**what):
    print(json.dumps(what), flush=True)


def count(counts, number):
    name = errno.errorcode.get(number, str(number))
    counts[name] = counts.get(name, 0) + 1


def flood():
    epoll, waiting, held, refused = select.epoll(), {}, [], {}
    begun = time.monotonic()
    for _ in range(COUNT):
        s = socket.socket()
        s.setblocking(False)
        s.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        s.bind((f"127.0.0.{2 + NUMBER}", 0))
        result = s.connect_ex(("127.0.0.1", PORT))
        if result in (0, errno.EINPROGRESS):
            epoll.register(s.fileno(), select.EPOLLOUT)
            waiting[s.fileno()] = (s, False)
        else:
            count(refused, result)
            s.close()
    tell(opened=len(waiting), refused=sum(refused.values()), ms=int(1000 * (time.monotonic() - begun)))
    yield
    begun, answered, closed = time.monotonic(), 0, 0
    while waiting and time.monotonic() < begun + PATIENCE_S:
        for fd, _ in epoll.poll(0.5, 4096):
            s, is_connected = waiting[fd]
            try:
                if not is_connected:
                    result = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if result:
                        raise OSError(result, "")
                    s.send(SSL_REQUEST)
                    waiting[fd] = (s, True)
                    epoll.modify(fd, select.EPOLLIN)
                    continue
                if s.recv(1) == b"N":
                    answered += 1
                    held.append(s)
                else:
                    closed += 1
            except OSError as e:
                if is_connected or e.errno in (errno.ECONNRESET, errno.EPIPE):
                    closed += 1
                else:
                    count(refused, e.errno)
            epoll.unregister(fd)
            del waiting[fd]
            if not held or held[-1] is not s:
                s.close()
    tell(answered=answered, closed=closed, waiting=len(waiting), ms=int(1000 * (time.monotonic() - begun)),
         **refused)
    yield
    for s in held + [s for s, _ in waiting.values()]:
        s.close()
    tell(held=len(held))
    yield


print("ready", flush=True)
rounds = flood()
for line in sys.stdin:
    try:
        next(rounds)
    except StopIteration:
        rounds = flood()
        next(rounds)
