"""Starts a program that inherits sockets opened before: `hand.py PORT PROGRAM ...`."""

import os
import socket
import sys

CONNECTED, UNCONNECTED, DATAGRAM = 40, 41, 42


def hand(made, number):
    os.dup2(made.fileno(), number, inheritable=True)


hand(socket.create_connection(("127.0.0.1", int(sys.argv[1]))), CONNECTED)
hand(socket.socket(), UNCONNECTED)
hand(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), DATAGRAM)
os.execvp(sys.argv[2], sys.argv[2:])
