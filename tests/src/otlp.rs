//! A receiver of OpenTelemetry logs, which reads them by opentelemetry's own definition; it can be killed, and refuse.

use std::fs;

use anyhow::Result;
use serde_json::Value;

use crate::script::Script;

/// A receiver; dead or alive.
#[derive(Debug)]
pub struct Otlp(Script);

impl Otlp {
    /// Starts one.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn start() -> Result<Self> {
        let mut own = Self(Script::new("otlp", include_str!("otlp.py"))?);
        own.restart()?;
        Ok(own)
    }

    /// Starts it (again); what it took stays noted.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn restart(&mut self) -> Result<()> {
        let (port, notes) = (self.0.port().to_string(), self.0.notes());
        self.0.restart(&[&port, &notes.to_string_lossy()])
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// Has it refuse, or take again.
    ///
    /// # Errors
    /// If that can't be said.
    pub fn refuse(&self, refuses: bool) -> Result<()> {
        let path = self.0.notes().with_extension("jsonl.refuse");
        if refuses { Ok(fs::write(path, "")?) } else { Ok(fs::remove_file(path)?) }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// The records that it took.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn took(&self) -> Result<Vec<Value>> {
        self.0.took()
    }
}
