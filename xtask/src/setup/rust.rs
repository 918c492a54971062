//! The Rust side: the nightly toolchain's sources for BPF, and cargo's programs.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::{Scope, State};
use crate::command::{cargo, command, run_logged, stdout_of, which};

/// The linker's version: the one whose LLVM (22) is the nightly compiler's and Debian's.
const BPF_LINKER: &str = "0.13.0";

const LLVM: &str = "/usr/lib/llvm-22";

/// What to do without rustup's server.
pub(super) const SOURCE_OTHERWISE: &str = "rustup must reach its server: rustup toolchain install nightly \
--profile minimal --component rust-src. Without rustup's server, Debian's package rust-web-src has the library's \
sources under /usr/src/rustc-*/library; they fit only a nightly of that very version, linked as \
lib/rustlib/src/rust/library in `rustc +nightly --print sysroot`";

/// Answers whether the nightly toolchain and its library sources are there.
pub(super) fn look_source(_: Scope) -> State {
    let Some(sysroot) = nightly_sysroot() else {
        return State::Missing("the nightly toolchain".into());
    };
    if sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").exists() {
        State::Present("nightly, with the library's sources".into())
    } else {
        State::Missing("the nightly library's sources".into())
    }
}

/// Brings the nightly toolchain and its library's sources by rustup.
pub(super) fn install_source(_: Scope) -> Result<()> {
    if which("rustup").is_none() {
        bail!("there is no rustup; see https://rustup.rs (Debian: apt-get install rustup)");
    }
    if nightly_sysroot().is_none() {
        let mut rustup = command("rustup");
        rustup.args(["toolchain", "install", "nightly", "--profile", "minimal"]);
        return run_logged("rust-nightly", rustup.args(["--component", "rust-src"]));
    }
    run_logged(
        "rust-src",
        command("rustup").args(["component", "add", "rust-src", "--toolchain", "nightly"]),
    )
}

/// Answers whether the exact linker is there.
pub(super) fn look_bpf_linker(_: Scope) -> State {
    look_program("bpf-linker", &["--version"], Some(BPF_LINKER))
}

/// Builds the linker against Debian's LLVM.
pub(super) fn install_bpf_linker(_: Scope) -> Result<()> {
    let mut path = std::ffi::OsString::from(format!("{LLVM}/bin:"));
    let mut install = cargo(None);
    let inherited =
        install.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value);
    path.push(inherited.unwrap_or_default());
    install.env("PATH", path);
    install.env("RUSTFLAGS", format!("-L native={LLVM}/lib")).env("LLVM_SYS_221_PREFIX", LLVM);
    // What takes time in it is LLVM, which Debian has optimized.
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    install.args(["install", "bpf-linker", "--version", BPF_LINKER, "--force"]);
    run_install("bpf-linker", install.args(["--no-default-features", "--features", "llvm-22"]))
}

/// Answers whether the test runner is there.
pub(super) fn look_nextest(_: Scope) -> State {
    look_program("cargo-nextest", &["nextest", "--version"], None)
}

/// Builds the test runner.
pub(super) fn install_nextest(_: Scope) -> Result<()> {
    run_install("cargo-nextest", cargo(None).args(["install", "--locked", "cargo-nextest"]))
}

/// Answers whether the fuzzer is there.
pub(super) fn look_fuzz(_: Scope) -> State {
    look_program("cargo-fuzz", &["fuzz", "--version"], None)
}

/// Builds the fuzzer.
pub(super) fn install_fuzz(_: Scope) -> Result<()> {
    // It starts other programs and computes nothing.
    run_install("cargo-fuzz", cargo(None).args(["install", "--locked", "--debug", "cargo-fuzz"]))
}

/// Installs in a target directory of its own: the flags differ from the workspace's.
fn run_install(name: &str, install: &mut std::process::Command) -> Result<()> {
    run_logged(name, install.env("CARGO_TARGET_DIR", Path::new("target/setup").join(name)))
}

fn look_program(name: &str, arguments: &[&str], version: Option<&str>) -> State {
    let Some(path) = which(name) else {
        return State::Missing(version.map_or_else(|| name.to_owned(), |v| format!("{name} {v}")));
    };
    let said = stdout_of(command(&path.to_string_lossy()).args(arguments)).unwrap_or_default();
    let first = said.lines().next().unwrap_or_default().to_owned();
    match version {
        Some(wanted) if !first.split_whitespace().any(|word| word == wanted) => {
            State::Missing(format!("{name} {wanted} (there is: {first})"))
        }
        _ => State::Present(first),
    }
}

/// Asks rustc without letting rustup install anything by itself.
fn nightly_sysroot() -> Option<PathBuf> {
    let mut rustc = command("rustc");
    rustc.env("RUSTUP_AUTO_INSTALL", "0").args(["+nightly", "--print", "sysroot"]);
    stdout_of(&mut rustc).map(PathBuf::from)
}
