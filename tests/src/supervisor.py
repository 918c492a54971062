"""Runs a daemon as systemd does (Type=notify, Restart=always), with its file-descriptor store.

supervisor.py SOCKET JOURNAL KEEP -- COMMAND...: SOCKET is where it is notified, JOURNAL gets a line
for each thing that happens, KEEP is "keep" or "forget" for what is stored. A SIGTERM, or the end of
standard input, ends both with SIGKILL. The protocol: sd_notify(3), sd_listen_fds(3).
"""
import ctypes
import fcntl
import os
import select
import signal
import socket
import sys
import time

SOCKET, JOURNAL, KEEP, _, *COMMAND = sys.argv[1:]
PR_SET_PDEATHSIG = 1
RESTART_S = 0.1
libc = ctypes.CDLL(None)
journal = open(JOURNAL, "a", buffering=1)
stored = []  # (name, descriptor)


def say(*words):
    print(f"{time.monotonic():.3f}", *words, file=journal)


def start():
    names = ":".join(name for name, _ in stored)
    pid = os.fork()
    if pid:
        say("started", pid, f"fds={len(stored)}", names)
        return pid, os.pidfd_open(pid)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # Above where they go, so that none is overwritten before it is moved.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3 + len(stored)) for _, fd in stored]
    for place, fd in enumerate(high):
        os.dup2(fd, 3 + place)
    environment = dict(os.environ, NOTIFY_SOCKET=SOCKET)
    if stored:
        environment |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(stored)),
                        "LISTEN_FDNAMES": names}
    os.execvpe(COMMAND[0], COMMAND, environment)


def notified(inbox):
    message, fds, _, _ = socket.recv_fds(inbox, 8192, 16)
    state = dict(line.split("=", 1) for line in message.decode().splitlines() if "=" in line)
    name = state.get("FDNAME", "stored")
    if "FDSTOREREMOVE" in state:
        for entry in [entry for entry in stored if entry[0] == name]:
            stored.remove(entry)
            os.close(entry[1])
        say("removed", name)
    elif "FDSTORE" in state and KEEP == "keep":
        stored.extend((name, fd) for fd in fds)
        say("stored", name, len(fds))
    else:
        for fd in fds:
            os.close(fd)
    if state.get("READY") == "1":
        say("ready")


def main():
    inbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    inbox.bind(SOCKET)
    asked_to_end, on_term = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(on_term, b"x"))
    pid, pidfd = start()
    while True:
        ready, _, _ = select.select([inbox, pidfd, sys.stdin, asked_to_end], [], [])
        if inbox in ready:
            notified(inbox)
        elif sys.stdin in ready or asked_to_end in ready:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        elif pidfd in ready:
            _, status = os.waitpid(pid, 0)
            os.close(pidfd)
            say("ended", pid, status)
            time.sleep(RESTART_S)
            pid, pidfd = start()


main()
