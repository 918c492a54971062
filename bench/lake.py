"""Asks DuckDB and Spark the questions that auditors ask first on an archive that the bench made, and the same of the files with a
JSON column."""

import argparse
import csv
import io
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/conformance"))
import asked

# The twelve of the design, by the names that they have here.
TWELVE = (
    "who-touched session approvals self-approvals refusals privileged without-mfa incomplete-sessions gaps interruptions masked "
    "changes"
).split()
OBJECT = "cards.pan_vault"
# A question that takes longer is asked once.
LONG_S = 30


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="has `archive`, `json` and `made.json`")
    parser.add_argument("to", type=Path, help="what was measured, as JSON")
    parser.add_argument("--no-spark", action="store_true")
    parser.add_argument("--vestibule", type=Path, required=True, help="the command, which asks point questions, too")
    parser.add_argument("--duckdb", type=Path, required=True, help="the executable that it runs")
    args = parser.parse_args()
    folder, to = args.folder.resolve(), args.to.resolve()
    command = [str(args.vestibule.resolve()), "archive", "query", "--duckdb", str(args.duckdb.resolve()), "--output", "csv"]
    said = json.loads((folder / "made.json").read_text())
    os.environ["TZ"] = "UTC"
    time.tzset()
    os.chdir(folder / "archive")
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'; SET memory_limit = '6GB'; SET max_temp_directory_size = '3GB'")
    con.execute(f"SET temp_directory = '{folder}/spill'; " + Path("std7y/v1/views/duckdb.sql").read_text())
    said["duckdb"] = duckdb.__version__
    said["tables"] = tables(con)
    told = chosen(con)
    said["points"] = points(con, told, [*command, "--archive", str(folder / "archive")])
    said["layouts"] = layouts(con, folder, said["json_days"])
    questions = {name: asked.filled(text, told_to(text, told)) for name, text in asked.texts() if name in TWELVE}
    said["questions"] = {}
    for name in TWELVE:
        said["questions"][name] = {"duckdb": measured(con, questions[name], 3)}
        print(f"DuckDB  {name:<20} {said['questions'][name]['duckdb']}", flush=True)
    to.write_text(json.dumps(said, indent=2) + "\n")
    con.close()
    if not args.no_spark:
        spark(questions, said, to)
    to.write_text(json.dumps(said, indent=2) + "\n")


def measured(con, sql, times):
    """Seconds, of so many warm times the median, and rows."""
    took = []
    for at in range(times + 1):
        begun = time.monotonic()
        try:
            rows = con.sql(sql).to_arrow_table().num_rows
        except duckdb.Error as error:
            return {"failed": str(error).splitlines()[0]}
        took.append(time.monotonic() - begun)
        if took[0] > LONG_S:
            return {"s": round(took[0], 3), "rows": rows, "times": 1}
    return {"s": round(statistics.median(took[1:]), 4), "first_s": round(took[0], 3), "rows": rows, "times": times}


def told_to(text, told):
    """What a question must be told."""
    return {name: told.get(name, default) for name, default in asked.arguments(text).items()}


