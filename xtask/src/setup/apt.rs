//! What comes from Debian: found by the files that matter, so that other sources of them do as well.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::{Scope, State, require_root};
use crate::command::{command, run_logged, which};

/// A package and how to see that what it brings is there.
struct Package {
    name: &'static str,
    probe: Probe,
    scopes: &'static [Scope],
}

enum Probe {
    /// Any of these; `*` stands for one path component's rest.
    Files(&'static [&'static str]),
    Program(&'static str),
}

/// Answers which packages are missing.
pub(super) fn look(scope: Scope) -> State {
    let missing = missing(scope);
    if missing.is_empty() {
        return State::Present(format!("{} looked for, all there", wanted(scope).count()));
    }
    State::Missing(missing.join(" "))
}

/// Installs the missing packages; no service is started and no database cluster is made.
pub(super) fn install(scope: Scope) -> Result<()> {
    require_root("installing packages")?;
    if which("apt-get").is_none() {
        bail!("this is not Debian: there is no apt-get");
    }
    let missing = missing(scope);
    no_cluster_by_itself()?;
    let _quiet = QuietServices::new()?;
    run_logged("apt-update", command("apt-get").args(["update", "-q"]))?;
    // The server comes first: its version is in another's name.
    let (of_server, missing): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|name| *name == PGAUDIT);
    fetch(&missing)?;
    if !of_server.is_empty() {
        fetch(&[&pgaudit()?])?;
    }
    for service in ["pgbouncer", "haproxy"].iter().filter(|s| missing.contains(s)) {
        // Only what was brought here, and only where systemd runs; without it there is nothing to disable.
        if Path::new("/run/systemd/system").exists() {
            run_logged("systemctl", command("systemctl").args(["disable", "--now", service]))?;
        }
    }
    Ok(())
}

fn fetch(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let mut apt = command("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt.args(["install", "-y", "-q", "--no-install-recommends"]).args(packages);
    run_logged("apt-install", &mut apt)
}

/// The package of pgaudit for the newest server that is installed.
fn pgaudit() -> Result<String> {
    let programs = integration::paths::postgres_programs()?;
    let version = programs.parent().and_then(Path::file_name).context("the server's version")?;
    Ok(format!("postgresql-{}-pgaudit", version.to_string_lossy()))
}

const BUILD: &[Scope] = &[Scope::Demo, Scope::Test, Scope::Bench, Scope::Vm];
const TEST: &[Scope] = &[Scope::Test];
const SHOWN: &[Scope] = &[Scope::Demo, Scope::Test];
const BENCH: &[Scope] = &[Scope::Bench];
const POOL: &[Scope] = &[Scope::Test, Scope::Bench];
const VM: &[Scope] = &[Scope::Vm];

/// pgaudit's package has the server's version in its name.
const PGAUDIT: &str = "postgresql-*-pgaudit";

const PACKAGES: &[Package] = &[
    package("gcc", Probe::Program("cc"), BUILD),
    package("g++", Probe::Program("c++"), BUILD),
    package("libc6-dev", Probe::Files(&["/usr/include/stdio.h"]), BUILD),
    package("make", Probe::Program("make"), BUILD),
    package("pkg-config", Probe::Program("pkg-config"), BUILD),
    // The linker of BPF programs is built against LLVM 22, which Debian 12 and 13 both carry.
    package("llvm-22-dev", Probe::Files(&["/usr/lib/llvm-22/include/llvm-c/Core.h"]), BUILD),
    package("libpolly-22-dev", Probe::Files(&["/usr/lib/llvm-22/lib/libPolly.a"]), BUILD),
    package("libzstd-dev", Probe::Files(&["/usr/include/zstd.h"]), BUILD),
    // The SQL parser's bindings: libclang, and clang's own headers, which come with it.
    package("libclang-dev", Probe::Files(LIBCLANG), BUILD),
    package("postgresql", Probe::Files(&["/usr/lib/postgresql/*/bin/initdb"]), BUILD),
    package("postgresql-client", Probe::Program("psql"), BUILD),
    package("postgresql-contrib", Probe::Files(&["/usr/lib/postgresql/*/bin/pgbench"]), BUILD),
    package(PGAUDIT, Probe::Files(&["/usr/lib/postgresql/*/lib/pgaudit.so"]), TEST),
    package("python3", Probe::Files(&["/usr/bin/python3"]), BUILD),
    package("python3-venv", Probe::Files(VENV), BUILD),
    package("util-linux", Probe::Program("setpriv"), BUILD),
    package("iproute2", Probe::Program("ip"), TEST),
    // Small disks that fill up and break.
    package("e2fsprogs", Probe::Program("mkfs.ext4"), TEST),
    // Records of long ago.
    package("libfaketime", Probe::Files(&["/usr/lib/*/faketime/libfaketime.so.1"]), TEST),
    package("dnsmasq-base", Probe::Program("dnsmasq"), TEST),
    package("bind9-dnsutils", Probe::Program("dig"), TEST),
    package("systemd", Probe::Program("systemd-analyze"), TEST),
    package("openssl", Probe::Program("openssl"), TEST),
    package("softhsm2", Probe::Program("softhsm2-util"), TEST),
    package("opensc", Probe::Program("pkcs11-tool"), TEST),
    // A TPM in software, and its PKCS#11 module.
    package("swtpm", Probe::Program("swtpm"), TEST),
    package("libtpm2-pkcs11-1", Probe::Files(&["/usr/lib/*/libtpm2_pkcs11.so.1"]), TEST),
    package("rsyslog", Probe::Program("rsyslogd"), TEST),
    package("rsyslog-openssl", Probe::Files(&["/usr/lib/*/rsyslog/lmnsd_ossl.so"]), TEST),
    package("curl", Probe::Program("curl"), TEST),
    package("nftables", Probe::Program("nft"), TEST),
    // What captures, and what others read captures with.
    package("tcpdump", Probe::Program("tcpdump"), TEST),
    package("tshark", Probe::Program("tshark"), TEST),
    // Containers as agents; runc, because crun refuses hosts with both versions of cgroups.
    package("podman", Probe::Program("podman"), TEST),
    package("runc", Probe::Program("runc"), TEST),
    // The daemon has htmx built in, which npm brings.
    package("nodejs", Probe::Program("node"), BUILD),
    package("npm", Probe::Program("npm"), BUILD),
    // The console's pages are opened in it, and its fonts are what screenshots are drawn with.
    package("chromium", Probe::Files(&["/usr/bin/chromium"]), SHOWN),
    package("pngquant", Probe::Program("pngquant"), TEST),
    package("fonts-dejavu-core", Probe::Files(&["/usr/share/fonts/truetype/dejavu"]), SHOWN),
    // Attempts to get past the door rewrite addresses and load modules.
    package("nftables", Probe::Program("nft"), &[Scope::Test, Scope::Vm]),
    package("kmod", Probe::Program("depmod"), &[Scope::Test, Scope::Vm]),
    package("qemu-system-x86", Probe::Program("qemu-system-x86_64"), VM),
    package("busybox-static", Probe::Program("busybox"), VM),
    package("cpio", Probe::Program("cpio"), VM),
    package("xz-utils", Probe::Program("xz"), VM),
    package("zstd", Probe::Program("zstd"), VM),
    package("systemd", Probe::Files(&["/lib/systemd/systemd"]), VM),
    package("pgbouncer", Probe::Program("pgbouncer"), POOL),
    package("haproxy", Probe::Program("haproxy"), BENCH),
    // What the journal's disk can do at most.
    package("fio", Probe::Program("fio"), BENCH),
];

const LIBCLANG: &[&str] = &[
    "/usr/lib/llvm-*/lib/libclang.so",
    "/usr/lib/llvm-*/lib/libclang-*.so",
    "/usr/lib/libclang.so",
];

const VENV: &[&str] =
    &["/usr/lib/python3.*/ensurepip/__init__.py", "/usr/share/python-wheels/pip-*"];

const fn package(name: &'static str, probe: Probe, scopes: &'static [Scope]) -> Package {
    Package { name, probe, scopes }
}

fn wanted(scope: Scope) -> impl Iterator<Item = &'static Package> {
    PACKAGES.iter().filter(move |p| scope == Scope::All || p.scopes.contains(&scope))
}

