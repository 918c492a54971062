//! Runs and time of each program while a client is at work.

use anyhow::{Context, Result};
use redirect::cost::Counting;
use serde::Serialize;

use crate::bed::{Bed, Who};
use crate::client::Load;

/// What one program cost during one load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CostRow {
    pub(crate) load: Load,
    pub(crate) who: Who,
    /// Times that the client did it.
    pub(crate) count: u64,
    pub(crate) program: String,
    /// Whether it runs for every process of the host.
    pub(crate) is_global: bool,
    pub(crate) runs: u64,
    pub(crate) ns: u64,
}

impl CostRow {
    /// Answers nanoseconds of one run.
    pub(crate) fn ns_per_run(&self) -> f64 {
        ratio(self.ns, self.runs)
    }

    /// Answers runs for each time the client did it.
    pub(crate) fn runs_per_one(&self) -> f64 {
        ratio(self.runs, self.count)
    }

    /// Answers nanoseconds for each time the client did it.
    pub(crate) fn ns_per_one(&self) -> f64 {
        ratio(self.ns, self.count)
    }
}

/// Answers a row for each program that ran, and for outsiders also for each that did not.
pub(crate) fn of(bed: &mut Bed, load: Load, count: u32) -> Result<Vec<CostRow>> {
    let mut rows = Vec::new();
    for who in [Who::Outsider, Who::Agent] {
        // DNS datagrams and refusals have no meaning outside.
        if who == Who::Outsider && matches!(load, Load::Datagram | Load::Refused) {
            continue;
        }
        let counting = Counting::start().context("run time can't be counted")?;
        let before = bed.costs()?;
        let done = bed.run(who, load, count)?.done;
        let after = bed.costs()?;
        drop(counting);
        for (now, then) in after.into_iter().zip(before) {
            let runs = now.runs - then.runs;
            let ns = u64::try_from(now.time.saturating_sub(then.time).as_nanos())
                .context("within centuries")?;
            let is_global = !now.is_by_cgroup;
            if runs > 0 || who == Who::Outsider {
                let program = now.name;
                rows.push(CostRow { load, who, count: done, program, is_global, runs, ns });
            }
        }
    }
    Ok(rows)
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { as_f64(part) / as_f64(whole) }
}

#[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds below 2^53")]
fn as_f64(number: u64) -> f64 {
    number as f64
}
