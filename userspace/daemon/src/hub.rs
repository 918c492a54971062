//! `vestibuled --hub`: the approval desk of several hosts. No kernel side, no root, no journal.

mod config;
mod console;

use std::sync::Arc;
use std::time::Duration;

use ::hub::server::{Hosts, Hub, serve};
use ::hub::store::{FileStore, PostgresStore, Store};
use anyhow::{Context, Result};
use journal::clock::SystemClock;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};
use types::clock::Clock;

use crate::environment;
use crate::secret::Stores;

pub(crate) use config::HubConfig;
use config::Kept;

/// How often what is late ends and what is old is forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// How long after its end a request is believed to wait whose host says nothing: it may be on its way to another hub.
const LATE_US: i64 = 60 * 1_000_000;

/// Runs the hub until SIGTERM or SIGINT.
pub(crate) fn run(config: &HubConfig) -> Result<()> {
    crate::app::leave_no_core()?;
    let environment = environment::take(&config.variables())?;
    let vault = config.open_vault()?;
    let stores = Stores { environment: Some(&environment), vault: vault.as_ref() };
    let tls = config.hosts.tls()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Arc::new(open(config, stores).await?);
        let listen = config.hosts.listen;
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("hosts: {listen}"))?;
        let (name, hosts) = (config.name(), Hosts::new(&config.hosts.names));
        let hub = Arc::new(Hub { name: name.clone(), store: Arc::clone(&store), hosts });
        tokio::spawn(serve(listener, tls, hub));
        tokio::spawn(sweep(Arc::clone(&store), config.retention_us()));
        let (stop, stopped) = watch::channel(false);
        console::start(config, stores, (&store, Arc::new(SystemClock)), stopped)?;
        info!(name, %listen, store = config.store.kind(), "ready");
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
            warn!(%error, "the service supervisor could not be told");
        }
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("stopping; hosts go to another hub or wait for this one");
        stop.send_replace(true);
        Ok(())
    })
}

async fn open(config: &HubConfig, stores: Stores<'_>) -> Result<Store> {
    match config.store.kept(stores)? {
        Kept::File(path) => {
            let opened = FileStore::open(&path);
            Ok(Store::File(opened.with_context(|| format!("store: {}", path.display()))?))
        }
        Kept::Postgres(rules) => {
            Ok(Store::Postgres(PostgresStore::open(&rules).await.context("store")?))
        }
    }
}

/// Keeps the store bounded.
async fn sweep(store: Arc<Store>, retention_us: i64) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        interval.tick().await;
        let now_us = SystemClock.now().unix_us;
        match store.sweep(now_us - LATE_US, now_us - retention_us).await {
            Ok((0, 0)) => {}
            Ok((ended, forgotten)) => info!(ended, forgotten, "swept"),
            Err(error) => warn!(%error, "not swept"),
        }
    }
}