fn missing(scope: Scope) -> Vec<&'static str> {
    let there = |p: &&Package| match p.probe {
        Probe::Program(program) => which(program).is_some(),
        Probe::Files(patterns) => patterns.iter().any(|pattern| exists(pattern)),
    };
    wanted(scope).filter(|p| !there(p)).map(|p| p.name).collect()
}

/// Whether a path exists; `*` in a component matches any run of characters, once per component.
fn exists(pattern: &str) -> bool {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|p| !p.is_empty()) {
        found = match part.split_once('*') {
            None => found.into_iter().map(|d| d.join(part)).filter(|p| p.exists()).collect(),
            Some((head, tail)) => {
                let entries = found.iter().filter_map(|d| fs::read_dir(d).ok()).flatten().flatten();
                entries
                    .filter(|entry| {
                        let name = entry.file_name().to_string_lossy().into_owned();
                        name.strip_prefix(head).is_some_and(|rest| rest.ends_with(tail))
                    })
                    .map(|entry| entry.path())
                    .collect()
            }
        };
    }
    !found.is_empty()
}

/// Tells Debian's PostgreSQL package to make no cluster of its own, unless someone chose already.
fn no_cluster_by_itself() -> Result<()> {
    let path = Path::new("/etc/postgresql-common/createcluster.conf");
    if path.exists() || exists("/usr/lib/postgresql/*/bin/initdb") {
        return Ok(());
    }
    fs::create_dir_all("/etc/postgresql-common").context("/etc/postgresql-common can't be made")?;
    fs::write(path, "create_main_cluster = false\n").context("createcluster.conf can't be written")
}

/// While it lives, packages start no service (Debian policy §9.3.3.1: policy-rc.d answers 101).
struct QuietServices {
    path: Option<&'static Path>,
}

impl QuietServices {
    fn new() -> Result<Self> {
        let path = Path::new("/usr/sbin/policy-rc.d");
        if path.exists() {
            return Ok(Self { path: None });
        }
        fs::write(path, "#!/bin/sh\nexit 101\n").context("policy-rc.d can't be written")?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .context("policy-rc.d can't be made executable")?;
        Ok(Self { path: Some(path) })
    }
}

impl Drop for QuietServices {
    fn drop(&mut self) {
        if let Some(path) = self.path {
            fs::remove_file(path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::exists;

    #[test]
    fn patterns_match_within_a_component() {
        assert!(exists("/proc/self/stat*s"));
        assert!(exists("/proc/se*/status"));
        assert!(!exists("/proc/self/nothing-*"));
        assert!(!exists("/nowhere/*/bin"));
    }
}
