//! Copies htmx, which is not in the source tree, to where it is embedded from: `cargo xtask setup` brings it to
//! `target/node`; `VESTIBULE_HTMX` names another place, for whoever packages.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/node/node_modules/htmx.org/dist/htmx.min.js");
    println!("cargo:rerun-if-env-changed=VESTIBULE_HTMX");
    let source = env::var_os("VESTIBULE_HTMX").map_or(installed, PathBuf::from);
    println!("cargo:rerun-if-changed={}", source.display());
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    if let Err(error) = fs::copy(&source, out.join("htmx.min.js")) {
        println!(
            "cargo::error={}: {error}. `cargo xtask setup` installs htmx; VESTIBULE_HTMX names it elsewhere",
            source.display()
        );
    }
}
