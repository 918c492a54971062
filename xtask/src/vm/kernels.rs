//! Debian's kernels: found in its package lists, fetched once, unpacked, never installed.
//!
//! apt does it with a root of its own, so that this host's package sources stay as they are; from the mirror, and
//! in the way (proxies, timeouts), that this host's apt is configured for.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::{cache, make};
use crate::command::{command, run_logged, stdout_of};
use crate::term::say;

/// Which of Debian's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Series {
    /// Debian 12's.
    #[value(name = "6.1")]
    Bookworm,
    /// Debian 13's.
    #[value(name = "6.12")]
    Trixie,
    /// The newest that a release, its backports or unstable offer.
    #[value(name = "newest")]
    Newest,
}

impl Series {
    fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "6.1",
            Self::Trixie => "6.12",
            Self::Newest => "newest",
        }
    }

    /// Whether a package's version is of it.
    fn has(self, version: &str) -> bool {
        let rest = version.strip_prefix(self.name());
        self == Self::Newest || rest.is_some_and(|rest| rest.starts_with('.'))
    }
}

/// A kernel, unpacked.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// As `uname -r` will say.
    pub(crate) release: String,
    /// The image to boot.
    pub(super) image: PathBuf,
    /// The folder that holds `RELEASE/modules.dep`.
    pub(super) modules: PathBuf,
}

/// Answers the kernel of a series, and fetches it if it is not there.
///
/// # Errors
/// If Debian's mirror does not answer, or has none.
pub(super) fn ensure(series: Series) -> Result<Kernel> {
    let folder = cache().join("kernels").join(series.name());
    if let Ok(kernel) = unpacked(&folder) {
        return Ok(kernel);
    }
    let apt = Apt::new()?;
    let packages = apt.packages(series)?;
    say(format_args!("fetching {}", packages.join(", ")));
    let fetched = cache().join("packages").join(series.name());
    fs::remove_dir_all(&fetched).ok();
    make(&fetched)?;
    let mut download = apt.command("apt-get");
    run_logged("vm-download", download.current_dir(&fetched).arg("download").args(&packages))?;
    fs::remove_dir_all(&folder).ok();
    make(&folder)?;
    for package in fs::read_dir(&fetched).context("what was fetched")? {
        let package = package.context("what was fetched")?.path();
        run_logged("vm-unpack", command("dpkg-deb").arg("-x").arg(package).arg(&folder))?;
    }
    fs::remove_dir_all(&fetched).ok();
    let release = release(&modules(&folder)?)?;
    let base =
        if folder.join("usr/lib/modules").is_dir() { folder.join("usr") } else { folder.clone() };
    run_logged("vm-depmod", command("depmod").arg("-b").arg(base).arg(release))?;
    unpacked(&folder)
}

fn unpacked(folder: &Path) -> Result<Kernel> {
    let modules = modules(folder)?;
    let release = release(&modules)?;
    ensure!(modules.join(&release).join("modules.dep").is_file(), "not complete");
    let beside = modules.join(&release).join("vmlinuz");
    let image = [folder.join("boot").join(format!("vmlinuz-{release}")), beside];
    let image = image.into_iter().find(|image| image.is_file()).context("no image")?;
    Ok(Kernel { release, image, modules })
}

/// Debian 12 keeps modules in `/lib`, later releases in `/usr/lib`.
fn modules(folder: &Path) -> Result<PathBuf> {
    let places = ["usr/lib/modules", "lib/modules"].map(|place| folder.join(place));
    places.into_iter().find(|place| place.is_dir()).context("no modules")
}

fn release(modules: &Path) -> Result<String> {
    let mut found = fs::read_dir(modules).context("modules")?;
    let first = found.next().context("no modules")?.context("modules")?;
    first.file_name().into_string().ok().context("a release is plain text")
}

/// apt with lists, state and cache of its own.
struct Apt {
    config: PathBuf,
}

/// Suites whose kernels are looked at.
const SUITES: &[&str] = &["bookworm", "trixie", "trixie-backports", "sid", "experimental"];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Answers the mirror that this host's apt has Debian from, or the one that `VESTIBULE_DEBIAN_MIRROR` names.
fn mirror() -> Result<String> {
    if let Ok(named) = std::env::var("VESTIBULE_DEBIAN_MIRROR") {
        return Ok(named);
    }
    let mut targets = command("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI) $(COMPONENT) $(LABEL)"]);
    let text = stdout_of(targets.arg("Created-By: Packages")).context("apt tells no sources")?;
    let found = debian_of(&text).map(str::to_owned);
    found.context("apt has no source of Debian's: name one in VESTIBULE_DEBIAN_MIRROR")
}

/// Of lines `URI COMPONENT LABEL`, the first URI of Debian's own archive: by its label, or, before any list was
/// fetched (then there is none), by its folder's name on every mirror.
fn debian_of(targets: &str) -> Option<&str> {
    let uris: Vec<(&str, &str)> = targets
        .lines()
        .filter_map(|line| line.split_once(" main "))
        .map(|(uri, label)| (uri.trim_end_matches('/'), label.trim()))
        .collect();
    let labelled = uris.iter().find(|(_, label)| *label == "Debian");
    labelled.or_else(|| uris.iter().find(|(uri, _)| uri.ends_with("/debian"))).map(|(uri, _)| *uri)
}

