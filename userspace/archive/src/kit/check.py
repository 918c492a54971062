#!/usr/bin/env python3
"""Counts again what report.html says: check.py [KIT]. Needs Python with DuckDB (`pip install duckdb`), and no vestibule.
First verify.py; then each number and each line of the report is held against the Parquet rows, and those against the lines."""

import html.parser
import os
import pathlib
import subprocess
import sys

import duckdb

STAMP = "strftime({} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')"
CLAIMS = {
    "sessions": "SELECT count(DISTINCT session_id) FROM (FROM sessions SELECT session_id UNION FROM events SELECT session_id)",
    "commands": "SELECT count(*) FROM events",
    "refused": "SELECT count(*) FROM events WHERE decision = 'deny'",
    "writes": "SELECT count(*) FROM events WHERE is_write",
    "privileged": "SELECT count(*) FROM events WHERE is_privileged",
    "failed": "SELECT count(*) FROM events WHERE status = 'error'",
    "unended": "SELECT count(*) FROM events WHERE status = 'interrupted'",
    "approvals": "SELECT count(DISTINCT approval_id) FROM events",
    "objects": "SELECT count(DISTINCT object) FROM (SELECT unnest(objects) AS object FROM events)",
    "rows": "SELECT coalesce(sum(rows), 0) FROM events",
    "bytes_out": "SELECT coalesce(sum(bytes_out), 0) FROM events",
    "masked_values": "SELECT coalesce(sum(masked_count), 0) FROM events",
    "first": f"SELECT coalesce({STAMP.format('min(ts)')}, 'none') FROM events",
    "last": f"SELECT coalesce({STAMP.format('max(ts)')}, 'none') FROM events",
}
WRONG = []


class Report(html.parser.HTMLParser):
    """The claims and the lines of the timeline in report.html."""

    def __init__(self):
        super().__init__()
        self.claims, self.lines, self.column = {}, {}, None

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if "data-claim" in attributes:
            self.claims[attributes["data-claim"]] = attributes["value"]
        if "data-row" in attributes:
            self.line = self.lines.setdefault(attributes["data-row"], {})
        if "data-column" in attributes:
            self.column = attributes["data-column"]
            self.line[self.column] = ""

    def handle_data(self, data):
        if self.column:
            self.line[self.column] += data

    def handle_endtag(self, tag):
        self.column = None


def same(what, said, found):
    if said != found:
        WRONG.append(what)
        print(f"WRONG {what}: the report says {said!r}, the rows {found!r}")


def main():
    os.chdir(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    if subprocess.run([sys.executable, "verify.py", "."]).returncode != 0:
        WRONG.append("verify.py")
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'; " + pathlib.Path("views/duckdb.sql").read_text("utf-8"))
    report = Report()
    report.feed(pathlib.Path("report.html").read_bytes().decode())
    same("list of claims", sorted(report.claims), sorted(CLAIMS))
    for name, sql in CLAIMS.items():
        same(name, report.claims.get(name), str(con.execute(sql).fetchone()[0]))
    columns = "ts agent_id verb statement_norm decision rule_id approval_id rows masked_count status".split()
    texts = ", ".join(STAMP.format(c) if c == "ts" else f"coalesce(CAST({c} AS VARCHAR), '')" for c in columns)
    rows = con.execute(f"SELECT concat_ws('/', node_id, log_epoch, seq), {texts} FROM events ORDER BY node_id, log_epoch, seq")
    rows = {name: dict(zip(columns, values)) for name, *values in rows.fetchall()}
    same("lines of the timeline", len(report.lines), min(len(rows), 5000))
    for name, line in report.lines.items():
        same(f"line {name}", line, rows.get(name))
    for table in ("events", "sessions", "control", "recordings"):
        if pathlib.Path(f"rows/{table}.parquet").exists():
            kinds = con.execute(f"DESCRIBE SELECT * FROM 'rows/{table}.parquet'").fetchall()
            kinds = [(name, kind, "VARCHAR" if kind == "BLOB" else kind) for name, kind, *_ in kinds]
            read = ", ".join(f"'{name}': '{kind}'" for name, _, kind in kinds)
            pick = ", ".join(f'unhex("{name}")' if kind == "BLOB" else f'"{name}"' for name, kind, _ in kinds)
            lines = f"SELECT {pick} FROM read_json('rows/{table}.jsonl', format = 'newline_delimited', columns = {{{read}}})"
            parquet = f"SELECT * FROM 'rows/{table}.parquet'"
            for one, other in ((parquet, lines), (lines, parquet)):
                differ = con.execute(f"SELECT count(*) FROM ({one} EXCEPT ALL {other})").fetchone()[0]
                same(f"{table}, rows of Parquet and of lines that differ", differ, 0)
    print("WRONG: " + ", ".join(WRONG) if WRONG else f"OK: {len(CLAIMS)} numbers and {len(report.lines)} lines are what the rows say")
    return 1 if WRONG else 0


if __name__ == "__main__":
    sys.exit(main())
