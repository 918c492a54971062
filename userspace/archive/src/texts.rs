//! What lies beside the data for whoever reads it: views and a description.

use std::fmt::Write;

use journal::row::{Kind, Table};

use crate::{layout, questions};

/// The retention class that a table's files are in.
pub(crate) fn class(table: Table) -> &'static str {
    if table == Table::Recordings { layout::PAYLOAD } else { layout::STANDARD }
}

/// How a view comes to its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    /// All files have those of this version: DuckDB opens what may hold rows that are asked for, and nothing else.
    Same,
    /// Files may lack some, or have others: DuckDB reads the end of each before it begins.
    ByName,
}

/// A view of a table whose files are below `root`, which ends with a slash or is empty.
pub(crate) fn view(table: Table, root: &str, columns: Columns) -> String {
    let (class, name, root) = (class(table), table.as_str(), root.replace('\'', "''"));
    let files = format!("'{root}{class}/table={name}/**/*.parquet', hive_partitioning = true");
    let (listed, by_name) = match columns {
        Columns::ByName => ("*".to_owned(), ", union_by_name = true"),
        // By name, so that a file that lacks one after all is an error: nothing is left out in silence.
        Columns::Same => {
            let own = table.columns().iter().map(|column| column.name);
            let all: Vec<String> =
                own.chain(["dt", "node", "table"]).map(|name| format!("\"{name}\"")).collect();
            (all.join(", "), "")
        }
    };
    format!(
        "CREATE OR REPLACE VIEW {name} AS SELECT {listed} FROM read_parquet({files}{by_name});\n"
    )
}

/// A view without rows that has a table's columns.
pub(crate) fn empty_view(table: Table) -> String {
    let mut columns: Vec<String> = table
        .columns()
        .iter()
        .map(|c| format!("NULL::{} AS \"{}\"", sql_type(c.kind), c.name))
        .collect();
    columns.push("NULL::DATE AS dt, NULL::VARCHAR AS node".to_owned());
    let (name, columns) = (table.as_str(), columns.join(", "));
    format!("CREATE OR REPLACE VIEW {name} AS SELECT {columns} WHERE false;\n")
}

/// `views/duckdb.sql`: to be read by DuckDB started in the archive's folder; tables that have no
/// files are empty views.
pub fn views(has_files: impl Fn(Table) -> bool) -> String {
    let one = |table: &Table| {
        if has_files(*table) { view(*table, "", Columns::ByName) } else { empty_view(*table) }
    };
    Table::ALL.iter().map(one).chain([DERIVED.to_owned()]).collect()
}

/// What questions need beside the tables, in DuckDB's words: heartbeats with the time since the one before, the
/// classes of masked values and the tokens of named ones each in a row.
pub(crate) const DERIVED: &str = include_str!("views/derived-duckdb.sql");

/// `views/spark.sql`: to be run by Spark started in the archive's folder, statement by statement; they end with `;`.
pub fn spark_views(has_files: impl Fn(Table) -> bool) -> String {
    let one = |table: &Table| {
        let (class, name) = (class(*table), table.as_str());
        let head = format!("CREATE OR REPLACE TEMPORARY VIEW {name}");
        if has_files(*table) {
            return format!(
                "{head} USING parquet OPTIONS (path '{class}/table={name}', mergeSchema 'true');\n"
            );
        }
        let null = |(name, of): (&str, &str)| format!("CAST(NULL AS {of}) AS `{name}`");
        let columns = table.columns().iter().map(|c| (c.name, spark_type(c.kind)));
        let columns: Vec<String> =
            columns.chain([("dt", "DATE"), ("node", "STRING")]).map(null).collect();
        format!("{head} AS SELECT {} WHERE false;\n", columns.join(", "))
    };
    let head = "SET TIME ZONE 'UTC';\n".to_owned();
    let derived = include_str!("views/derived-spark.sql").to_owned();
    [head].into_iter().chain(Table::ALL.iter().map(one)).chain([derived]).collect()
}

fn spark_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "BOOLEAN",
        Kind::I32 => "INT",
        Kind::I64 => "BIGINT",
        Kind::Ts => "TIMESTAMP",
        Kind::Str => "STRING",
        Kind::Bytes => "BINARY",
        Kind::StrList => "ARRAY<STRING>",
        Kind::MaskList => "ARRAY<STRUCT<entity: STRING, count: BIGINT>>",
    }
}

/// `README-AUDITOR.md`.
pub fn readme() -> String {
    let mut listed = String::new();
    for question in questions::all() {
        writeln!(listed, "- `{}`: {}", question.name, question.title)
            .expect("a string takes any text");
    }
    let mut text = README.replace("QUESTIONS\n", &listed);
    for table in Table::ALL {
        write!(
            text,
            "\n### {}\n\n| column | type | may be absent |\n|---|---|---|\n",
            table.as_str()
        )
        .expect("a string takes any text");
        for column in table.columns() {
            let absent = if column.nullable { "yes" } else { "no" };
            writeln!(text, "| {} | {} | {absent} |", column.name, sql_type(column.kind))
                .expect("a string takes any text");
        }
    }
    text
}

pub(crate) fn sql_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "BOOLEAN",
        Kind::I32 => "INTEGER",
        Kind::I64 => "BIGINT",
        Kind::Ts => "TIMESTAMPTZ",
        Kind::Str => "VARCHAR",
        Kind::Bytes => "BLOB",
        Kind::StrList => "VARCHAR[]",
        Kind::MaskList => "STRUCT(entity VARCHAR, \"count\" BIGINT)[]",
    }
}

const README: &str = include_str!("README-AUDITOR.md");
