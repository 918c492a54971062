//! `vestibule archive delta`: a Delta log beside each table's files.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use archive::delta::{self, Kept};
use clap::Args as ClapArgs;

use crate::Output;

/// Write a Delta log beside each table's files, or bring it up to what lies there: then Delta readers find the tables with their files
/// as one, without listing folders. Where there is one, the daemon keeps it up after each seal, compaction and disposal, and so does
/// `archive compact --archive`; `[archive] delta = true` has the daemon make it. No file of the archive is touched.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = READ)]
pub(crate) struct Args {
    /// The archive, or a copy of one.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/archive")]
    archive: PathBuf,
    /// Make the logs anew with one commit each, whatever lies in their folders.
    #[arg(long, conflicts_with = "remove")]
    rebuild: bool,
    /// Take the logs away, whatever lies in their folders.
    #[arg(long)]
    remove: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

const READ: &str = "\
How to read a table, DIR being the archive's folder (absolute):

  deltalake   DeltaTable(\"DIR/std7y/v1/table=events\").to_pyarrow_table()
  DuckDB      INSTALL delta; LOAD delta; FROM delta_scan('DIR/std7y/v1/table=events');
  Spark       spark.read.format(\"delta\").load(\"DIR/std7y/v1/table=events\")
  Trino       CALL CATALOG.system.register_table('SCHEMA', 'events',
                'file://DIR/std7y/v1/table=events')

The tables are std7y/v1/table=events, table=sessions and table=control, and
payload13m/v1/table=recordings. `dt` and `node` are their partitions; `node` is null where
files of several nodes were put together: go by `node_id`.

The log is no evidence. It says which files there are, and is made from nothing but that:
`vestibule verify` proves the rows, and says where a log is behind or lies. It is not shipped:
make one in what `archive fetch` brings.";

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let Args { archive, rebuild, remove, output } = args;
    if *remove {
        let had = delta::remove(archive)?;
        match output {
            Output::Json => println!("{}", serde_json::json!({ "removed": had })),
            Output::Table => println!("{} logs are gone {}", had.len(), had.join(", ")),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let all = if *rebuild { delta::rebuild(archive)? } else { delta::keep(archive, true)? };
    if *output == Output::Json {
        println!("{}", serde_json::to_string(&all)?);
        return Ok(ExitCode::SUCCESS);
    }
    if all.is_empty() {
        println!("no table has files");
    }
    for Kept { table, path, version, files, commits } in all {
        let done = if commits == 0 { "as it was" } else { "brought up" };
        println!("{table}: {files} files at version {version}, {done}: {path}");
    }
    Ok(ExitCode::SUCCESS)
}
