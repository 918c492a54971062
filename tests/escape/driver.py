"""Runs attempts: one JSON line in names an attempt and its surroundings, one JSON line out says what it says.

The same program runs enrolled (as the agent) and not enrolled (as the control), so that an attempt which fails
is known to fail because of the enrollment. Each attempt is a child of its own: what it spoils goes with it. What
an attempt says is never trusted alone; `outside.py` and the harness look at what really happened.
"""

import json
import os
import select
import signal
import sys

import boundary
import delegation
import evidence
import handed
import late
import machine
import multicast
import sockets

PATIENCE_S = 10
ATTEMPTS = {}
for module in (sockets, multicast, handed, late, boundary, machine, evidence, delegation):
    ATTEMPTS.update(module.ATTEMPTS)


def attempt(name, context):
    """Runs one in this process: (whether it went through, what it got)."""
    try:
        # An attempt answers what it obtained, or nothing.
        return {"went": True, "got": str(ATTEMPTS[name](context) or "")}
    except BaseException as error:
        return {"went": False, "got": f"{type(error).__name__}: {error}"}


def in_two_steps(name, context):
    """Runs one that does something before it is enrolled, which the line that is waited for says it is."""
    steps = ATTEMPTS[name](context)
    next(steps)
    print(json.dumps({"attempts": [name]}), flush=True)
    sys.stdin.readline()
    try:
        next(steps)
    except StopIteration as end:
        return {"went": True, "got": str(end.value or "")}
    except BaseException as error:
        return {"went": False, "got": f"{type(error).__name__}: {error}"}
    raise ValueError("more than two steps")


def in_child(name, context):
    """Runs one in a child, for at most PATIENCE_S."""
    answers, answer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(answers)
        os.setpgid(0, 0)
        os.write(answer, json.dumps(attempt(name, context)).encode())
        os._exit(0)
    os.close(answer)
    said = b""
    if select.select([answers], [], [], PATIENCE_S)[0]:
        said = os.read(answers, 65536)
    os.close(answers)
    for target in (child, -child):
        try:
            os.kill(target, signal.SIGKILL)
        except OSError:
            pass
    os.waitpid(child, 0)
    return json.loads(said) if said else {"went": False, "got": "no answer"}


def main():
    if sys.argv[1:2] == ["--late"]:
        print(json.dumps(in_two_steps(sys.argv[2], json.loads(sys.argv[3]))), flush=True)
        return
    if sys.argv[1:]:
        print(json.dumps(attempt(sys.argv[1], json.loads(sys.argv[2]))), flush=True)
        return
    print(json.dumps({"attempts": sorted(ATTEMPTS)}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(in_child(asked["attempt"], asked["context"])), flush=True)


main()
