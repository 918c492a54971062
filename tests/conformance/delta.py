"""Reads an archive's tables by their Delta logs with deltalake, and compares all rows with those that DuckDB reads from the files as
they lie: delta.py ARCHIVE. Says of each table its version, files and rows. Exit status 1 where any differ, or there is no log."""

import sys
from pathlib import Path

import duckdb
from deltalake import DeltaTable, QueryBuilder

CLASSES = {"events": "std7y", "sessions": "std7y", "control": "std7y", "recordings": "payload13m"}
ORDER = "node_id, log_epoch, seq"


def plain(con, folder):
    """All rows of the files below a folder, without the partition that DuckDB sees in the folder's own name."""
    read = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = true, union_by_name = true)"
    return con.sql(f'SELECT * EXCLUDE ("table") FROM {read} ORDER BY {ORDER}').to_arrow_table()


def main():
    archive = Path(sys.argv[1]).resolve()
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    wrong = total = 0
    for name, of in CLASSES.items():
        folder = archive / of / "v1" / f"table={name}"
        if not (folder / "_delta_log").is_dir():
            wrong += any(folder.rglob("*.parquet"))
            continue
        table = DeltaTable(folder)
        files = sorted(str(path) for path in folder.rglob("*.parquet"))
        theirs = con.from_arrow(table.to_pyarrow_table()).order(ORDER).to_arrow_table()
        problems = []
        if files:
            ours = plain(con, folder)
            if set(ours.column_names) - set(theirs.column_names):
                problems.append("columns are missing")
            for column in theirs.column_names:
                if column in ours.column_names:
                    if ours[column].to_pylist() != theirs[column].to_pylist():
                        problems.append(f"{column} differs")
                elif theirs[column].null_count != theirs.num_rows:
                    problems.append(f"{column} is in the log alone")
            # What readers pass over files by: all rows are found by the times that the log says of their files.
            least, greatest = min(ours["ts"].to_pylist()), max(ours["ts"].to_pylist())
            asked = f"SELECT count(*) AS n FROM t WHERE ts >= '{least.isoformat()}' AND ts <= '{greatest.isoformat()}'"
            counted = QueryBuilder().register("t", table).execute(asked).read_all()
            if counted["n"][0].as_py() != ours.num_rows:
                problems.append("the times that it says of files hide rows")
        elif theirs.num_rows:
            problems.append("it has rows, and there are no files")
        if table.metadata().configuration != {"delta.appendOnly": "true"}:
            problems.append(f"it says {table.metadata().configuration}")
        said = "; ".join(problems) or "same"
        print(f"{name:<10} version {table.version()}, {len(files)} files, {theirs.num_rows} rows: {said}")
        wrong, total = wrong + bool(problems), total + theirs.num_rows
    return 1 if wrong or not total else 0


if __name__ == "__main__":
    sys.exit(main())
