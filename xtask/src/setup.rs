//! `cargo xtask setup`: brings what building, testing and measuring need on Debian 12 or 13.
//!
//! Each step looks first and changes nothing that is there; a second run takes no time. It starts no
//! system service and leaves none running. It does not upgrade anything.

use std::thread;

use anyhow::{Result, anyhow, bail};

use crate::term::{heading, say};

mod apt;
mod host;
mod node;
mod python;
mod rust;

/// What the tools are for; a task brings no more than it needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Building and the demonstration.
    Demo,
    /// Tests as well.
    Test,
    /// The comparison with other proxies.
    Bench,
    /// Virtual machines.
    Vm,
    /// All of it.
    All,
}

/// How a step stands.
pub(crate) enum State {
    /// There; what was found.
    Present(String),
    /// Not there; what is missing.
    Missing(String),
}

/// One thing that is needed.
pub(crate) struct Step {
    name: &'static str,
    scopes: &'static [Scope],
    /// Compiled here, which takes minutes.
    is_built: bool,
    look: fn(Scope) -> State,
    install: fn(Scope) -> Result<()>,
    /// What to do where installing fails.
    otherwise: &'static str,
}

/// Brings what the scope needs and says what it does.
///
/// # Errors
/// If something can't be brought; every failure says what to do.
pub(crate) fn ensure(scope: Scope) -> Result<()> {
    let steps: Vec<Step> = steps().into_iter().filter(|s| s.is_for(scope)).collect();
    if scope != Scope::All && steps.iter().all(|s| matches!((s.look)(scope), State::Present(_))) {
        return Ok(());
    }
    heading("setup");
    // All else needs Debian's packages; then the processors build programs while the network brings packages.
    let Some((debian, others)) = steps.split_first() else { return Ok(()) };
    debian.ensure(scope)?;
    let (built, brought): (Vec<&Step>, Vec<&Step>) = others.iter().partition(|s| s.is_built);
    let ensure_all = |steps: &[&Step]| steps.iter().try_for_each(|step| step.ensure(scope));
    thread::scope(|threads| {
        let building = threads.spawn(|| ensure_all(&built));
        let brought = ensure_all(&brought);
        building.join().map_err(|_| anyhow!("the programs' build panicked"))?.and(brought)
    })
}

/// Says what is there and what is missing, and changes nothing.
///
/// # Errors
/// If something is missing.
pub(crate) fn report() -> Result<()> {
    let mut missing = 0_usize;
    for step in steps() {
        match (step.look)(Scope::All) {
            State::Present(what) => step.line("present", &what),
            State::Missing(what) => {
                missing += 1;
                step.line("MISSING", &what);
            }
        }
    }
    if missing > 0 {
        bail!("{missing} missing: run `cargo xtask setup` as root");
    }
    Ok(())
}

/// Fails with what to do, if this is not root.
pub(crate) fn require_root(what: &str) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("{what} needs root: run the task as root");
    }
    Ok(())
}

impl Step {
    fn is_for(&self, scope: Scope) -> bool {
        scope == Scope::All || self.scopes.contains(&scope)
    }

    fn ensure(&self, scope: Scope) -> Result<()> {
        match (self.look)(scope) {
            State::Present(what) => {
                self.line("present", &what);
                return Ok(());
            }
            State::Missing(what) => self.line("installing", &what),
        }
        if let Err(error) = (self.install)(scope) {
            bail!("{}: {error:#}\n  what to do: {}", self.name, self.otherwise);
        }
        match (self.look)(scope) {
            State::Present(what) => self.line("done", &what),
            State::Missing(what) => {
                bail!("{}: still missing: {what}\n  what to do: {}", self.name, self.otherwise)
            }
        }
        Ok(())
    }

    fn line(&self, word: &str, what: &str) {
        say(format_args!("  {word:<10} {:<16} {what}", self.name));
    }
}

fn steps() -> Vec<Step> {
    const EVERY: &[Scope] = &[Scope::Demo, Scope::Test, Scope::Bench, Scope::Vm];
    const TESTS: &[Scope] = &[Scope::Test];
    vec![
        Step {
            name: "Debian packages",
            scopes: EVERY,
            is_built: false,
            look: apt::look,
            install: apt::install,
            otherwise: "apt must reach a Debian 12 or 13 mirror; on another system install the named files' packages by hand",
        },
        Step {
            name: "rust-src",
            scopes: EVERY,
            is_built: false,
            look: rust::look_source,
            install: rust::install_source,
            otherwise: rust::SOURCE_OTHERWISE,
        },
        Step {
            name: "bpf-linker",
            scopes: EVERY,
            is_built: true,
            look: rust::look_bpf_linker,
            install: rust::install_bpf_linker,
            otherwise: "needs llvm-22-dev (see above) and crates.io; the command is in target/setup/bpf-linker.log's head",
        },
        Step {
            name: "bpffs, cgroup2",
            scopes: EVERY,
            is_built: false,
            look: host::look_mounts,
            install: host::mount,
            otherwise: "run on a kernel with BPF and cgroup 2, as root: mount -t bpf bpf /sys/fs/bpf",
        },
        Step {
            name: "Python clients",
            scopes: EVERY,
            is_built: false,
            look: python::look,
            install: python::install,
            otherwise: "python3 needs its venv module (Debian: python3-venv), and pip its index",
        },
        Step {
            name: "Node packages",
            // htmx, which the daemon has built in; the provider that people are known by; what drives a browser.
            scopes: EVERY,
            is_built: false,
            look: node::look,
            install: node::install,
            otherwise: "npm must reach its registry: npm install --prefix target/node pg oidc-provider playwright-core axe-core dt-sql-parser",
        },
        Step {
            name: "cargo-nextest",
            scopes: TESTS,
            is_built: true,
            look: rust::look_nextest,
            install: rust::install_nextest,
            otherwise: "cargo install --locked cargo-nextest",
        },
        Step {
            name: "cargo-fuzz",
            scopes: TESTS,
            is_built: true,
            look: rust::look_fuzz,
            install: rust::install_fuzz,
            otherwise: "cargo install --locked cargo-fuzz",
        },
    ]
}
