//! What is to be done on which kernel, a few machines at a time: each keeps about one processor busy.

use std::path::Path;
use std::sync::Mutex;
use std::thread;

use integration::escape::Level;

use super::kernels::Kernel;
use super::{Part, Shown, boot_order, escape};
use crate::term::{now, say_took};

/// One machine's work.
#[derive(Debug)]
pub(super) struct Job<'a> {
    /// Which kernel boots.
    pub(super) kernel: &'a Kernel,
    /// What is done.
    pub(super) part: Part,
}

/// What all machines showed.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Of the attempts.
    pub(super) shown: Shown,
    /// Of systemd's starts, a paragraph for each kernel.
    pub(super) starts: Vec<String>,
}

/// Does the jobs, `at_once` at a time, and answers what they showed, in their order.
pub(super) fn run(
    jobs: &[Job<'_>],
    programs: &Path,
    asked: &[(Level, String)],
    at_once: usize,
) -> Outcome {
    let waiting = Mutex::new(jobs.iter().enumerate());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once.clamp(1, jobs.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().expect("no job panics with it").next();
                    let Some((number, job)) = next else { break };
                    let outcome = job.run(programs, asked);
                    done.lock().expect("no job panics with it").push((number, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no job panics with it");
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().fold(Outcome::default(), |mut all, (_, outcome)| {
        let Outcome { shown, starts } = outcome;
        let Shown { rows, lines, failed } = shown;
        all.shown.rows.extend(rows);
        all.shown.lines.extend(lines);
        all.shown.failed.extend(failed);
        all.starts.extend(starts);
        all
    })
}

impl Job<'_> {
    fn run(&self, programs: &Path, asked: &[(Level, String)]) -> Outcome {
        let release = &self.kernel.release;
        let begun = now();
        let mut outcome = Outcome::default();
        let what = match self.part {
            Part::Escape => {
                outcome.shown = escape(self.kernel, programs, asked)
                    .unwrap_or_else(|error| Shown::none(&error));
                "attempts"
            }
            Part::BootOrder => {
                match boot_order::check(self.kernel, programs) {
                    Ok(seen) => outcome.starts.push(format!("{release}: {seen}")),
                    Err(error) => outcome.shown = Shown::none(&error.context("order of start")),
                }
                "order of start"
            }
        };
        for failed in &mut outcome.shown.failed {
            failed.insert_str(0, &format!("{release}: "));
        }
        say_took(format_args!("{release}: {what}"), begun);
        outcome
    }
}
