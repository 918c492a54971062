//! Delta logs beside the tables, false in every way: whoever reads by them would miss rows, or see others. They prove nothing,
//! so that a log which is merely behind is told of and no more.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use archive::compact::{self, Options, Unwatched};
use archive::delta::{self, LOG};
use journal::row::Table;

use crate::cases::{Case, Copy, Expect};
use crate::world::World;
use crate::{common, rewritten, tools};

/// After all days.
const NEVER: i64 = 30_000;

/// The log of `events` below the archive's folder.
const EVENTS: &str = "std7y/v1/table=events/_delta_log";

/// Commits of a log that was kept up at each seal and then when days were put together.
const COMMITS: usize = 4;

/// The node's archive with logs: as it is sealed, and as its days are put together after that.
struct Made {
    sealed: Copy,
    together: Copy,
}

static MADE: OnceLock<Made> = OnceLock::new();

fn made(world: &World) -> &'static Made {
    MADE.get_or_init(|| {
        // The node's three seals, and a commit after each.
        let sealed = Copy::of(&world.earlier);
        delta::keep(&sealed.archive(), true).unwrap();
        for later in [&world.middle, &world.node] {
            common::plant(&sealed.archive(), &common::tree(&later.join("archive")));
            delta::keep(&sealed.archive(), false).unwrap();
        }
        let together = Copy::of(sealed.dir());
        let options = Options::new(together.archive(), NEVER);
        let mut failed = |_: &compact::Due, error| panic!("{error}");
        compact::compact(&options, &mut Unwatched, &mut failed).unwrap();
        delta::keep(&together.archive(), false).unwrap();
        assert_eq!(archive::files::walk(&together.archive().join(EVENTS)).unwrap().len(), COMMITS);
        Made { sealed, together }
    })
}

/// Gives a copy the logs, before its days are put together or after.
fn with_logs(world: &World, copy: &Copy, are_together: bool) {
    let Made { sealed, together } = made(world);
    let from = if are_together { together } else { sealed };
    fs::remove_dir_all(copy.archive()).unwrap();
    common::plant(&copy.archive(), &common::tree(&from.archive()));
}

fn commit(copy: &Copy, version: usize) -> PathBuf {
    copy.archive().join(EVENTS).join(format!("{version:020}.json"))
}

/// The name of a commit as verification has it.
fn name(version: usize) -> String {
    format!("{EVENTS}/{version:020}.json")
}

/// The lines of a commit that name a file.
fn adds(copy: &Copy, version: usize) -> Vec<String> {
    let text = fs::read_to_string(commit(copy, version)).unwrap();
    text.lines().filter(|line| line.starts_with("{\"add\"")).map(str::to_owned).collect()
}

/// The file that such a line names, below the table's folder.
fn file_of(line: &str) -> String {
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    line["add"]["path"].as_str().unwrap().to_owned()
}

/// Something done to the log of a copy, and what must be said of it.
type Act = Box<dyn Fn(&World, &Copy) -> Vec<String> + Send + Sync>;

