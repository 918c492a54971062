//! `vestibule archive blind`: who named a value, asked without the value being anywhere in the archive.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use archive::{query, questions};
use clap::Args as ClapArgs;
use mask::blind::{self, BlindKey};
use mask::classification::Classification;
use recording::blind_keys;
use types::control::{Request, Response};
use types::hex::hex;
use types::redact::DataClass;

use super::{Rows, SEAL_PATIENCE, Where};
use crate::Output;
use crate::control;

/// The most that is read as a value.
const VALUE_BYTES_MAX: usize = 1024;

/// Find the commands that named a value of a class (who asked for account 4711?) by its blind tokens: its hashes under
/// each key that there is. Needs the keys, so root on the host that recorded. Give the value on stdin, or at the prompt:
/// on the command line it ends up in the shell's history.
#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Where,
    /// The value's class, which has `tokens` in classification.toml.
    #[arg(long, value_name = "CLASS")]
    class: String,
    /// The policy directory, whose classification.toml says how the class's values are written.
    #[arg(long, value_name = "DIR", default_value = "/etc/vestibule/policies")]
    policies: PathBuf,
    /// Where the keys are; those of other hosts may lie in a directory of their own.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vestibule/keys/blind")]
    keys: PathBuf,
    /// The first day, UTC.
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// The last day.
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    /// How to print the rows.
    #[arg(long, value_enum, default_value = "table")]
    output: Rows,
    /// Print the tokens, to be asked for elsewhere (`vestibule archive ask blind-token token="…"`).
    #[arg(long)]
    print: bool,
    /// The value; read from stdin where absent.
    #[arg(value_name = "VALUE")]
    value: Option<String>,
}

/// Have the daemon make blind tokens with a new key from now on, and record that. Earlier keys stay: what was recorded
/// under them is found with them.
#[derive(Debug, ClapArgs)]
pub(crate) struct Rotate {
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let Args { place, class, policies, keys, from, to, output, print, value } = args;
    let tokens = tokens(class, policies, keys, value.as_deref())?;
    if *print {
        println!("{tokens}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut told = BTreeMap::from([("token".to_owned(), tokens)]);
    let days = [("from", from), ("to", to)].into_iter();
    told.extend(days.filter_map(|(name, day)| Some((name.to_owned(), day.clone()?))));
    let sql = questions::named("blind-token")?.sql(&told)?;
    let Where { archive, duckdb } = place;
    super::say_elsewhere(archive);
    let status = query::run(archive, duckdb.as_deref(), output.mode(), &sql)?;
    told.remove("token");
    let sql = questions::named("blind-cut")?.sql(&told)?;
    let cut = query::rows(archive, duckdb.as_deref(), &sql)?.len();
    if cut > 0 {
        eprintln!(
            "note: {cut} commands named more values than have tokens, so this one may be among them: \
             `vestibule archive ask blind-cut` lists them"
        );
    }
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(crate) fn rotate(control: &Path, args: &Rotate) -> Result<ExitCode> {
    let response = control::ask(control, &Request::RotateBlindKey, SEAL_PATIENCE)?;
    let Response::BlindKey { key } = &response else {
        bail!("the daemon's answer is not about keys of blind tokens");
    };
    match args.output {
        Output::Json => println!("{}", serde_json::to_string(&response)?),
        Output::Table => println!("blind tokens are made with key {key} from now on"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The value's tokens under each key, the newest first, with blanks between them.
fn tokens(class: &str, policies: &Path, keys: &Path, value: Option<&str>) -> Result<String> {
    let path = policies.join("classification.toml");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{}: --policies names its directory", path.display()))?;
    let classification =
        Classification::parse(&text).with_context(|| path.display().to_string())?;
    let class = classification
        .get(&DataClass(class.into()))
        .with_context(|| format!("{} has no class `{class}`", path.display()))?;
    ensure!(
        class.tokens.is_some(),
        "class `{}` has no `tokens` in {}: its values have no blind tokens",
        class.name.0,
        path.display()
    );
    let kept = blind_keys::read(keys)?;
    ensure!(
        !kept.is_empty(),
        "no key in {}: --keys names where they are (state_dir/keys/blind of the host that recorded)",
        keys.display()
    );
    let value = match value {
        Some(value) => value.to_owned(),
        None => ask(&class.name.0)?,
    };
    ensure!(value.len() <= VALUE_BYTES_MAX, "a value has at most {VALUE_BYTES_MAX} bytes");
    let found = kept
        .iter()
        .rev()
        .flat_map(|kept| blind::of_value(class, &BlindKey::new(&kept.id, &kept.key), &value));
    let found: Vec<String> = found.map(|token| hex(&token.0)).collect();
    ensure!(
        !found.is_empty(),
        "nothing is left of the value once it is written as the class has it"
    );
    Ok(found.join(" "))
}

fn ask(class: &str) -> Result<String> {
    if io::stdin().is_terminal() {
        eprint!("value of {class}: ");
        io::stderr().flush()?;
    }
    let mut line = String::new();
    io::stdin().read_line(&mut line).context("no value on stdin")?;
    let line = line.trim_end_matches(['\r', '\n']);
    ensure!(!line.is_empty(), "no value: give it on stdin");
    Ok(line.to_owned())
}
