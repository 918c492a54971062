"""Starts a program that inherits sockets opened before: `hand.py PORT PROGRAM ...`."""

import os
import socket
import sys

CONNECTED, UNCONNECTED, DATAGRAM = 40, 41, 42


def hand(made, number):
    os.dup2(made.fileno(), number, inheritable=True)


def main():
    port, program = int(sys.argv[1]), sys.argv[2:]
    hand(socket.create_connection(("127.0.0.1", port)), CONNECTED)
    hand(socket.socket(), UNCONNECTED)
    hand(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), DATAGRAM)
    if program[0] == "--standard-output":
        os.dup2(2, 50, inheritable=True)
        hand(socket.create_connection(("127.0.0.1", port)), 1)
        program = program[1:]
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
