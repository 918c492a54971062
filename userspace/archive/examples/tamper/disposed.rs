//! Files that are not there: what records and lists account for is no alteration, and everything else is.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use archive::layout::{FileEntry, Manifest};
use archive::pruned::{self, Pruned};
use archive::retention::Gone;
use journal::row::{Row, Table};

use crate::cases::{Case, Copy, Expect};
use crate::tools;
use crate::world::ORIGIN;

pub(crate) fn add(cases: &mut Vec<Case>) {
    disposed(cases);
    elsewhere(cases);
}

/// `world.disposed`: its recordings went by a record.
fn disposed(cases: &mut Vec<Case>) {
    let of = |copy: Copy, names: &[&str]| {
        let archive = copy.archive();
        Expect::names(names).with(&[&"--archive", &archive]).holding(copy)
    };
    cases.push(Case::sound("files that were disposed of by a record", move |world, _| {
        of(
            Copy::of(&world.disposed),
            &["were disposed of, as records of kind archive.disposed say"],
        )
    }));
    cases.push(Case::attack(
        "a further file taken away beside those disposed of",
        move |world, _| {
            let copy = Copy::of(&world.disposed);
            let path = tools::file_of(&copy.archive(), Table::Events, 0);
            let name = tools::below(&path, &copy.archive());
            fs::remove_file(path).unwrap();
            of(copy, &["file is missing", &name])
        },
    ));
    cases.push(Case::attack(
        "a row changed beside files that were disposed of",
        move |world, _| {
            let copy = Copy::of(&world.disposed);
            let path = tools::file_of(&copy.archive(), Table::Events, 0);
            let name = tools::below(&path, &copy.archive());
            tools::edit(&path, |rows| {
                if let Some(Row::Event(row)) = rows.first_mut() {
                    row.decision = "allow?".into();
                }
            });
            of(copy, &["file changed", &name])
        },
    ));
    cases.push(Case::attack(
        "the record of a disposition changed to cover more",
        move |world, _| {
            let copy = Copy::of(&world.disposed);
            let events = entry(&copy.archive(), Table::Events);
            let is_it =
                |row: &Row| matches!(row, Row::Control(row) if row.kind == "archive.disposed");
            let files = tools::parquet(&copy.archive());
            let control = files.iter().filter(|path| tools::table(path) == Some(Table::Control));
            let path = control.clone().find(|path| tools::read(path).iter().any(is_it)).unwrap();
            tools::edit(path, |rows| {
                for row in rows.iter_mut() {
                    if let Row::Control(row) = row
                        && row.kind == "archive.disposed"
                    {
                        let mut said: archive::retention::Disposition =
                            serde_json::from_str(&row.detail).unwrap();
                        said.files.push(Gone::from(&events));
                        row.detail = serde_json::to_string(&said).unwrap();
                    }
                }
            });
            fs::remove_file(copy.archive().join(&events.path)).unwrap();
            let name = tools::below(path, &copy.archive());
            of(copy, &["changed", &name])
        },
    ));
}

/// What a copy's own list names.
fn elsewhere(cases: &mut Vec<Case>) {
    cases.push(Case::sound("files that are listed as only in a store", |_, copy| {
        let entry = entry(&copy.archive(), Table::Events);
        list(copy, &entry, &entry.sha256);
        fs::remove_file(copy.archive().join(&entry.path)).unwrap();
        Expect::names(&["their rows were NOT READ here"])
    }));
    cases.push(Case::attack("a file taken away and listed with another digest", |_, copy| {
        let entry = entry(&copy.archive(), Table::Events);
        list(copy, &entry, &"0".repeat(64));
        fs::remove_file(copy.archive().join(&entry.path)).unwrap();
        Expect::names(&["file is missing", &entry.path])
    }));
    cases.push(Case::attack(
        "a row changed in a file beside one that is listed as elsewhere",
        |_, copy| {
            let entry = entry(&copy.archive(), Table::Events);
            list(copy, &entry, &entry.sha256);
            fs::remove_file(copy.archive().join(&entry.path)).unwrap();
            let path = tools::file_of(&copy.archive(), Table::Recordings, 0);
            tools::edit(&path, |rows| {
                if let Some(Row::Recording(row)) = rows.first_mut() {
                    row.response_sample = Some("nothing".to_owned());
                }
            });
            Expect::names(&["file changed", &tools::below(&path, &copy.archive())])
        },
    ));
    cases.push(Case::attack(
        "a row removed beside a file that is listed as elsewhere",
        |_, copy| {
            let entry = entry(&copy.archive(), Table::Events);
            list(copy, &entry, &entry.sha256);
            fs::remove_file(copy.archive().join(&entry.path)).unwrap();
            let path = tools::file_of(&copy.archive(), Table::Recordings, 1);
            tools::edit(&path, |rows| drop(rows.pop()));
            Expect::names(&["file changed", &tools::below(&path, &copy.archive())])
        },
    ));
}

/// The first file of a table, as its manifest has it.
fn entry(archive: &Path, table: Table) -> FileEntry {
    let manifests =
        archive::files::walk(&archive.join(format!("std7y/v1/log/{ORIGIN}/manifest"))).unwrap();
    let read = |path: &std::path::PathBuf| -> Manifest {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    let mut all = manifests.iter().flat_map(|path| read(path).files);
    all.find(|entry| entry.table.as_deref() == Some(table.as_str())).unwrap()
}

fn list(copy: &Copy, entry: &FileEntry, sha256: &str) {
    let one = Pruned {
        path: entry.path.clone(),
        sha256: sha256.to_owned(),
        bytes: entry.bytes,
        remote: "s3://evidence/site-a".to_owned(),
        at_us: 0,
    };
    pruned::write(&copy.archive(), ORIGIN, &BTreeMap::from([(entry.path.clone(), one)])).unwrap();
}
