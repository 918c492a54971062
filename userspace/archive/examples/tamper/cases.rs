//! What a case is, and how it is judged.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::World;

/// Something done to an archive.
pub(crate) struct Case {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is none: verification must pass.
    pub(crate) sound: bool,
    act: Act,
}

/// Does it to a copy, and says what must be said of it.
type Act = Box<dyn Fn(&World, &Copy) -> Expect + Send + Sync>;

/// What verification must say.
#[derive(Default)]
pub(crate) struct Expect {
    args: Vec<OsString>,
    names: Vec<String>,
    /// What must lie there until it is verified.
    held: Option<Copy>,
}

impl Expect {
    /// The files, records or gaps that must be named: one of those between `|`.
    pub(crate) fn names(names: &[&str]) -> Self {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Self { args: Vec::new(), names, held: None }
    }

    /// With another copy than the case's.
    pub(crate) fn holding(self, copy: Copy) -> Self {
        Self { held: Some(copy), ..self }
    }

    /// With further arguments.
    pub(crate) fn with(mut self, args: &[&dyn AsRef<std::ffi::OsStr>]) -> Self {
        self.args.extend(args.iter().map(|arg| arg.as_ref().to_owned()));
        self
    }
}

/// How a case went.
pub(crate) struct Outcome {
    /// What verification said, in short.
    pub(crate) said: String,
    /// What is wrong with that.
    pub(crate) wrong: Option<String>,
}

/// A copy of a node's folders.
pub(crate) struct Copy {
    dir: tempfile::TempDir,
}

impl Copy {
    /// Of what lies below `from`.
    pub(crate) fn of(from: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for path in archive::files::walk(from).unwrap() {
            let to = dir.path().join(path.strip_prefix(from).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(&path, to).unwrap();
        }
        Self { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn archive(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    /// The folder of the node's log.
    pub(crate) fn log(&self) -> PathBuf {
        self.archive().join("std7y/v1/log/vestibule/node/n1/0")
    }
}

impl Case {
    /// An alteration.
    pub(crate) fn attack(
        name: impl Into<String>,
        act: impl Fn(&World, &Copy) -> Expect + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), sound: false, act: Box::new(act) }
    }

    /// What is none.
    pub(crate) fn sound(
        name: impl Into<String>,
        act: impl Fn(&World, &Copy) -> Expect + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), sound: true, act: Box::new(act) }
    }

    pub(crate) fn run(&self, world: &World) -> Outcome {
        let copy = Copy::of(&world.node);
        let Expect { args, names, held } = (self.act)(world, &copy);
        let place = args.iter().any(|arg| arg == "--archive");
        let mut verify = Command::new(&world.verifier);
        verify.args(args);
        if !place {
            verify.arg("--archive").arg(copy.archive());
        }
        let output = verify.output().unwrap();
        drop(held);
        let told = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let code = output.status.code();
        let said = told.lines().find(|line| line.starts_with("  ")).unwrap_or("").trim().to_owned();
        let said = format!("{code:?} {}", said.chars().take(90).collect::<String>());
        let right = match (self.sound, code) {
            (true, code) => code == Some(0),
            (false, Some(10..=14)) => true,
            (false, _) => false,
        };
        let lacking: Vec<&String> =
            names.iter().filter(|name| !name.split('|').any(|name| told.contains(name))).collect();
        let wrong = match (right, lacking.is_empty()) {
            (true, true) => None,
            (true, false) => Some(format!("{lacking:?} is not named in\n{told}")),
            (false, _) => Some(format!("exit status {code:?}\n{told}")),
        };
        Outcome { said, wrong }
    }
}
