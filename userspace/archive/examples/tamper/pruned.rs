//! A journal that let go of its first segments: what a record accounts for is no alteration, and what else is gone is.

use std::fs;
use std::path::Path;

use journal::reader::SegmentReader;
use journal::row::{Row, Table};
use journal::segment;
use journal::start::Start;

use crate::cases::{Case, Copy, Expect};
use crate::tools;

pub(crate) fn add(cases: &mut Vec<Case>) {
    let of = |copy: Copy, names: &[&str]| {
        let (archive, journal) = (copy.archive(), copy.journal());
        Expect::names(names).with(&[&"--archive", &archive, &"--journal", &journal]).holding(copy)
    };
    let title = "a journal whose first segments were let go by a record";
    cases.push(Case::sound(title, move |world, _| {
        of(Copy::of(&world.pruned), &["the node let go of what was before, and recorded that"])
    }));
    cases.push(Case::attack(
        "a further segment taken away behind those let go",
        move |world, _| {
            let copy = Copy::of(&world.pruned);
            take_first(&copy.journal());
            of(copy, &["no record says that what was before was let go"])
        },
    ));
    cases.push(Case::attack("a further one, and the start put behind it", move |world, _| {
        let copy = Copy::of(&world.pruned);
        behead(&copy.journal());
        of(copy, &["no record says that what was before was let go"])
    }));
    cases.push(Case::attack("a further one, and the record made to fit", move |world, _| {
        let copy = Copy::of(&world.pruned);
        let start = behead(&copy.journal());
        let is_it = |row: &Row| matches!(row, Row::Control(row) if row.kind == Start::RECORD);
        let files = tools::parquet(&copy.archive());
        let mut control = files.iter().filter(|path| tools::table(path) == Some(Table::Control));
        let path = control.find(|path| tools::read(path).iter().any(is_it)).unwrap();
        tools::edit(path, |rows| {
            for row in rows.iter_mut().filter(|row| is_it(row)) {
                if let Row::Control(row) = row {
                    row.detail = start.json().to_string();
                }
            }
        });
        let name = tools::below(path, &copy.archive());
        of(copy, &["changed", &name])
    }));
    let title = "the first segments of a whole journal taken away, and a start that says so";
    cases.push(Case::attack(title, move |world, _| {
        let copy = Copy::of(&world.node);
        behead(&copy.journal());
        of(copy, &["no record says that what was before was let go"])
    }));
    cases.push(Case::attack("where a journal begins made unreadable", move |world, _| {
        let copy = Copy::of(&world.pruned);
        fs::write(copy.journal().join("start"), "{}").unwrap();
        of(copy, &["does not say where the journal begins"])
    }));
    cases.push(Case::attack("a byte flipped in a journal that let go", move |world, _| {
        let copy = Copy::of(&world.pruned);
        let first = segment::list(&copy.journal()).unwrap().remove(0).path;
        tools::flip(&first, 500);
        let name = tools::below(&first, &copy.journal());
        of(copy, &[&name])
    }));
}

/// Takes the journal's first segment away; answers where the next one begins.
fn take_first(journal: &Path) -> Start {
    let segments = segment::list(journal).unwrap();
    fs::remove_file(&segments[0].path).unwrap();
    Start::of(SegmentReader::open(&segments[1]).unwrap().header())
}

/// The same, and has the journal say that it begins there.
fn behead(journal: &Path) -> Start {
    let start = take_first(journal);
    fs::write(journal.join("start"), start.json().to_string()).unwrap();
    start
}
