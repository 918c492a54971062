//! Files flipped, cut short, taken away, exchanged, brought from elsewhere: of every kind there is.

use std::fs;
use std::path::{Path, PathBuf};

use journal::row::Table;

use crate::cases::{Case, Copy, Expect};
use crate::tools;
use crate::world::World;

pub(crate) fn add(world: &World, quick: bool, cases: &mut Vec<Case>) {
    let archive = world.node.join("archive");
    let flips = if quick { 3 } else { 24 };
    let mut kinds = std::collections::BTreeSet::new();
    for path in archive::files::walk(&archive).unwrap() {
        let name = tools::below(&path, &archive);
        // In a quick run one file of each kind.
        if quick && !kinds.insert(kind(&name)) {
            continue;
        }
        // Cosignatures count where a policy asks for them: see `anchors`.
        if name.contains("/cosigned/") {
            continue;
        }
        let length = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
        for flip in 0..flips {
            // Spread over the file, its first and last byte among them.
            let at = (length - 1) * flip / (flips - 1);
            cases.push(of_file(format!("byte {at} flipped in {name}"), &name, move |path, _| {
                tools::flip(path, at);
            }));
        }
        cases.push(of_file(format!("deleted {name}"), &name, |path, _| {
            fs::remove_file(path).unwrap();
        }));
        for (part, what) in [(2, "half"), (1000, "nothing")] {
            let title = format!("cut to {what}: {name}");
            cases.push(of_file(title, &name, move |path, length| {
                fs::File::options().write(true).open(path).unwrap().set_len(length / part).unwrap();
            }));
        }
    }
    journal(world, quick, flips, cases);
    whole(cases);
    splices(cases);
}

/// What a file is, without the numbers and days in its name.
fn kind(name: &str) -> String {
    let is_number = |part: &&str| {
        !part.contains(|c: char| c.is_ascii_digit() && !part.contains("7y") && !part.contains("n1"))
    };
    name.split('/').filter(is_number).collect::<Vec<_>>().join("/")
}

/// Something done to one file, which must be named.
fn of_file(title: String, name: &str, change: impl Fn(&Path, u64) + Send + Sync + 'static) -> Case {
    let name = name.to_owned();
    Case::attack(title, move |_, copy| {
        let path = copy.archive().join(&name);
        change(&path, fs::metadata(&path).unwrap().len());
        // Without its checkpoint or keys a log is named by itself; a step's checkpoint by its size.
        let size = name.rsplit('/').next().unwrap().trim_start_matches('0').to_owned();
        let other = match name.rsplit('/').nth(1) {
            Some("checkpoints") => format!("checkpoint of size {size} is missing"),
            Some("manifest") => "is missing".to_owned(),
            _ if name.ends_with("key.vkey") => "signed with|newest checkpoint".to_owned(),
            _ if name.ends_with("/checkpoint") => "newest checkpoint".to_owned(),
            _ => name.clone(),
        };
        Expect::names(&[&format!("{name}|{other}")])
    })
}

fn journal(world: &World, quick: bool, flips: usize, cases: &mut Vec<Case>) {
    let folder = world.node.join("journal");
    let segments = journal::segment::list(&folder).unwrap();
    // In a quick run the first, one in the middle, the last.
    let step = if quick { (segments.len() - 1) / 2 } else { 1 };
    for segment in segments.iter().step_by(step.max(1)) {
        let path = &segment.path;
        let name = tools::below(path, &folder);
        let written = written(path);
        for flip in 0..flips {
            let at = (written - 1) * flip / (flips - 1);
            let (title, name) =
                (format!("byte {at} flipped in the journal's {name}"), name.clone());
            cases.push(Case::attack(title, move |_, copy| {
                tools::flip(&copy.journal().join(&name), at);
                Expect::names(&[&name]).with(&[&"--journal", &copy.journal()])
            }));
        }
        let (title, name) = (format!("deleted the journal's {name}"), name.clone());
        cases.push(Case::attack(title, move |_, copy| {
            fs::remove_file(copy.journal().join(&name)).unwrap();
            Expect::names(&["journal"]).with(&[&"--journal", &copy.journal()])
        }));
    }
    cases.push(Case::attack("two segments of the journal exchanged", |_, copy| {
        let paths = archive::files::walk(&copy.journal()).unwrap();
        exchange(&paths[0], &paths[1]);
        Expect::names(&["journal"]).with(&[&"--journal", &copy.journal()])
    }));
    cases.push(Case::attack("the journal of another host", |world, _| {
        Expect::names(&["the journal's log is not in this archive"])
            .with(&[&"--journal", &world.other.join("journal")])
    }));
    cases.push(Case::attack("the journal made anew with one command changed", |world, _| {
        Expect::names(&["record in the journal is not the sealed one", "n1/0/"])
            .with(&[&"--journal", &world.forged.join("journal")])
    }));
    cases.push(Case::attack("the journal rolled back", |world, _| {
        Expect::names(&["missing from its end"])
            .with(&[&"--journal", &world.middle.join("journal")])
    }));
}

/// Bytes of a preallocated segment that are written.
fn written(path: &Path) -> usize {
    let bytes = fs::read(path).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1
}

