//! The corpus: `src/test/regress` of Debian's source package of the server that is installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FlockOperation, flock};

use crate::paths;
use crate::process::run;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The corpus, unpacked.
#[derive(Debug)]
pub struct Corpus {
    folder: PathBuf,
    version: String,
}

impl Corpus {
    /// Answers the folder that holds `sql`, `data` and the schedule.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Answers the source package's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Answers the names of its files in the order in which they build on each other.
    ///
    /// # Errors
    /// If the schedule can't be read.
    pub fn schedule(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(self.folder.join("parallel_schedule")).context("schedule")?;
        let files = text.lines().filter_map(|line| line.strip_prefix("test:"));
        let names = files.flat_map(str::split_ascii_whitespace).map(str::to_owned);
        // What needs a C function or another server of the build tree says so by failing.
        Ok(names
            .filter(|name| self.folder.join("sql").join(format!("{name}.sql")).is_file())
            .collect())
    }
}

/// Answers the corpus; the first time it comes from the mirrors that this host's apt is configured for, signed.
///
/// # Errors
/// If it was not fetched before and the mirror can't be reached (offline), or does not have the version.
pub fn fetch() -> Result<Corpus> {
    let programs = paths::postgres_programs()?;
    let major = programs.parent().and_then(Path::file_name).context("programs lie in a folder")?;
    let package = format!("postgresql-{}", major.to_string_lossy());
    let mut query = Command::new("dpkg-query");
    let query = run(query.args(["-W", "-f", "${source:Version}", &package]), 30)?;
    let version = query.ok().context("the server is not Debian's")?;
    let fixtures = paths::root().join("target/fixtures");
    fs::create_dir_all(&fixtures).context("target/fixtures can't be made")?;
    let lock = File::create(fixtures.join("corpus-lock")).context("a lock can't be made")?;
    flock(&lock, FlockOperation::LockExclusive).context("a lock can't be taken")?;
    let folder = fixtures.join(format!("regress-{}", version.replace(['/', ' '], "_")));
    if !folder.join("parallel_schedule").is_file() {
        let part = tempfile::tempdir_in(&fixtures).context("no temporary folder")?;
        let unpacked = download(part.path(), &package, &version).with_context(|| {
            format!("{package} {version} has no corpus here yet, and fetching it failed")
        })?;
        fs::remove_dir_all(&folder).ok();
        fs::rename(unpacked, &folder).context("the corpus can't be put in its place")?;
    }
    Ok(Corpus { folder, version })
}

/// apt with lists and state of its own: this host's package sources stay as they are.
fn download(root: &Path, package: &str, version: &str) -> Result<PathBuf> {
    for folder in ["lists/partial", "archives/partial", "parts"] {
        fs::create_dir_all(root.join(folder)).context("apt's folders")?;
    }
    fs::write(root.join("status"), "").context("apt's state")?;
    let format =
        format!("deb-src [signed-by={KEYRING}] $(REPO_URI) $(RELEASE) $(COMPONENT) $(LABEL)");
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", &format, "Created-By: Packages"]);
    let targets = run(&mut targets, 30)?.ok().context("apt tells no sources")?;
    let lines = targets.lines().filter_map(|line| {
        let plain = line.strip_suffix(" Debian-Security");
        plain.or_else(|| line.strip_suffix(" Debian"))
    });
    let sources: Vec<&str> = lines.collect();
    ensure!(!sources.is_empty(), "apt has no source of Debian's");
    fs::write(root.join("sources.list"), sources.join("\n") + "\n").context("apt's sources")?;
    run(apt(root).args(["update", "-q"]), 300)?.ok().context("apt-get update")?;
    let wanted = format!("{package}={version}");
    let mut source = apt(root);
    source.args(["source", "--download-only", "-q", &wanted]).current_dir(root);
    run(&mut source, 600)?.ok().context("apt-get source")?;
    let archives = fs::read_dir(root).context("what was fetched")?;
    let archives = archives.filter_map(|entry| Some(entry.ok()?.path()));
    let is_original = |path: &PathBuf| path.to_string_lossy().contains(".orig.tar");
    let original = archives.into_iter().find(is_original).context("no original source")?;
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(original).args(["--strip-components=1", "--wildcards", "-C"]).arg(root);
    unpack.arg("*/src/test/regress");
    run(&mut unpack, 300)?.ok().context("tar")?;
    Ok(root.join("src/test/regress"))
}

fn apt(root: &Path) -> Command {
    let mut apt = Command::new("apt-get");
    let root = root.display();
    for option in [
        format!("Dir::Etc::sourcelist={root}/sources.list"),
        format!("Dir::Etc::sourceparts={root}/parts"),
        format!("Dir::State={root}"),
        format!("Dir::State::lists={root}/lists"),
        format!("Dir::State::status={root}/status"),
        format!("Dir::Cache={root}"),
        format!("Dir::Cache::archives={root}/archives"),
        "Acquire::Languages=none".to_owned(),
        // A mirror may lag; what it has is signed all the same.
        "Acquire::Check-Valid-Until=false".to_owned(),
        "APT::Sandbox::User=root".to_owned(),
    ] {
        apt.args(["-o", &option]);
    }
    apt
}
