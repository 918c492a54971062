//! Days that were put together, altered: whatever of it, with the list made to fit or not.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use archive::compact::{self, Options, Unwatched};
use archive::compacted::{self, Compacted};
use journal::row::{Row, Table};
use sha2::{Digest, Sha256};
use types::hex::hex;

use crate::cases::{Case, Copy, Expect};
use crate::world::World;
use crate::{common, rewritten, tools};

/// After all days.
const NEVER: i64 = 30_000;

/// The node's folders with their days put together.
static MADE: OnceLock<Copy> = OnceLock::new();

/// Has a copy's days put together.
fn put_together(world: &World, copy: &Copy) {
    let made = MADE.get_or_init(|| {
        let made = Copy::of(&world.node);
        let mut failed = |_: &compact::Due, error| panic!("{error}");
        let options = Options::new(made.archive(), NEVER);
        let done = compact::compact(&options, &mut Unwatched, &mut failed).unwrap();
        assert!(done.len() >= 4);
        made
    });
    fs::remove_dir_all(copy.archive()).unwrap();
    common::plant(&copy.archive(), &common::tree(&made.archive()));
}

/// The file of a table that is put together, and its list.
fn part(copy: &Copy, table: Table) -> (PathBuf, PathBuf, Compacted) {
    let lists = compacted::all(&copy.archive()).unwrap();
    let found = lists.into_iter().find(|found| found.says.as_ref().unwrap().table() == Some(table));
    let found = found.unwrap();
    let says = found.says.unwrap();
    (copy.archive().join(&says.files[0].path), copy.archive().join(found.path), says)
}

/// Changes the rows of a table's file, and makes the list fit what lies there then.
fn edit(
    (world, copy): (&World, &Copy),
    table: Table,
    refit: bool,
    change: impl FnOnce(&mut Vec<Row>),
) -> String {
    put_together(world, copy);
    let (path, list, mut says) = part(copy, table);
    tools::edit(&path, change);
    if refit {
        let bytes = fs::read(&path).unwrap();
        says.files[0].sha256 = hex(&Sha256::digest(&bytes));
        says.files[0].bytes = bytes.len().try_into().unwrap();
        says.files[0].rows = tools::read(&path).len().try_into().unwrap();
        fs::write(list, says.bytes().unwrap()).unwrap();
    }
    tools::below(&path, &copy.archive())
}

pub(crate) fn add(quick: bool, cases: &mut Vec<Case>) {
    cases.push(Case::sound("days put together", |world, copy| {
        put_together(world, copy);
        Expect::names(&["files were put together into"]).with(&[&"--journal", &copy.journal()])
    }));
    cases.push(Case::sound(
        "days put together, and verified with what was before",
        |world, copy| {
            put_together(world, copy);
            let state = copy.dir().join("state");
            fs::copy(&world.state, &state).unwrap();
            Expect::names(&["all is read again"]).with(&[&"--state", &state])
        },
    ));
    cases.push(Case::sound("days put together and then rewritten by DuckDB", |world, copy| {
        put_together(world, copy);
        rewritten::rewrite(copy, rewritten::DUCKDB, &["COMPRESSION zstd", "session_id, seq"]);
        Expect::names(&["was rewritten since it was put together"])
    }));
    cases.push(Case::sound("a day put together and cut short", |_, copy| {
        let left = copy.archive().join("std7y/v1/compacting/table=events/dt=2026-11-21/part-0");
        archive::files::write(&left, b"half", 0o600).unwrap();
        Expect::names(&["no part of the archive"])
    }));
    let tables = Table::ALL.into_iter().filter(|table| !quick || *table == Table::Events);
    for table in tables {
        for refit in [false, true] {
            rows(table, refit, cases);
        }
    }
    brought_back(cases);
    lists(cases);
}

