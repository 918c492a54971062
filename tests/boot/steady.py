"""Connects to a sink again and again, and counts in /run/seen/NAME how that goes: `steady.py NAME`."""

import json
import os
import socket
import sys
import time

# Longer than a daemon takes to start again: its sockets are there meanwhile, and answer late.
PATIENCE_S = 100


def connect():
    """reached: the sink answered; door: taken, and closed without an answer; refused; cut: taken, and reset."""
    try:
        made = socket.create_connection(("127.0.0.1", 7001), timeout=PATIENCE_S)
    except OSError:
        return "refused"
    with made:
        try:
            made.sendall(b"x")
            return "reached" if made.recv(1) else "door"
        except OSError:
            return "cut"


def main():
    path = f"/run/seen/{sys.argv[1]}"
    counts = {}
    while True:
        how = connect()
        counts[how] = counts.get(how, 0) + 1
        with open(path + ".new", "w") as file:
            json.dump(counts, file)
        os.rename(path + ".new", path)
        time.sleep(0.02)


main()
