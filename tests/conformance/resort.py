"""Rewrites a copy's events by DuckDB: resort.py ARCHIVE. The root must stay; with one statement
changed it must not."""

import shutil
import sys
import tempfile
from pathlib import Path

import duckdb

import canon
import verify


def rewrite(archive, select):
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    for path in sorted(archive.rglob("table=events/**/*.parquet")):
        part = path.with_suffix(".part")
        con.execute(
            f"COPY ({select} FROM read_parquet('{path}', hive_partitioning = false) ORDER BY session_id DESC, seq DESC) "
            f"TO '{part}' (FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 2048)"
        )
        part.replace(path)


def main():
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "archive"
        shutil.copytree(sys.argv[1], copy)
        before = canon.root(verify.leaves(copy))
        rewrite(copy, "SELECT *")
        assert canon.root(verify.leaves(copy)) == before, "rewriting changed the root"
        print("rewritten by DuckDB: same root")
        first = "SELECT * REPLACE (CASE WHEN seq = 1 THEN statement_norm || ' ' ELSE statement_norm END AS statement_norm)"
        rewrite(copy, first)
        assert canon.root(verify.leaves(copy)) != before, "a changed statement kept the root"
        print("one blank added to one statement: another root")


if __name__ == "__main__":
    main()
