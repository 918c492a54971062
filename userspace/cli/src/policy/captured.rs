//! Policies on what a capture holds: what was asked is decided with all that the packets say, literals and transactions too.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use capture::conversation::Said;
use capture::exchange::Request;
use capture::reading::{self, Closed, ConnectionId, Ends, Sink, Told};
use policy::SessionPolicy;
use policy::exchange::Exchange;
use proto::sql::Analyzer;
use types::clock::Timestamp;
use types::command::Command;

use super::backtest::{Past, Test, judge_exchange};
use crate::import::whose::Whose;

/// Takes what a capture tells, and has it decided.
struct Captured<'t, 'p> {
    test: &'t mut Test<'p>,
    whose: Whose,
    /// Of this agent alone.
    agent: Option<&'t str>,
    open: HashMap<ConnectionId, Open>,
}

/// A session that is open.
struct Open {
    agent: String,
    target: Arc<str>,
    policy: Arc<SessionPolicy>,
}

/// Decides what is in a capture; who acts is by the map.
pub(super) fn run(
    test: &mut Test<'_>,
    capture: &Path,
    map: Option<&Path>,
    agent: Option<&str>,
) -> Result<()> {
    let whose = Whose::new(crate::import::read_map(map)?.0)?;
    let mut captured = Captured { test, whose, agent, open: HashMap::new() };
    reading::read(capture, &Arc::new(Analyzer::new()), &mut captured)?;
    Ok(())
}

impl Captured<'_, '_> {
    fn command(&mut self, ends: Ends, at: Timestamp, command: &Command) {
        let Some(Open { agent, target, policy }) = self.open.get(&ends.id) else { return };
        let judged = self.test.judge(policy, command, at.unix_us);
        let statement = &command.statement.normalized;
        self.test.weigh(&Past::ran(agent, target, statement), judged);
    }

    fn request(&mut self, ends: Ends, at: Timestamp, request: &Request<'_>) {
        let Some(Open { agent, target, policy }) = self.open.get(&ends.id) else { return };
        let Request { command, asked, host, content_type } = request;
        let Some(asked) = asked else {
            // Intercepted, it would be refused before policy is asked.
            return self.test.not_decided("request (unreadable)");
        };
        let exchange = Exchange {
            action: asked.action,
            method: Arc::clone(&asked.method),
            path: Arc::clone(&asked.path),
            template: Arc::clone(&asked.template),
            host: (*host).into(),
            has_query: asked.has_query,
            names: asked.names.clone(),
            content_type: (*content_type).into(),
            is_tls: false,
        };
        let judged = judge_exchange(policy, &exchange, at.unix_us);
        let statement = &command.statement.normalized;
        self.test.weigh(&Past::ran(agent, target, statement), judged);
    }
}

impl Sink for Captured<'_, '_> {
    type Error = anyhow::Error;

    fn take(&mut self, ends: Ends, at: Timestamp, told: Told<'_>) -> Result<()> {
        match told {
            Told::Said(Said::Opens(opening)) => {
                let principal = self.whose.principal(ends.client);
                let target = self.whose.target(ends, opening);
                let policy = self.test.session(&principal, &target);
                let (agent, target) = (principal.agent.to_string(), target.name);
                if self.agent.is_none_or(|only| only == agent) {
                    self.open.insert(ends.id, Open { agent, target, policy });
                }
            }
            Told::Said(Said::Command(command)) => self.command(ends, at, command),
            Told::Said(Said::Request(request)) => self.request(ends, at, &request),
            Told::Closed(Closed { unread, .. }) => {
                self.open.remove(&ends.id);
                if let Some(why) = unread {
                    self.test.not_decided(&format!("connection ({})", why.as_str()));
                }
            }
            Told::Said(Said::Outcome(_) | Said::Violation(_))
            | Told::Gap(_)
            | Told::Conflict { .. } => {}
        }
        Ok(())
    }

    fn progress(&mut self, _: u64) {}
}
