//! `vestibule import`: what is in captured packets, as an archive of its own.

mod ledger;
mod place;
pub(crate) mod whose;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use capture::map::Map;
use capture::reading;
use clap::Args as ClapArgs;
use proto::sql::Analyzer;
use serde::Serialize;
use sha2::{Digest, Sha256};
use types::hex::hex;

use crate::{Output, deep};
use ledger::{Ledger, Tally};
use place::Place;

/// Import a capture (pcapng or pcap): every PostgreSQL and HTTP/1.1 session in it, statement by statement and request by
/// request, as a sealed archive of its own that is marked as imported in every row. Nobody intercepted or decided what is in it, and it can't be taken for
/// what this host records. Values that are recognized are masked, secrets are left out, answers are counted and not kept.
///
/// What can't be read is recorded and counted: encrypted sessions, connections that began before the capture, and what
/// comes behind a gap. Exit status 0: everything was read; 1: something was not, or packets were missing or differed; 2: it
/// could not be imported.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// The archive: a folder that is not there yet, or one of imports. Each import is a log of its own in it.
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// Whose addresses are, and what targets are called (TOML: [[agent]] name, addresses, owner; [[target]] name,
    /// addresses; an address is 10.1.2.3, 10.1.0.0/16 or either with :PORT). Who is in no map is `unmapped`.
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// The folder of the keys that imports are signed with, each with its own; DIR.keys beside the archive where absent.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// How to print the summary.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// As `--output json`.
    #[arg(long)]
    json: bool,
    /// The capture.
    #[arg(value_name = "CAPTURE")]
    capture: PathBuf,
}

/// What an import came to.
#[derive(Debug, Serialize)]
struct Summary {
    /// The log.
    origin: String,
    /// The capture's SHA-256, hex.
    sha256: String,
    /// Rows under the checkpoint.
    rows: u64,
    /// The root, base64.
    root: String,
    /// The file of the public key.
    key: PathBuf,
    #[serde(flatten)]
    tally: Tally,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let (map, sha256) = read_map(args.map.as_deref())?;
    let summary = deep::run(|| import(args, map, sha256.as_deref()))?;
    if args.json || args.output == Output::Json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print!("{}", summary.words()?);
    }
    Ok(ExitCode::from(u8::from(!summary.tally.is_whole())))
}

/// The map in a file, and its SHA-256, hex; an empty one where there is none.
pub(crate) fn read_map(path: Option<&Path>) -> Result<(Map, Option<String>)> {
    let Some(path) = path else { return Ok((Map::default(), None)) };
    let what = || path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(what)?;
    Ok((Map::parse(&text).with_context(what)?, Some(hex(&Sha256::digest(&text)))))
}

fn import(args: &Args, map: Map, map_sha256: Option<&str>) -> Result<Summary> {
    let Args { into, map: _, keys, output: _, json: _, capture } = args;
    let place = Place::open(capture, into, keys.as_deref())?;
    let mut ledger = Ledger::new(&place, map)?;
    ledger.begin(capture, map_sha256)?;
    let counts = reading::read(capture, &Arc::new(Analyzer::new()), &mut ledger)?;
    let tally = ledger.end(&counts)?;
    let sealed = place.seal()?;
    Ok(Summary {
        origin: place.origin(),
        sha256: place.sha256().to_owned(),
        rows: sealed.tree_size,
        root: sealed.root,
        key: place.public_key(),
        tally,
    })
}

impl Summary {
    fn words(&self) -> Result<String> {
        let Self { origin, sha256: _, rows, root, key, tally } = self;
        let mut out = String::new();
        writeln!(out, "log {origin}: {rows} rows are sealed, root {root}")?;
        writeln!(out, "  signed with a key of its own: {}", key.display())?;
        out += &tally.words()?;
        Ok(out)
    }
}