/// Folders and logs taken away whole.
fn whole(cases: &mut Vec<Case>) {
    for table in Table::ALL {
        let title = format!("all of {} deleted", table.as_str());
        cases.push(Case::attack(title, move |_, copy| {
            let files = tools::parquet(&copy.archive());
            let own = files.iter().filter(|path| tools::table(path) == Some(table));
            own.for_each(|path| fs::remove_file(path).unwrap());
            Expect::names(&["file is missing", &format!("table={}", table.as_str())])
        }));
    }
    for folder in ["tile", "manifest", "checkpoints"] {
        cases.push(Case::attack(format!("the log's {folder} deleted"), move |_, copy| {
            fs::remove_dir_all(copy.log().join(folder)).unwrap();
            let gap = match folder {
                "tile" => "tile is missing",
                "manifest" => "manifest",
                _ => "the checkpoint of size",
            };
            Expect::names(&[gap])
        }));
    }
    cases.push(Case::attack("the whole log deleted, its files left", |_, copy| {
        fs::remove_dir_all(copy.archive().join("std7y/v1/log")).unwrap();
        Expect::names(&["no log is in this archive"])
    }));
    cases.push(Case::attack("everything deleted", |_, copy| {
        fs::remove_dir_all(copy.archive()).unwrap();
        fs::create_dir(copy.archive()).unwrap();
        Expect::names(&["no log is in this archive"])
    }));
    cases.push(Case::attack("a file of recordings put in", |_, copy| {
        let file = tools::file_of(&copy.archive(), Table::Recordings, 0);
        let added = file.with_file_name("0-00000000000000000900-00000000000000000900.parquet");
        fs::copy(file, &added).unwrap();
        Expect::names(&[&tools::below(&added, &copy.archive())])
    }));
}

/// Files in places where they do not belong.
fn splices(cases: &mut Vec<Case>) {
    for table in Table::ALL {
        let title = format!("a file of {} of another host in place of this one's", table.as_str());
        cases.push(Case::attack(title, move |world, copy| {
            let own = tools::file_of(&copy.archive(), table, 0);
            fs::copy(tools::file_of(&world.other.join("archive"), table, 0), &own).unwrap();
            Expect::names(&[&tools::below(&own, &copy.archive()), "n1/0/|not all rows|stand twice"])
        }));
    }
    cases.push(Case::attack(
        "records of another host put in place of this one's",
        |world, copy| {
            let own = tools::file_of(&copy.archive(), Table::Events, 100);
            let other = tools::file_of(&world.other.join("archive"), Table::Events, 100);
            let mut seq = 0;
            tools::edit(&own, |rows| {
                let theirs = tools::read(&other);
                seq = rows[70].seq().0;
                rows[70] = theirs.into_iter().find(|row| row.seq().0 == seq).unwrap();
            });
            Expect::names(&[&format!("n1/0/{seq}")]).with(&[&"--journal", &copy.journal()])
        },
    ));
    cases.push(Case::attack("another host's checkpoint", |world, copy| {
        let other = world.other.join("archive/std7y/v1/log/vestibule/node/n2/0/checkpoint");
        fs::copy(other, copy.log().join("checkpoint")).unwrap();
        Expect::names(&["checkpoint"])
    }));
    cases.push(Case::attack("another host's whole log under this one's name", |world, copy| {
        let other = world.other.join("archive/std7y/v1/log/vestibule/node/n2/0");
        fs::remove_dir_all(copy.log()).unwrap();
        for path in archive::files::walk(&other).unwrap() {
            let to = copy.log().join(path.strip_prefix(&other).unwrap());
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(path, to).unwrap();
        }
        Expect::names(&["checkpoint is missing, or none of this log's"])
    }));
    cases.push(Case::attack("a file of another day in place of one", |_, copy| {
        let files: Vec<PathBuf> = tools::parquet(&copy.archive());
        let events = files.iter().filter(|path| tools::table(path) == Some(Table::Events));
        let events: Vec<&PathBuf> = events.collect();
        fs::copy(events[events.len() - 1], events[0]).unwrap();
        Expect::names(&[&tools::below(events[0], &copy.archive())])
    }));
    cases.push(Case::attack("two files exchanged", |_, copy| {
        let (a, b) = two(copy);
        exchange(&a, &b);
        Expect::names(&[&tools::below(&a, &copy.archive()), &tools::below(&b, &copy.archive())])
    }));
    cases.push(Case::attack("two files exchanged, manifests made to fit", |_, copy| {
        let (a, b) = two(copy);
        exchange(&a, &b);
        tools::refit_manifests(&copy.archive(), &copy.log());
        Expect::names(&["manifest is not the one that was sealed"])
    }));
    cases.push(Case::attack("two tiles' halves exchanged", |_, copy| {
        let tile = archive::files::walk(&copy.log().join("tile/1")).unwrap().remove(0);
        let mut bytes = fs::read(&tile).unwrap();
        bytes.rotate_left(32);
        fs::write(&tile, bytes).unwrap();
        Expect::names(&[&tools::below(&tile, &copy.archive())])
    }));
    cases.push(Case::attack("two checkpoints exchanged", |_, copy| {
        let paths = archive::files::walk(&copy.log().join("checkpoints")).unwrap();
        exchange(&paths[0], &paths[1]);
        Expect::names(&[&tools::below(&paths[0], &copy.archive())])
    }));
}

fn two(copy: &Copy) -> (PathBuf, PathBuf) {
    let files = tools::parquet(&copy.archive());
    let mut events = files.into_iter().filter(|path| tools::table(path) == Some(Table::Events));
    (events.next().unwrap(), events.next().unwrap())
}

fn exchange(a: &Path, b: &Path) {
    let (first, second) = (fs::read(a).unwrap(), fs::read(b).unwrap());
    fs::write(a, second).unwrap();
    fs::write(b, first).unwrap();
}