def chosen(con):
    """What is asked for: the object, a session of the middle, and the day that it is of."""
    days = [row[0] for row in con.execute("SELECT DISTINCT dt FROM sessions ORDER BY dt").fetchall()]
    middle = days[len(days) // 2]
    session = con.execute(
        f"SELECT session_id FROM sessions WHERE dt = '{middle}' AND events_declared > 100 ORDER BY opened_at, 1 LIMIT 1 OFFSET 50"
    ).fetchall()[0][0]
    old = con.execute(
        f"SELECT session_id FROM sessions WHERE dt = '{days[0]}' AND events_declared > 100 ORDER BY opened_at, 1 LIMIT 1 OFFSET 50"
    ).fetchall()[0][0]
    return {"object": OBJECT, "session": session, "old": old, "day": str(middle), "first": str(days[0])}


def points(con, told, command):
    """Questions about one thing, by the views that lie in the archive and by the command with its start."""
    columns = "session_seq, ts, verb, statement_norm, decision, rule_id, rows, masked_count, duration_us, status"
    session = f"SELECT {columns} FROM events WHERE session_id = '%s'%s ORDER BY session_seq"
    touched = (
        "SELECT actor_user, agent_id, verb, decision, count(*) AS commands, min(ts), max(ts) FROM events WHERE dt = '%s' AND ts >= "
        f"'%s 10:00:00Z' AND ts < '%s 12:00:00Z' AND array_position(objects, '{OBJECT}') > 0 GROUP BY ALL ORDER BY commands DESC"
    )
    day, first = told["day"], told["first"]
    asked_for = {
        "a session, its day known": session % (told["session"], f" AND dt = '{day}'"),
        "a session, its day not known": session % (told["session"], ""),
        "a session of a day that was put together": session % (told["old"], f" AND dt = '{first}'"),
        "a table, two hours of a day": touched % (day, day, day),
        "a table, two hours of a day that was put together": touched % (first, first, first),
    }
    found = {}
    for name, sql in asked_for.items():
        found[name] = {**measured(con, sql, 5), "command": by_command([*command, sql], 5)}
        assert found[name]["rows"] == found[name]["command"]["rows"], found[name]
        print(f"DuckDB  {name:<50} {found[name]}", flush=True)
    return found


def by_command(command, times):
    """Seconds from the start of a process to its end, the median of so many warm times, and rows."""
    took = []
    for _ in range(times + 1):
        begun = time.monotonic()
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        took.append(time.monotonic() - begun)
    return {"s": round(statistics.median(took[1:]), 4), "rows": len(list(csv.reader(io.StringIO(out)))) - 1}


def layouts(con, folder, days):
    """The same of the days that are there with a JSON column, in both layouts."""
    dates = [row[0] for row in con.execute("SELECT DISTINCT dt FROM sessions ORDER BY dt").fetchall()][:days]
    names = ", ".join(f"'std7y/v1/table=events/dt={date}/**/*.parquet'" for date in dates)
    con.execute(f"CREATE VIEW typed AS SELECT * FROM read_parquet([{names}], hive_partitioning = true, union_by_name = true)")
    con.execute(f"CREATE VIEW blobs AS SELECT * FROM read_parquet('{folder}/json/**/*.parquet', hive_partitioning = true)")
    counts = [con.execute(f"SELECT count(*) FROM {view}").fetchall()[0][0] for view in ("typed", "blobs")]
    assert counts[0] == counts[1], counts
    session = con.execute("SELECT session_id FROM typed GROUP BY 1 HAVING count(*) > 100 ORDER BY 1 LIMIT 1 OFFSET 70").fetchall()[0][0]
    field = "event_data->>'$.%s'"
    pairs = {
        "commands on an object": (
            f"SELECT count(*), count(DISTINCT actor_user) FROM typed WHERE array_position(objects, '{OBJECT}') > 0",
            'SELECT count(*), count(DISTINCT "user") FROM blobs '
            f"WHERE array_position(CAST(event_data->'$.objects' AS VARCHAR[]), '{OBJECT}') > 0",
        ),
        "refusals by person and rule": (
            "SELECT actor_user, rule_id, count(*) AS refused, count(DISTINCT session_id) FROM typed WHERE decision = 'deny' "
            "GROUP BY ALL ORDER BY refused DESC, 1, 2",
            f'SELECT "user", {field % "rule_id"} AS rule_id, count(*) AS refused, count(DISTINCT session_id) FROM blobs '
            f"WHERE {field % 'decision'} = 'deny' GROUP BY ALL ORDER BY refused DESC, 1, 2",
        ),
        "one session": (
            "SELECT session_seq, verb, statement_norm, decision, rows FROM typed "
            f"WHERE session_id = '{session}' ORDER BY session_seq",
            f"SELECT CAST({field % 'session_seq'} AS INTEGER), {field % 'verb'}, {field % 'statement_norm'}, {field % 'decision'}, "
            f"CAST({field % 'rows'} AS BIGINT) FROM blobs WHERE session_id = '{session}' ORDER BY 1",
        ),
    }
    found = {"events": counts[0]}
    for name, (typed, blobs) in pairs.items():
        ours, theirs = (con.execute(sql).fetchall() for sql in (typed, blobs))
        assert ours == theirs, (name, ours[:3], theirs[:3])
        one, other = measured(con, typed, 3), measured(con, blobs, 1)
        found[name] = {"typed": one, "json": other, "times_faster": round(other["s"] / one["s"], 1)}
        print(f"layouts {name:<30} {found[name]}", flush=True)
    return found


def tables(con):
    """Bytes of each table, and of its largest columns, in files as nodes wrote them."""
    found = {}
    for table in ("events", "recordings", "sessions", "control"):
        folder = "payload13m" if table == "recordings" else "std7y"
        names = [str(path) for path in Path(f"{folder}/v1/table={table}").glob("**/*.parquet") if "part-" not in path.name]
        rows, size = con.execute(
            "SELECT sum(num_rows), sum(file_size_bytes) FROM parquet_file_metadata(?)", [names]
        ).fetchall()[0] if names else (0, 0)
        columns = con.execute(
            "SELECT path_in_schema, sum(total_compressed_size)::BIGINT FROM parquet_metadata(?) GROUP BY 1 ORDER BY 2 DESC LIMIT 14", [names[:1]]
        ).fetchall()
        some = con.execute("SELECT sum(num_rows) FROM parquet_file_metadata(?)", [names[:1]]).fetchall()[0][0]
        largest = {name: round(size / some, 2) for name, size in columns}
        found[table] = {"files": len(names), "rows": int(rows), "bytes": int(size), "largest_columns": largest}
        print(f"{table}: {len(names)} files, {int(rows)} rows, {size / max(rows, 1):.1f} bytes a row; {largest}", flush=True)
    return found


def spark(questions, said, to):
    """Once each; what Spark is started with is what two processors and little memory allow."""
    from pyspark.sql import SparkSession

    begun = time.monotonic()
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    spark = spark.config("spark.sql.shuffle.partitions", "8").config("spark.driver.memory", "4g")
    spark = spark.config("spark.ui.showConsoleProgress", "false").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    for statement in Path("std7y/v1/views/spark.sql").read_text().split(";\n"):
        if statement.strip():
            spark.sql(statement)
    said["spark"] = {"version": spark.version, "started_s": round(time.monotonic() - begun, 1)}
    for name, sql in questions.items():
        begun = time.monotonic()
        # All rows are made, and none is brought into this process.
        spark.sql(sql).write.format("noop").mode("overwrite").save()
        said["questions"][name]["spark"] = {"s": round(time.monotonic() - begun, 1)}
        print(f"Spark   {name:<20} {said['questions'][name]['spark']}", flush=True)
        to.write_text(json.dumps(said, indent=2) + "\n")
    spark.stop()


if __name__ == "__main__":
    main()
