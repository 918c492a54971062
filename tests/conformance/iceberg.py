"""Registers an archive's files, as they lie, as Iceberg tables: iceberg.py ARCHIVE CATALOG. No file of the archive is written,
moved or copied.

CATALOG is a folder that takes the catalog (SQLite) and the tables' metadata; what of it is there already is read again, and files
that are new are added. `dt` and `node` stand in the files' paths alone, which Iceberg does not read: `ts` and `node_id` say the
same. Afterwards each table's rows are compared with those that DuckDB reads from the files. Exit status 1 where they differ."""

import logging
import sys
from pathlib import Path

import duckdb
import pyarrow.parquet as parquet
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import pyarrow_to_schema
from pyiceberg.serializers import ToOutputFile

CLASSES = {"events": "std7y", "sessions": "std7y", "control": "std7y", "recordings": "payload13m"}
ORDER = "node_id, log_epoch, seq"


def table_of(catalog, folder, name, schema):
    """The table, made where there is none: with the columns' ids that the files have. A catalog would count them anew, and find no
    column of the files then."""
    known = f"vestibule.{name}"
    if catalog.table_exists(known):
        return catalog.load_table(known)
    shape = catalog.create_table(f"{known}_shape", schema=schema)
    own = pyarrow_to_schema(schema)
    metadata = shape.metadata.model_copy(update={"schemas": [own], "last_column_id": own.highest_field_id})
    catalog.drop_table(f"{known}_shape")
    place = f"file://{folder}/warehouse/{name}.metadata.json"
    ToOutputFile.table_metadata(metadata, shape.io.new_output(place), overwrite=True)
    return catalog.register_table(known, place)


def differs(table, files):
    """Whether the table's rows are others than the files'."""
    con = duckdb.connect()
    read = f"SELECT * FROM read_parquet({files}, hive_partitioning = false, union_by_name = true) ORDER BY {ORDER}"
    ours = con.sql(read).to_arrow_table()
    theirs = con.from_arrow(table.scan().to_arrow()).order(ORDER).to_arrow_table()
    equal = ours.num_rows == theirs.num_rows
    equal = equal and all(ours[name].to_pylist() == theirs[name].to_pylist() for name in ours.column_names)
    return ours.num_rows, not equal


def main():
    logging.getLogger("pyiceberg").setLevel(logging.ERROR)
    archive, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    catalog = SqlCatalog("archive", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/warehouse")
    catalog.create_namespace_if_not_exists("vestibule")
    wrong = total = 0
    for name, of in CLASSES.items():
        files = sorted(map(str, (archive / of / "v1" / f"table={name}").rglob("*.parquet")))
        if not files:
            continue
        table = table_of(catalog, folder, name, parquet.read_schema(files[-1]))
        known = {task.file.file_path for task in table.scan().plan_files()}
        if added := [file for file in files if file not in known]:
            table.add_files(added)
        rows, is_wrong = differs(table, files)
        print(f"{'DIFFER' if is_wrong else 'same  '} {name:<10} {len(files)} files, {len(added)} of them new, {rows} rows")
        wrong, total = wrong + is_wrong, total + rows
    return 1 if wrong or not total else 0


if __name__ == "__main__":
    sys.exit(main())
