"""Asks Spark and DuckDB the ready questions on one archive, as they ship: spark.py ARCHIVE. Their answers must be the same.

Prints a line a question. Exit status 1 where an answer differs, or one of them can't answer."""

import datetime
import decimal
import os
import re
import sys
import time
from pathlib import Path

import duckdb
from pyspark.sql import SparkSession

TOLD = {"from": "0001-01-01", "to": "9999-12-31"}


def plain(value):
    """As both have it: times to the microsecond in UTC, numbers as numbers."""
    if isinstance(value, datetime.datetime):
        return value.replace(tzinfo=None) if value.tzinfo is None else value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    if isinstance(value, decimal.Decimal):
        return int(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def main():
    os.environ["TZ"] = "UTC"
    time.tzset()
    os.chdir(sys.argv[1])
    views = Path("std7y/v1/views")
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'; " + (views / "duckdb.sql").read_text())
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    spark = spark.config("spark.sql.shuffle.partitions", "2").config("spark.driver.memory", "1g").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    for statement in (views / "spark.sql").read_text().split(";\n"):
        if statement.strip():
            spark.sql(statement)
    told = dict(TOLD)
    told["session"] = con.execute("SELECT min(session_id) FROM events").fetchone()[0]
    told["user"] = con.execute("SELECT min(actor_user) FROM events").fetchone()[0]
    told["object"] = con.execute("SELECT min(object) FROM (SELECT unnest(objects) AS object FROM events)").fetchone()[0]
    wrong, answered = [], 0
    for path in sorted(Path("std7y/v1/questions").glob("*.sql")):
        lines = [line for line in path.read_text().splitlines() if not line.startswith("--")]
        sql = re.sub(":([a-z]+)", lambda match: "'" + told[match[1]].replace("'", "''") + "'", "\n".join(lines))
        begun = time.monotonic()
        theirs = [tuple(plain(value) for value in row) for row in spark.sql(sql).collect()]
        taken = time.monotonic() - begun
        ours = [tuple(plain(value) for value in row) for row in con.execute(sql).fetchall()]
        answered += bool(ours)
        same = theirs == ours
        print(f"{'same  ' if same else 'DIFFER'} {path.stem:<20} {len(ours)} rows, Spark took {taken:.1f} s")
        if not same:
            wrong.append(path.stem)
            print("  DuckDB", ours[:3], "\n  Spark ", theirs[:3])
    print(f"{answered} questions had rows; different: {', '.join(wrong) or 'none'}")
    spark.stop()
    return 1 if wrong or answered < 5 else 0


if __name__ == "__main__":
    sys.exit(main())