/// A copy with logs, before its days are put together or after, with which that is done.
fn done(are_together: bool, act: Act) -> impl Fn(&World, &Copy) -> Expect + Send + Sync {
    move |world, copy| {
        with_logs(world, copy, are_together);
        let names = act(world, copy);
        Expect::names(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn attack(
    title: impl Into<String>,
    are_together: bool,
    act: impl Fn(&World, &Copy) -> Vec<String> + Send + Sync + 'static,
) -> Case {
    Case::attack(title, done(are_together, Box::new(act)))
}

/// What alters nothing that is kept.
fn sound(
    title: impl Into<String>,
    are_together: bool,
    act: impl Fn(&World, &Copy) -> Vec<String> + Send + Sync + 'static,
) -> Case {
    Case::sound(title, done(are_together, Box::new(act)))
}

pub(crate) fn add(quick: bool, cases: &mut Vec<Case>) {
    nothing_false(cases);
    behind(cases);
    flipped(quick, cases);
    order(cases);
    files(cases);
    figures(cases);
}

fn nothing_false(cases: &mut Vec<Case>) {
    cases.push(sound("Delta logs beside the tables", false, |_, _| Vec::new()));
    cases.push(sound("Delta logs, and days put together", true, |_, _| Vec::new()));
    cases.push(sound("Delta logs made anew", true, |_, copy| {
        delta::rebuild(&copy.archive()).unwrap();
        Vec::new()
    }));
    cases.push(sound("Delta logs taken away", false, |_, copy| {
        delta::remove(&copy.archive()).unwrap();
        Vec::new()
    }));
    cases.push(Case::sound("Delta logs where recordings were disposed of", |world, _| {
        let copy = Copy::of(&world.disposed);
        delta::keep(&copy.archive(), true).unwrap();
        let archive = copy.archive();
        Expect::names(&[]).with(&[&"--archive", &archive]).holding(copy)
    }));
    cases.push(sound("a commit that was cut short", false, |_, copy| {
        fs::write(commit(copy, 3).with_extension("json.unfinished"), b"{").unwrap();
        vec!["of a commit that was cut short".to_owned()]
    }));
}

/// What a crash, or whoever rewrites a file, leaves behind as well.
fn behind(cases: &mut Vec<Case>) {
    cases.push(sound("the newest commit dropped", false, |_, copy| {
        fs::remove_file(commit(copy, 2)).unwrap();
        vec!["the Delta log of events is behind what lies there: it lacks".to_owned()]
    }));
    cases.push(sound("a log rolled back to its first commit", false, |_, copy| {
        (1..3).for_each(|version| fs::remove_file(commit(copy, version)).unwrap());
        vec!["the Delta log of events is behind what lies there: it lacks".to_owned()]
    }));
    cases.push(sound("a log rolled back to before days were put together", true, |_, copy| {
        fs::remove_file(commit(copy, 3)).unwrap();
        vec!["the Delta log of events is behind what lies there".to_owned()]
    }));
    cases.push(sound("Delta logs, and files rewritten by DuckDB", false, |_, copy| {
        rewritten::rewrite(copy, rewritten::DUCKDB, &["COMPRESSION zstd", "session_id, seq"]);
        vec!["is behind what lies there".to_owned()]
    }));
}

fn flipped(quick: bool, cases: &mut Vec<Case>) {
    let flips = if quick { 5 } else { 40 };
    for version in 0..COMMITS {
        for flip in 0..flips {
            let title =
                format!("place {flip} of {flips} flipped in the Delta log's commit {version}");
            cases.push(attack(title, version == COMMITS - 1, move |_, copy| {
                let path = commit(copy, version);
                let length = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
                tools::flip(&path, (length - 1) * flip / (flips - 1));
                vec![EVENTS.to_owned()]
            }));
        }
    }
}

fn order(cases: &mut Vec<Case>) {
    for version in 0..2 {
        let title = format!("the Delta log's commit {version} dropped");
        cases.push(attack(title, false, move |_, copy| {
            fs::remove_file(commit(copy, version)).unwrap();
            vec![name(version + 1), "its number".to_owned()]
        }));
    }
    for (a, b, are_together) in [(0, 1, false), (2, 3, true)] {
        let title = format!("commits {a} and {b} of the Delta log exchanged");
        cases.push(attack(title, are_together, move |_, copy| {
            let (first, second) = (commit(copy, a), commit(copy, b));
            let bytes = fs::read(&first).unwrap();
            fs::rename(&second, &first).unwrap();
            fs::write(second, bytes).unwrap();
            vec![name(a), "line".to_owned()]
        }));
    }
    cases.push(attack("the Delta log's first commit a second time", false, |_, copy| {
        fs::copy(commit(copy, 0), commit(copy, 3)).unwrap();
        vec![name(3), "line 1".to_owned()]
    }));
    cases.push(attack("a checkpoint put into the Delta log", false, |_, copy| {
        fs::write(copy.archive().join(EVENTS).join("_last_checkpoint"), "{}").unwrap();
        vec![format!("{EVENTS}/_last_checkpoint")]
    }));
    cases.push(attack("the Delta log of another table", false, |_, copy| {
        let other = copy.archive().join("std7y/v1/table=control").join(LOG);
        fs::copy(other.join(format!("{:020}.json", 0)), commit(copy, 0)).unwrap();
        vec![name(0)]
    }));
}

/// The other host's archive with logs.
fn of_the_other(world: &World) -> Copy {
    let other = Copy::of(&world.other);
    delta::keep(&other.archive(), true).unwrap();
    other
}

fn files(cases: &mut Vec<Case>) {
    cases.push(attack(
        "another host's first commit in place of this one's",
        false,
        |world, copy| {
            fs::copy(commit(&of_the_other(world), 0), commit(copy, 0)).unwrap();
            vec![EVENTS.to_owned(), "node=n2".to_owned(), "which no manifest lists".to_owned()]
        },
    ));
    cases.push(attack("another host's files in a further commit", false, |world, copy| {
        let theirs = adds(&of_the_other(world), 0);
        fs::write(commit(copy, 3), theirs.join("\n") + "\n").unwrap();
        vec![format!("names {}, which no manifest lists", file_of(&theirs[0]))]
    }));
    cases.push(attack("a commit that adds a file of its own", false, |_, copy| {
        let line = adds(copy, 0).remove(0);
        let file = file_of(&line);
        let (folder, _) = file.rsplit_once('/').unwrap();
        let mine = format!("{folder}/0-00000000000000009999-00000000000000009999.parquet");
        let table = copy.archive().join("std7y/v1/table=events");
        fs::copy(table.join(&file), table.join(&mine)).unwrap();
        fs::write(commit(copy, 3), line.replace(&file, &mine) + "\n").unwrap();
        vec![format!("names {mine}, which no manifest lists")]
    }));
    cases.push(attack("a commit that takes out a file which lies there", false, |_, copy| {
        let file = file_of(&adds(copy, 1)[0]);
        let line = format!(r#"{{"remove":{{"path":"{file}","dataChange":false}}}}"#);
        fs::write(commit(copy, 3), line + "\n").unwrap();
        vec![EVENTS.to_owned(), format!("says that {file} is gone, and it lies there")]
    }));
    cases.push(attack(
        "a file that both are gone: from the table and its log",
        false,
        |_, copy| {
            let file = tools::file_of(&copy.archive(), Table::Events, 0);
            let name = tools::below(&file, &copy.archive());
            fs::remove_file(file).unwrap();
            delta::keep(&copy.archive(), false).unwrap();
            vec![name, "file is missing".to_owned()]
        },
    ));
}

/// Figures by which readers pass over files.
fn figures(cases: &mut Vec<Case>) {
    let edits: [(&str, &str, &str, &str); 6] = [
        ("fewer rows", "numRecords\\\":", "0\\", "says"),
        ("another length", "\"size\":", "1", "bytes, and there are"),
        ("a later seal", "\"modificationTime\":", "9", "another time of sealing"),
        ("other times", "maxValues\\\":{\\\"ts\\\":\\\"", "1", "other times than there are"),
        ("another day", "\"dt\":\"", "1", "line 1"),
        ("another table's id", "", "", "its table's id"),
    ];
    for (what, after, put, said) in edits {
        let title = format!("{what} in the Delta log");
        cases.push(attack(title, false, move |_, copy| {
            if after.is_empty() {
                let path = commit(copy, 0);
                let text = fs::read_to_string(&path).unwrap();
                let at = text.find("\"id\":\"").unwrap() + 6;
                let digit = if text[at..].starts_with('0') { "1" } else { "0" };
                fs::write(path, [&text[..at], digit, &text[at + 1..]].concat()).unwrap();
            } else {
                figure(&commit(copy, 1), after, put);
            }
            vec![EVENTS.to_owned(), said.to_owned()]
        }));
    }
}

/// Puts `put` in place of the first digit behind `after`; where it ends with a backslash, of all digits there.
fn figure(path: &Path, after: &str, put: &str) {
    let text = fs::read_to_string(path).unwrap();
    let at = text.find(after).unwrap() + after.len();
    let digits = text[at..].bytes().take_while(u8::is_ascii_digit).count();
    let (put, over) = match put.strip_suffix('\\') {
        Some(put) => (put, digits),
        None => (put, 1),
    };
    let own = &text[at..=at];
    let put = if put == own { "2" } else { put };
    fs::write(path, [&text[..at], put, &text[at + over..]].concat()).unwrap();
}
