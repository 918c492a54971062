//! What other software makes of files over the years is no alteration while the rows are the same; and what hides
//! rows from queries is one.

use std::fs;

use journal::row::Table;

use crate::cases::{Case, Copy, Expect};
use crate::tools;
use crate::world::World;

/// Rewrites each file by DuckDB: `options` of COPY, `order` of rows.
pub(crate) const DUCKDB: &str = "
import duckdb, os, sys
con = duckdb.connect()
con.execute(\"SET TimeZone = 'UTC'\")
for path in sys.argv[3:]:
    part = path + '.part'
    order = sys.argv[2] if 'session_id' in duckdb.read_parquet(path).columns else 'seq DESC'
    con.execute(f\"COPY (SELECT * FROM read_parquet('{path}', hive_partitioning = false) ORDER BY {order}) TO '{part}' (FORMAT parquet, {sys.argv[1]})\")
    os.replace(part, path)
";

/// Rewrites each file by pyarrow: arguments of `write_table`.
const PYARROW: &str = "
import json, os, pyarrow.parquet as pq, sys
for path in sys.argv[2:]:
    part = path + '.part'
    pq.write_table(pq.ParquetFile(path).read(), part, **json.loads(sys.argv[1]))
    os.replace(part, path)
";

/// Tells how many denials DuckDB finds.
const DENIALS: &str = "
import duckdb, sys
files = ', '.join(f\"'{path}'\" for path in sys.argv[1:])
print(duckdb.sql(f\"SELECT count(*) FROM read_parquet([{files}]) WHERE decision = 'deny'\").fetchall()[0][0])
";

pub(crate) fn add(world: &World, quick: bool, cases: &mut Vec<Case>) {
    cases.push(Case::sound("as it was made", |_, copy| {
        Expect::names(&["OK: everything is as it was recorded"]).with(&[
            &"--journal",
            &copy.journal(),
            &"--key",
            &copy.dir().join("keys/n1.vkey"),
        ])
    }));
    for options in
        ["COMPRESSION zstd", "COMPRESSION snappy, ROW_GROUP_SIZE 2048", "COMPRESSION uncompressed"]
    {
        for order in ["session_id DESC, seq DESC", "seq"] {
            let title = format!("rewritten by DuckDB: {options}, by {order}");
            cases.push(Case::sound(title, move |_, copy| {
                rewrite(copy, DUCKDB, &[options, order]);
                Expect::names(&["was rewritten since it was sealed"])
            }));
        }
    }
    for options in [
        r#"{"compression": "snappy"}"#,
        r#"{"compression": "zstd", "compression_level": 12, "row_group_size": 50, "use_dictionary": false}"#,
        r#"{"compression": "none", "data_page_version": "2.0", "write_page_index": true}"#,
        r#"{"compression": "zstd", "write_statistics": false, "data_page_size": 512}"#,
    ] {
        cases.push(Case::sound(format!("rewritten by pyarrow: {options}"), move |_, copy| {
            rewrite(copy, PYARROW, &[options]);
            Expect::names(&["was rewritten since it was sealed"])
        }));
    }
    cases.push(Case::attack(
        "rewritten by DuckDB, its statistics made to hide denials",
        |_, copy| {
            rewrite(copy, DUCKDB, &["COMPRESSION snappy", "seq"]);
            lie(copy)
        },
    ));
    cases.push(Case::attack("rewritten by DuckDB, one word changed", |_, copy| {
        let change = DUCKDB.replace("SELECT *", "SELECT * REPLACE (CASE WHEN decision = 'deny' THEN 'allow' ELSE decision END AS decision)");
        let file = tools::file_of(&copy.archive(), Table::Events, 100);
        let denied = tools::read(&file).iter().find_map(|row| match row {
            journal::row::Row::Event(event) if event.decision == "deny" => Some(event.seq.0),
            _ => None,
        });
        tools::python(&change, &["COMPRESSION zstd".as_ref(), "seq".as_ref(), &file]);
        let record = format!("n1/0/{}", denied.unwrap());
        Expect::names(&[&record]).with(&[&"--journal", &copy.journal()])
    }));
    large(world, quick, cases);
}

/// The large archive, whole, in each way in which it may be looked at.
fn large(world: &World, quick: bool, cases: &mut Vec<Case>) {
    let records = world.largest;
    for threads in ["1", "2"] {
        let title = format!("{records} records, {threads} threads");
        cases.push(Case::sound(title, move |world, _| {
            Expect::names(&["OK"]).with(&[
                &"--archive",
                &world.large.join("archive"),
                &"--threads",
                &threads,
            ])
        }));
    }
    cases.push(Case::sound(format!("{records} records, with journal and keys"), |world, _| {
        Expect::names(&["OK"]).with(&[
            &"--archive",
            &world.large.join("archive"),
            &"--journal",
            &world.large.join("journal"),
            &"--key",
            &world.large.join("keys/n1.vkey"),
        ])
    }));
    let ways: &[&str] = if quick { &["snappy"] } else { &["snappy", "zstd", "uncompressed"] };
    for way in ways {
        let title = format!("{records} records rewritten by DuckDB: {way}, by session");
        cases.push(Case::sound(title, move |world, _| {
            let copy = Copy::of(&world.large);
            let options = format!("COMPRESSION {way}");
            rewrite(&copy, DUCKDB, &[&options, "session_id DESC, seq DESC"]);
            let archive = copy.archive();
            Expect::names(&["OK", "was rewritten since"])
                .with(&[&"--archive", &archive])
                .holding(copy)
        }));
    }
}

pub(crate) fn rewrite(copy: &Copy, script: &str, args: &[&str]) {
    let files = tools::parquet(&copy.archive());
    let args = args.iter().map(|arg| std::path::Path::new(*arg));
    let args: Vec<_> = args.chain(files.iter().map(std::path::PathBuf::as_path)).collect();
    tools::python(script, &args);
}

/// Writes into files' footers that the greatest decision comes before `deny`: readers then pass over the denials.
pub(crate) fn lie(copy: &Copy) -> Expect {
    let files = tools::parquet(&copy.archive());
    let events: Vec<_> =
        files.iter().filter(|path| tools::table(path) == Some(Table::Events)).collect();
    let paths: Vec<_> = events.iter().map(|path| path.as_path()).collect();
    let count = || tools::python(DENIALS, &paths).trim().parse::<u64>().unwrap();
    let before = count();
    for path in &paths {
        let mut bytes = fs::read(path).unwrap();
        let length = bytes.len();
        let footer = u32::from_le_bytes(bytes[length - 8..length - 4].try_into().unwrap());
        let start = length - 8 - usize::try_from(footer).unwrap();
        // The least decision becomes one behind all others.
        for at in start..length - 5 {
            if &bytes[at..at + 4] == b"deny" {
                bytes[at] = b'z';
            }
        }
        fs::write(path, bytes).unwrap();
    }
    assert!(before > 0 && count() < before, "the lie hides nothing: {before} denials are found");
    Expect::names(&["hides rows", r#"column "decision""#])
}
