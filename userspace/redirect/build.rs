//! Builds the kernel programs with the nightly compiler and bpf-linker into `target/ebpf`
//! (aya-build would build `core` anew for each `OUT_DIR`), and copies the object to `OUT_DIR`.
//!
//! Debug builds have the programs log (feature `log`, `cfg(kernel_log)` here), in a directory of
//! their own, `target/ebpf-log`: neither copies the other's object.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ebpf");
    println!("cargo:rerun-if-changed={}", source.display());
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let log = env::var("PROFILE").is_ok_and(|profile| profile == "debug");
    println!("cargo::rustc-check-cfg=cfg(kernel_log)");
    if log {
        println!("cargo::rustc-cfg=kernel_log");
    }
    let directory = if log { "ebpf-log" } else { "ebpf" };
    // OUT_DIR is TARGET/PROFILE/build/redirect-HASH/out.
    let target = out.ancestors().nth(4).expect("OUT_DIR is four below target").join(directory);
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");
    let flags = [
        &format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2",
        "-Clinker=bpf-linker",
        "-Clink-arg=--btf",
        "-Cpanic=abort",
    ];
    for (package, object, features) in [
        ("redirect-ebpf", "redirect", log.then_some("--features=log")),
        ("guard-ebpf", "guard", None),
        ("tap-ebpf", "tap", None),
    ] {
        let status = Command::new("rustup")
            .args(["run", "nightly", "cargo", "build", "--release", "--package", package])
            .args(["--target=bpfel-unknown-none", "-Zbuild-std=core"])
            // A checked addition has no one to panic to in the kernel; bpf-linker does its own LTO.
            .args([
                "--config=profile.release.overflow-checks=false",
                "--config=profile.release.lto=false",
            ])
            .args(features)
            .arg("--manifest-path")
            .arg(source.join(package).join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env_remove("RUSTC")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "the kernel programs did not build; if nightly, rust-src or bpf-linker is missing: run `cargo xtask setup`"
        );
        let built = target.join("bpfel-unknown-none/release").join(object);
        fs::copy(built, out.join(object).with_extension("o"))
            .expect("a successful build leaves its object");
    }
}