fn rows(table: Table, refit: bool, cases: &mut Vec<Case>) {
    let of = format!(
        "a file of {} put together{}",
        table.as_str(),
        if refit { ", the list made to fit" } else { "" }
    );
    cases.push(Case::attack(format!("a row dropped from {of}"), move |world, copy| {
        let name = edit((world, copy), table, refit, |rows| drop(rows.remove(0)));
        let day = day(&name);
        Expect::names(&[&format!("{day}/{}|{name}", compacted::NAME), "rows are missing|record"])
    }));
    cases.push(Case::attack(format!("a row twice in {of}"), move |world, copy| {
        let name = edit((world, copy), table, refit, |rows| rows.push(rows[0].clone()));
        Expect::names(&["stand twice", &format!("{}/{}", day(&name), compacted::NAME)])
    }));
    cases.push(Case::attack(format!("a row altered in {of}"), move |world, copy| {
        let mut seq = 0;
        edit((world, copy), table, refit, |rows| {
            seq = rows[0].seq().0;
            rows[0] = tools::altered(&rows[0], 4);
        });
        Expect::names(&[&format!("n1/0/{seq}")]).with(&[&"--journal", &copy.journal()])
    }));
    cases.push(Case::attack(
        format!("a row of another in its place in {of}"),
        move |world, copy| {
            edit((world, copy), table, refit, |rows| {
                if rows.len() > 1 {
                    rows[0] = rows[1].clone();
                } else {
                    rows.clear();
                }
            });
            Expect::names(&["n1/0/|not all rows"])
        },
    ));
}

/// The folder of the day of a file put together.
fn day(name: &str) -> &str {
    name.split("/node=").next().unwrap()
}

fn brought_back(cases: &mut Vec<Case>) {
    for table in Table::ALL {
        let title = format!("an old file of {} brought back", table.as_str());
        cases.push(Case::attack(title, move |world, copy| {
            put_together(world, copy);
            let archive = world.node.join("archive");
            let old = tools::file_of(&archive, table, 0);
            let name = tools::below(&old, &archive);
            let to = copy.archive().join(&name);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(old, to).unwrap();
            Expect::names(&["is here again", &name])
        }));
    }
    cases.push(Case::attack("an old file brought back in place of the new one", |world, copy| {
        put_together(world, copy);
        let (path, _, _) = part(copy, Table::Events);
        fs::copy(tools::file_of(&world.node.join("archive"), Table::Events, 0), &path).unwrap();
        Expect::names(&["not all rows", "rows are missing"])
    }));
}

fn lists(cases: &mut Vec<Case>) {
    let list = |world: &World, copy: &Copy, change: &dyn Fn(&mut Compacted)| {
        put_together(world, copy);
        let (_, path, mut says) = part(copy, Table::Events);
        change(&mut says);
        fs::write(&path, says.bytes().unwrap()).unwrap();
        tools::below(&path, &copy.archive())
    };
    cases.push(Case::attack("the list deleted", |world, copy| {
        put_together(world, copy);
        let (file, path, _) = part(copy, Table::Events);
        fs::remove_file(path).unwrap();
        Expect::names(&["file is missing", &tools::below(&file, &copy.archive())])
    }));
    cases.push(Case::attack("the list cut to half", |world, copy| {
        put_together(world, copy);
        let (_, path, _) = part(copy, Table::Events);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        Expect::names(&["put together is none", &tools::below(&path, &copy.archive())])
    }));
    cases.push(Case::attack("a file put together deleted", |world, copy| {
        put_together(world, copy);
        let (path, _, _) = part(copy, Table::Sessions);
        fs::remove_file(&path).unwrap();
        Expect::names(&["file is missing", &tools::below(&path, &copy.archive())])
    }));
    cases.push(Case::attack("the list names a file that never was", move |world, copy| {
        let name = list(world, copy, &|says| {
            let mut more = says.replaces[0].clone();
            more.path = more.path.replace("/0-", "/0-9");
            says.replaces.push(more);
        });
        Expect::names(&["no manifest lists", &name])
    }));
    cases.push(Case::attack("the list forgets a file that was", move |world, copy| {
        let name = list(world, copy, &|says| drop(says.replaces.remove(0)));
        Expect::names(&["file is missing", &name])
    }));
    cases.push(Case::attack("the list leads out of the archive", move |world, copy| {
        let name =
            list(world, copy, &|says| "../../etc/passwd".clone_into(&mut says.files[0].path));
        Expect::names(&["put together is none", &name])
    }));
    cases.push(Case::attack(
        "a file put together with lying statistics, the list made to fit",
        |world, copy| {
            put_together(world, copy);
            let (path, list, mut says) = part(copy, Table::Events);
            // What vestibule wrote is another's then, by its name; the statistics are held against the rows in any case.
            rewritten::rewrite(copy, rewritten::DUCKDB, &["COMPRESSION snappy", "session_id, seq"]);
            drop(rewritten::lie(copy));
            let bytes = fs::read(&path).unwrap();
            says.files[0].sha256 = hex(&Sha256::digest(&bytes));
            says.files[0].bytes = bytes.len().try_into().unwrap();
            fs::write(list, says.bytes().unwrap()).unwrap();
            Expect::names(&["hides rows", &tools::below(&path, &copy.archive())])
        },
    ));
}
