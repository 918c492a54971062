//! Trino's views: tables over the files where they lie, for its Hive connector, and what the questions need beside them.

use std::fmt::Write;

use journal::row::{Kind, Table};

use crate::texts;

/// `views/trino.sql`: to be run by Trino's command line with `@LOCATION@` and `@SCHEMA@` replaced, statement by statement; they
/// end with `;`.
pub(crate) fn views(has_files: impl Fn(Table) -> bool) -> String {
    let mut sql = HEAD.to_owned();
    for table in Table::ALL {
        let one = if has_files(table) { over_files(table) } else { empty(table) };
        sql.push_str(&one);
    }
    sql + include_str!("views/derived-trino.sql")
}

const HEAD: &str = "\
-- For Trino's Hive connector, whose catalog has hive.parquet.time-zone=UTC and hive.timestamp-precision=MICROSECONDS:
--   sed 's|@LOCATION@|s3://BUCKET/PREFIX|; s|@SCHEMA@|vestibule|' trino.sql > /tmp/views.sql
--   trino --catalog hive --schema vestibule --file /tmp/views.sql
-- To be run again when a day has come: that finds its partitions. The files stay as they are.
";

fn over_files(table: Table) -> String {
    let (class, name) = (texts::class(table), table.as_str());
    let mut columns = String::new();
    for column in table.columns() {
        write!(columns, "\"{}\" {}, ", column.name, of(column.kind))
            .expect("a string takes any text");
    }
    format!(
        "DROP TABLE IF EXISTS {name}_files;\n\
         CREATE TABLE {name}_files ({columns}dt DATE, node VARCHAR) WITH (external_location = \
         '@LOCATION@/{class}/table={name}', format = 'PARQUET', partitioned_by = ARRAY['dt', 'node']);\n\
         CALL system.sync_partition_metadata('@SCHEMA@', '{name}_files', 'FULL');\n\
         CREATE OR REPLACE VIEW {name} AS SELECT * FROM {name}_files;\n"
    )
}

fn empty(table: Table) -> String {
    let null = |(name, of): (&str, &str)| format!("CAST(NULL AS {of}) AS \"{name}\"");
    let columns = table.columns().iter().map(|column| (column.name, of(column.kind)));
    let columns: Vec<String> =
        columns.chain([("dt", "DATE"), ("node", "VARCHAR")]).map(null).collect();
    let name = table.as_str();
    format!("CREATE OR REPLACE VIEW {name} AS SELECT {} WHERE false;\n", columns.join(", "))
}

fn of(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "BOOLEAN",
        Kind::I32 => "INTEGER",
        Kind::I64 => "BIGINT",
        Kind::Ts => "TIMESTAMP(6)",
        Kind::Str => "VARCHAR",
        Kind::Bytes => "VARBINARY",
        Kind::StrList => "ARRAY(VARCHAR)",
        Kind::MaskList => "ARRAY(ROW(entity VARCHAR, \"count\" BIGINT))",
    }
}