/// Answers how this host's apt fetches, as apt.conf(5) has it.
fn host_acquire() -> String {
    let told = stdout_of(command("apt-config").args(["dump", "Acquire"])).unwrap_or_default();
    let lines = told.lines().filter(|line| line.starts_with("Acquire::"));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

impl Apt {
    /// Sets it up and brings its lists up to date.
    fn new() -> Result<Self> {
        let root = cache().join("apt");
        for folder in ["lists/partial", "archives/partial", "preferences.d", "parts"] {
            make(&root.join(folder))?;
        }
        let mirror = mirror()?;
        let mut sources = String::new();
        for suite in SUITES {
            writeln!(sources, "deb [signed-by={KEYRING} arch=amd64] {mirror} {suite} main")
                .context("a string takes any text")?;
        }
        fs::write(root.join("sources.list"), sources).context("apt's sources")?;
        fs::write(root.join("status"), "").context("apt's state")?;
        let own = Self { config: root.join("apt.conf") };
        let root = root.display();
        // A mirror may lag; what it has is signed all the same.
        let text = host_acquire()
            + &format!(
                "Dir::Etc::main \"{root}/none\";\nDir::Etc::parts \"{root}/parts\";\n\
             Dir::Etc::sourcelist \"{root}/sources.list\";\nDir::Etc::sourceparts \"{root}/parts\";\n\
             Dir::Etc::preferencesparts \"{root}/preferences.d\";\nDir::State \"{root}\";\n\
             Dir::State::lists \"{root}/lists\";\nDir::State::status \"{root}/status\";\n\
             Dir::Cache \"{root}\";\nDir::Cache::archives \"{root}/archives\";\n\
             Acquire::Languages \"none\";\nAcquire::Check-Valid-Until \"false\";\nAPT::Architecture \"amd64\";\nAPT::Architectures \"amd64\";\n\
             APT::Sandbox::User \"root\";\n"
            );
        fs::write(&own.config, text).context("apt's configuration")?;
        run_logged("vm-update", own.command("apt-get").args(["update", "-q"]))?;
        Ok(own)
    }

    fn command(&self, program: &str) -> std::process::Command {
        let mut apt = command(program);
        apt.env("APT_CONFIG", &self.config);
        apt
    }

    /// Answers the packages that make up the newest kernel of a series: the image's own, and those it is
    /// split into since 7.3.
    fn packages(&self, series: Series) -> Result<Vec<String>> {
        let meta = self.show("linux-image-amd64")?;
        let of_series = meta.iter().filter(|entry| series.has(&entry.version));
        let newest = of_series.max_by_key(|entry| comparable(&entry.version));
        let newest = newest.with_context(|| format!("Debian offers no {}", series.name()))?;
        let is_image = |name: &&String| name.starts_with("linux-image-");
        let image =
            newest.depends.iter().find(is_image).context("a kernel's meta package")?.clone();
        let parts = self.show(&image)?.into_iter().next().context("a kernel's package")?.depends;
        let is_part =
            |n: &String| n.starts_with("linux-binary-") || n.starts_with("linux-modules-");
        let mut packages: Vec<String> = parts.into_iter().filter(is_part).collect();
        packages.push(image);
        Ok(packages)
    }

    fn show(&self, package: &str) -> Result<Vec<Entry>> {
        let text = stdout_of(self.command("apt-cache").args(["show", package]));
        let entries = entries(&text.with_context(|| format!("no package {package}"))?);
        if entries.is_empty() {
            bail!("no package {package}");
        }
        Ok(entries)
    }
}

/// A package as apt-cache shows it.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    version: String,
    depends: Vec<String>,
}

fn entries(text: &str) -> Vec<Entry> {
    let entry = |paragraph: &str| {
        let field =
            |name: &str| paragraph.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        let names = field("Depends:").unwrap_or_default().split(", ");
        let depends = names.filter_map(|d| d.split(' ').next()).map(str::to_owned).collect();
        Some(Entry { version: field("Version:")?.to_owned(), depends })
    };
    text.split("\n\n").filter_map(entry).collect()
}

/// The numbers of an upstream version, for comparison: `7.3.4-1~bpo13+1` is 7, 3, 4.
fn comparable(version: &str) -> Vec<u32> {
    let upstream = version.split(['-', '~', '+']).next().unwrap_or_default();
    upstream.split('.').filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_is_found_among_sources() {
        let labelled = "http://a/other/ main Other\nhttp://m/pub/debian/ main Debian\n";
        assert_eq!(debian_of(labelled), Some("http://m/pub/debian"));
        let fresh = "http://m/debian-security/ main $(LABEL)\nhttp://m/debian/ main $(LABEL)\n";
        assert_eq!(debian_of(fresh), Some("http://m/debian"));
        assert_eq!(debian_of("http://m/debian/ contrib Debian\n"), None);
    }

    #[test]
    fn packages_are_read_and_compared() {
        let text = "Package: a\nVersion: 6.12.107-1\nDepends: linux-image-6.12 (= 6.12), kmod | x\n\n\
                    Package: a\nVersion: 7.3.4-1~bpo13+1\n";
        let found = entries(text);
        assert_eq!(found[0].depends, ["linux-image-6.12", "kmod"]);
        assert_eq!((found.len(), found[1].version.as_str()), (2, "7.3.4-1~bpo13+1"));
        assert!(comparable("6.12.107-1") > comparable("6.12.95-1~bpo12+1"));
        assert!(comparable("7.3.4-1~bpo13+1") > comparable("7.2.13-1"));
        assert!(Series::Bookworm.has("6.1.176-1") && !Series::Bookworm.has("6.12.107-1"));
        assert!(Series::Newest.has("6.12.107-1"));
    }
}
