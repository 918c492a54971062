"""A process that is no agent's, with sockets to talk to: allowed.sock (whoever connects is sent a
TCP socket), foreign.sock and datagram.sock in the directory given, and an abstract socket."""
import os, socket, sys, threading

directory, abstract = sys.argv[1:3]
allowed, foreign, hidden = (socket.socket(socket.AF_UNIX) for _ in range(3))
datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for one, name in ((allowed, f"{directory}/allowed.sock"), (foreign, f"{directory}/foreign.sock"), (hidden, "\0" + abstract)):
    one.bind(name)
    one.listen(64)
datagram.bind(f"{directory}/datagram.sock")
tcp = socket.socket()


def offer():
    while True:
        peer, _ = allowed.accept()
        try:
            socket.send_fds(peer, [b"x"], [tcp.fileno()])
        except OSError:
            pass


threading.Thread(target=offer, daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
