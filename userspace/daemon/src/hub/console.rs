//! The console of a hub: approvals alone, as sessions and evidence are the hosts'.

use std::sync::Arc;

use ::console::surroundings::{Evidence, Failed, Past, Sessions};
use ::console::{Parts, Surroundings};
use ::hub::desk::HubDesk;
use ::hub::store::Store;
use anyhow::Result;
use approval::desk::Later;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::info;
use types::clock::Clock;

use super::config::HubConfig;
use crate::keeper;
use crate::secret::Stores;

/// Starts it, where there is one; it ends with `stopped`.
pub(super) fn start(
    config: &HubConfig,
    stores: Stores<'_>,
    (store, clock): (&Arc<Store>, Arc<dyn Clock>),
    stopped: watch::Receiver<bool>,
) -> Result<()> {
    let Some(rule) = &config.console else { return Ok(()) };
    let people = keeper::people_of(&config.issuer, rule.issuer(), stores, Arc::clone(&clock))?;
    let parts = Parts {
        desk: Arc::new(HubDesk::new(Arc::clone(store))),
        people: Arc::new(people),
        surroundings: Arc::new(Alone),
        clock,
    };
    let (console, listener) = rule.open(config.name(), parts)?;
    tokio::spawn(console.serve(TcpListener::from_std(listener)?, stopped));
    Ok(())
}

/// Nothing but approvals. Hosts record votes; what else happens here is in the log.
struct Alone;

impl Surroundings for Alone {
    fn sessions(&self) -> Option<&dyn Sessions> {
        None
    }

    fn past(&self) -> Option<&dyn Past> {
        None
    }

    fn evidence(&self) -> Option<&dyn Evidence> {
        None
    }

    fn record<'a>(
        &'a self,
        kind: &'static str,
        detail: serde_json::Value,
    ) -> Later<'a, Result<(), Failed>> {
        info!(kind, %detail, "console");
        Box::pin(async { Ok(()) })
    }
}
