"""Asks DuckDB the ready questions on two archives that hold the same rows: questions.py ONE OTHER. Answers must be the same.

Prints a line a question. Exit status 1 where an answer differs, or too few have any."""

import os
import re
import sys
from pathlib import Path

import duckdb

TOLD = {"from": "0001-01-01", "to": "9999-12-31"}


def answers(archive, told):
    """By question, the rows as a collection: ties are in no order."""
    os.chdir(archive)
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'; " + Path("std7y/v1/views/duckdb.sql").read_text())
    told.setdefault("session", con.execute("SELECT min(session_id) FROM events").fetchone()[0])
    told.setdefault("user", con.execute("SELECT min(actor_user) FROM events").fetchone()[0])
    told.setdefault("object", con.execute("SELECT min(object) FROM (SELECT unnest(objects) AS object FROM events)").fetchone()[0])
    found = {}
    for path in sorted(Path("std7y/v1/questions").glob("*.sql")):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("--")]
        sql = re.sub(":([a-z]+)", lambda match: "'" + told.get(match[1], "x").replace("'", "''") + "'", "\n".join(lines))
        found[path.stem] = sorted(con.execute(sql).fetchall(), key=repr)
    for table in ("events", "sessions", "control", "recordings"):
        # The partition `node` is none of the row's own.
        found[table] = sorted(con.execute(f"SELECT * EXCLUDE (node) FROM {table}").fetchall(), key=repr)
    return found


def main():
    one, other = (Path(arg).resolve() for arg in sys.argv[1:3])
    told = dict(TOLD)
    ours, theirs = answers(one, told), answers(other, told)
    for name, rows in ours.items():
        print(f"{'same  ' if rows == theirs[name] else 'DIFFER'} {name:<24} {len(rows)} rows")
    answered = sum(bool(rows) for rows in ours.values())
    return 1 if ours != theirs or answered < 8 else 0


if __name__ == "__main__":
    sys.exit(main())
