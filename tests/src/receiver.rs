//! A receiver of webhooks: a process that checks signatures by the recipe of `docs/operator.md`, does not answer half
//! of what it should, and can be killed and started again.

use anyhow::Result;
use serde_json::{Value, json};

use crate::process::feed;
use crate::script::Script;

/// What messages are signed with.
pub const SECRET: &str = "whsec_c3ludGhldGljIG9ubHk6IHRoaXJ0eS10d28gYnl0ZXMh";

/// A receiver; dead or alive.
#[derive(Debug)]
pub struct Receiver(Script);

impl Receiver {
    /// Starts one.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn start() -> Result<Self> {
        let mut own = Self(Script::new("receiver", include_str!("receiver.py"))?);
        own.restart()?;
        Ok(own)
    }

    /// Starts it (again); what it took stays noted.
    ///
    /// # Errors
    /// If it does not listen.
    pub fn restart(&mut self) -> Result<()> {
        let (port, notes) = (self.0.port().to_string(), self.0.notes());
        self.0.restart(&["serve", &port, SECRET, &notes.to_string_lossy()])
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// Answers where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/approvals", self.0.port())
    }

    /// Answers what it took: `headers`, `body`, and whether it said so.
    ///
    /// # Errors
    /// If its notes can't be read.
    pub fn taken(&self) -> Result<Vec<Value>> {
        self.0.took()
    }

    /// Answers of each of these, `(headers, body, seconds later)`, whether a receiver takes it for the daemon's.
    ///
    /// # Errors
    /// If the program fails.
    pub fn judge(&self, asked: &[(&Value, &str, i64)]) -> Result<Vec<bool>> {
        let line = |(headers, body, later): &(&Value, &str, i64)| {
            json!({"headers": headers, "body": body, "later": later}).to_string() + "\n"
        };
        let asked: String = asked.iter().map(line).collect();
        let told = feed(self.0.command().args(["judge", SECRET]), asked.as_bytes(), 30)?.ok()?;
        Ok(told.lines().map(|line| line == "True").collect())
    }
}
