//! `[[forward]]`: rows to others as they are committed, each receiver by a thread of its own.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};
use forward::{Format, Job, Place, Standing, Told};
use journal::recorder::Recorder;
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::{info, warn};
use types::clock::Clock;
use types::control::ForwardStanding;

use crate::app::note;
use crate::archiver::be_nice;
use crate::config::Config;

/// A receiver of rows, as they are committed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForwardRule {
    /// Its name, in the status and for what is kept of how far it is.
    name: String,
    /// `file:///PATH`, `syslog+tcp://HOST:PORT`, `syslog+tls://HOST:PORT`, `otlp+http://HOST:PORT` or `otlp+https://HOST:PORT`.
    to: String,
    /// The form of rows; syslog's own over syslog, JSON else.
    format: Option<FormatName>,
    /// The authorities that may have signed the receiver's certificate, PEM; the system's where absent.
    ca: Option<PathBuf>,
    /// The size at which a file is set aside; 64 MiB where absent.
    #[serde(default = "rotate_bytes")]
    rotate_bytes: u64,
    /// How many of these are kept, as PATH.1 and so on; 16 where absent.
    #[serde(default = "keep")]
    keep: u32,
    /// Whether a receiver that is new gets what was recorded before, too.
    #[serde(default)]
    from_the_beginning: bool,
}

/// The forms of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum FormatName {
    /// The archive's columns, a JSON object a row.
    Json,
    /// OCSF 1.8: commands alone.
    Ocsf,
    /// ArcSight's Common Event Format.
    Cef,
    /// RFC 5424.
    Syslog,
}

fn rotate_bytes() -> u64 {
    64 * 1024 * 1024
}

fn keep() -> u32 {
    16
}

/// Each has a thread, a batch of 1 MiB or so, and over syslog what is on its way.
const RECEIVERS_MAX: usize = 8;

impl ForwardRule {
    fn place(&self) -> Result<Place> {
        Place::from_str(&self.to).with_context(|| format!("forward `{}`: to", self.name))
    }

    fn format(&self, place: &Place) -> Format {
        match self.format {
            Some(FormatName::Ocsf) => Format::Ocsf,
            Some(FormatName::Cef) => Format::Cef,
            Some(FormatName::Syslog) => Format::Syslog,
            None if matches!(place, Place::Syslog { .. }) => Format::Syslog,
            Some(FormatName::Json) | None => Format::Json,
        }
    }
}

/// Checks what the configuration says of receivers.
pub(crate) fn check(rules: &[ForwardRule]) -> Result<()> {
    ensure!(rules.len() <= RECEIVERS_MAX, "forward: at most {RECEIVERS_MAX}");
    for (number, rule) in rules.iter().enumerate() {
        let name = &rule.name;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_name = (1..=64).contains(&name.len()) && name.chars().all(plain);
        ensure!(
            is_name && !name.starts_with('.'),
            "forward `{name}`: name: letters, digits, - and _"
        );
        let is_new = rules.iter().take(number).all(|other| other.name != *name);
        ensure!(is_new, "forward `{name}`: a name that no other has");
        let place = rule.place()?;
        let is_message = rule.format(&place) == Format::Syslog;
        let fits = is_message || !matches!(place, Place::Syslog { .. });
        ensure!(fits, "forward `{name}`: format: over syslog it is syslog's own");
        ensure!(rule.rotate_bytes >= 4096, "forward `{name}`: rotate_bytes: at least 4096");
        ensure!(rule.keep <= 10_000, "forward `{name}`: keep: at most 10000");
    }
    Ok(())
}

/// One of them: its name, where it is, and how it is.
type Receiver = (String, String, Arc<Mutex<Standing>>);

/// The receivers.
pub(crate) struct Forwarding {
    all: Vec<Receiver>,
    recorder: Recorder,
}

impl Forwarding {
    /// Starts a thread for each.
    pub(crate) fn start(
        config: &Config,
        recorder: &Recorder,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        let mut all = Vec::new();
        for rule in &config.forward {
            let (place, standing) = (rule.place()?, Arc::<Mutex<Standing>>::default());
            let position = config.state_dir.join("forward").join(format!("{}.json", rule.name));
            let (durable, telling) = (recorder.clone(), recorder.clone());
            let (name, to) = (rule.name.clone(), place.to_string());
            all.push((name.clone(), to.clone(), Arc::clone(&standing)));
            let job = Job {
                format: rule.format(&place),
                place,
                ca: rule.ca.clone(),
                files: (rule.rotate_bytes, rule.keep),
                journal: config.journal_dir(),
                position,
                from_the_beginning: rule.from_the_beginning,
                durable: Box::new(move || {
                    // In this order: there are at least so many rows up to the frame.
                    let rows = durable.durable_rows();
                    (durable.durable(), rows)
                }),
                tell: Box::new(move |told| tell(&telling, (&name, &to), told)),
                clock: Arc::clone(clock),
                standing,
            };
            let name = rule.name.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            thread::Builder::new().name(format!("forward {name}")).spawn(move || {
                be_nice("forwarding");
                let told = Arc::clone(&job.standing);
                if let Err(error) = runtime.block_on(forward::run(job)) {
                    let why = format!("{:#}", anyhow::Error::from(error));
                    warn!(name, why, "nothing is forwarded");
                    told.lock().unwrap_or_else(PoisonError::into_inner).error = Some(why);
                }
            })?;
        }
        Ok(Self { all, recorder: recorder.clone() })
    }

    /// How far each is.
    pub(crate) fn standings(&self) -> Vec<ForwardStanding> {
        let rows = self.recorder.durable_rows();
        let one = |(name, to, standing): &Receiver| {
            let Standing { next_row, error } =
                standing.lock().unwrap_or_else(PoisonError::into_inner).clone();
            ForwardStanding {
                name: name.clone(),
                to: to.clone(),
                next_row,
                rows_behind: rows.saturating_sub(next_row),
                error,
            }
        };
        self.all.iter().map(one).collect()
    }
}

/// Records what became of a receiver.
fn tell(recorder: &Recorder, (name, to): (&str, &str), told: Told<'_>) {
    let (kind, detail) = match told {
        Told::Failing(why) => {
            warn!(name, to, why, "not forwarded; it is tried again");
            ("forward.failing", serde_json::json!({ "name": name, "to": to, "why": why }))
        }
        Told::Resumed => {
            info!(name, to, "forwarded again");
            ("forward.resumed", serde_json::json!({ "name": name, "to": to }))
        }
        Told::Rejected(rows, why) => {
            warn!(name, to, rows, why, "rows refused by the receiver");
            let detail = serde_json::json!({ "name": name, "to": to, "rows": rows, "why": why });
            ("forward.rejected", detail)
        }
    };
    note(recorder, kind, &detail);
}
