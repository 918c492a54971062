"""Asks Spark and DuckDB the ready questions on one archive, as they ship: spark.py ARCHIVE [LEAST]. Their answers must be the
same, and at least LEAST questions (5 where it is not said) must have rows.

Prints a line a question. Exit status 1 where an answer differs, or one of them can't answer."""

import os
import sys
import time
from pathlib import Path

import duckdb
from pyspark.sql import SparkSession

import asked


def main():
    os.environ["TZ"] = "UTC"
    time.tzset()
    os.chdir(sys.argv[1])
    least = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    views = Path("std7y/v1/views")
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'; " + (views / "duckdb.sql").read_text())
    began = time.monotonic()
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    spark = spark.config("spark.sql.shuffle.partitions", "2").config("spark.driver.memory", "1g")
    spark = spark.config("spark.ui.showConsoleProgress", "false").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    for statement in (views / "spark.sql").read_text().split(";\n"):
        if statement.strip():
            spark.sql(statement)
    print(f"Spark {spark.version} started and has its views after {time.monotonic() - began:.1f} s")
    wrong, answered, rows, taken = [], 0, 0, 0.0
    for name, sql in asked.questions(con):
        ours = asked.plain(con.execute(sql).fetchall())
        begun = time.monotonic()
        theirs = asked.plain(spark.sql(sql).collect())
        took = time.monotonic() - begun
        taken += took
        answered += bool(ours)
        rows += len(ours)
        same = theirs == ours
        print(f"{'same  ' if same else 'DIFFER'} {name:<20} {len(ours)} rows, Spark took {took:.1f} s", flush=True)
        if not same:
            wrong.append(name)
            asked.show(ours, theirs, "Spark")
    print(f"{answered} questions had rows, {rows} in all; Spark took {taken:.1f} s; different: {', '.join(wrong) or 'none'}")
    spark.stop()
    return 1 if wrong or answered < least else 0


if __name__ == "__main__":
    sys.exit(main())
