//! A bank with a daemon before it: what most tests start from.

use anyhow::Result;

use crate::daemon::{ExtraPolicy, Supervisor};
use crate::{Agent, Daemon, Evidence, Postgres, bank, postgres};

/// An agent that the shipped policies let read, with sensitive columns masked.
pub const READER: &str = "support-assistant";

/// An agent that tests let write as well.
pub const WRITER: &str = "back-office";

/// Lets [`WRITER`] change case notes; everything else stays as shipped.
pub const WRITER_POLICY: ExtraPolicy<'static> = ("tests.cedar", include_str!("tests.cedar"));

/// A bank and a daemon.
#[derive(Debug)]
pub struct World {
    /// The daemon; dropped before its target.
    pub daemon: Daemon,
    /// The server.
    pub bank: Postgres,
}

impl World {
    /// Starts both, with the shipped policies and [`WRITER_POLICY`].
    ///
    /// # Errors
    /// If either does not start.
    pub fn start() -> Result<Self> {
        Self::start_with("")
    }

    /// The same, with more at the end of the daemon's configuration.
    ///
    /// # Errors
    /// If either does not start.
    pub fn start_with(configuration: &str) -> Result<Self> {
        Self::ruled_with(&[], configuration)
    }

    /// The same, with policy files more.
    ///
    /// # Errors
    /// If either does not start.
    pub fn ruled_with(policies: &[ExtraPolicy<'_>], configuration: &str) -> Result<Self> {
        let bank = Postgres::start()?;
        let policies: Vec<_> = [WRITER_POLICY].iter().chain(policies).copied().collect();
        let daemon =
            Daemon::start_with(Supervisor::None, bank.port(), 2, &policies, configuration)?;
        Ok(Self { daemon, bank })
    }

    /// Starts both, with a policy file more.
    ///
    /// # Errors
    /// If either does not start.
    pub fn start_ruled(policy: &str) -> Result<Self> {
        let bank = Postgres::start()?;
        let daemon = Daemon::start(bank.port(), 2, &[WRITER_POLICY, ("ruled.cedar", policy)])?;
        Ok(Self { daemon, bank })
    }

    /// Answers the agent that reads.
    pub fn reader(&self) -> Agent<'_> {
        Agent::new(&self.daemon, READER, bank::ROLE, self.bank.port())
    }

    /// Answers the agent that writes.
    pub fn writer(&self) -> Agent<'_> {
        Agent::new(&self.daemon, WRITER, bank::ROLE, self.bank.port())
    }

    /// Answers an agent that logs in as the server's superuser: what it may not do, policy alone forbids.
    pub fn superuser(&self) -> Agent<'_> {
        Agent::new(&self.daemon, READER, postgres::SUPERUSER, self.bank.port())
    }

    /// Has the reader read one customer.
    ///
    /// # Errors
    /// If it can't.
    pub fn read(&self) -> Result<()> {
        self.reader().psql("SELECT id FROM customers WHERE id = 101")?.ok().map(drop)
    }

    /// Has what happened so far archived.
    ///
    /// # Errors
    /// If the daemon does not.
    pub fn evidence(&self) -> Result<Evidence<'_>> {
        Evidence::seal(&self.daemon)
    }
}
