"""An agent that connects every 0.5 ms, whatever becomes of the connections: one JSON object at the end.

storm.py HOST PORT SECONDS SOURCE: connects from the address SOURCE and asks for TLS (SSLRequest), which
the door answers itself; so who is answered went through the door. Then it closes.
"""
import errno
import json
import select
import socket
import struct
import sys
import time

HOST, PORT, SECONDS, SOURCE = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
INTERVAL = 0.0005
SSL_REQUEST = struct.pack("!II", 8, 80877103)
SO_COOKIE = 57
IP_BIND_ADDRESS_NO_PORT = 24
# A SYN that found the backlog full is sent again after 1, 2, 4, ... s: six times (tcp_syn_retries).
PATIENCE_S = 140

seen = {"attempts": 0, "proxied": 0, "cut": 0, "odd": 0, "unanswered": 0, "refused": {}}
cookies = {"proxied": [], "cut": []}
slowest = 0.0
epoll = select.epoll()
waiting = {}


def refuse(number):
    name = errno.errorcode.get(number, str(number))
    seen["refused"][name] = seen["refused"].get(name, 0) + 1


def connect():
    seen["attempts"] += 1
    s = socket.socket()
    s.setblocking(False)
    s.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    s.bind((SOURCE, 0))
    number = s.connect_ex((HOST, PORT))
    if number not in (0, errno.EINPROGRESS):
        refuse(number)
        s.close()
        return
    epoll.register(s.fileno(), select.EPOLLOUT)
    waiting[s.fileno()] = (s, time.monotonic(), False)


def ends(fd, kind):
    global slowest
    s, since, _ = waiting.pop(fd)
    slowest = max(slowest, time.monotonic() - since)
    if kind in cookies:
        cookies[kind].append(struct.unpack("Q", s.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0])
    if kind:
        seen[kind] += 1
    epoll.unregister(fd)
    s.close()


def attend(timeout):
    for fd, _ in epoll.poll(timeout):
        s, since, is_connected = waiting[fd]
        try:
            if not is_connected:
                number = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if number:
                    refuse(number)
                    ends(fd, None)
                    continue
                waiting[fd] = (s, since, True)
                s.send(SSL_REQUEST)
                epoll.modify(fd, select.EPOLLIN)
                continue
            answer = s.recv(1)
            ends(fd, "proxied" if answer == b"N" else "odd" if answer else "cut")
        except OSError:
            ends(fd, "cut")


begun = time.monotonic()
due = begun
while (now := time.monotonic()) < begun + SECONDS:
    if now >= due:
        connect()
        # What a busy machine missed is not made up for in one burst.
        due = max(due + INTERVAL, now - 0.05)
    attend(max(0.0, min(due - time.monotonic(), 0.001)))
took = time.monotonic() - begun
deadline = time.monotonic() + PATIENCE_S
while waiting and time.monotonic() < deadline:
    attend(0.05)
for fd in list(waiting):
    ends(fd, "unanswered")
json.dump(seen | {"seconds": took, "slowest_s": slowest, "cookies": cookies}, sys.stdout)
