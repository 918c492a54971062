"""Connects to a sink again and again, and counts in /run/seen/NAME how that goes: `steady.py NAME`."""

import errno
import json
import os
import socket
import sys
import time

# Longer than a daemon takes to start again: its sockets are there meanwhile, and answer late.
PATIENCE_S = 300


def connect():
    """reached: the sink said something; door: taken, and closed without a word; cut: taken, and reset; or an error."""
    try:
        made = socket.create_connection(("127.0.0.1", 7001), timeout=PATIENCE_S)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error))
    with made:
        try:
            return "reached" if made.recv(1) else "door"
        except OSError:
            return "cut"


def main():
    path = f"/run/seen/{sys.argv[1]}"
    counts, last, turns = {}, "", []
    while True:
        how = connect()
        counts[how] = counts.get(how, 0) + 1
        if how != last:
            turns = [*turns[-20:], f"{time.monotonic():.2f} {how}"]
            last = how
        with open(path + ".new", "w") as file:
            json.dump({**counts, "turns": turns}, file)
        os.rename(path + ".new", path)
        time.sleep(0.02)


main()
