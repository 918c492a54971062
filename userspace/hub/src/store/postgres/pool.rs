//! A few connections, made when they are needed; each takes many statements at once.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, Row};
use tracing::{debug, warn};

use super::tls::Connector;
use super::{Password, PostgresRules};
use crate::store::{Bell, StoreError, Word};

/// Connections of one hub, and one that listens: as many commits under way at once as disks like.
const CONNECTIONS: usize = 4;

/// How long a connection may take to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// How long a statement may take; the slowest lists a few hundred requests.
const PATIENCE: Duration = Duration::from_secs(8);

/// How long it is waited before the listening connection is made again.
const LISTEN_AGAIN: Duration = Duration::from_millis(500);

/// How often hubs look whether something changed, should a word of it be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A parameter and its type.
pub(super) type Parameter<'p> = (&'p (dyn ToSql + Sync), Type);

/// The connections.
pub(super) struct Pool {
    way: Arc<Way>,
    slots: Vec<Mutex<Option<Arc<Client>>>>,
    next: AtomicUsize,
    bell: Arc<Bell>,
    listening: OnceLock<AbortHandle>,
}

struct Way {
    config: Config,
    password: Option<Password>,
    tls: Connector,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// Connects nowhere yet.
    pub(super) fn new(rules: &PostgresRules) -> Result<Self, StoreError> {
        let PostgresRules { url, password, ca } = rules;
        let wrong = |what: &str| StoreError::Postgres(what.to_owned());
        let mut config: Config =
            url.parse().map_err(|error: tokio_postgres::Error| wrong(&told(&error)))?;
        if config.get_password().is_some() {
            return Err(wrong("the address holds a password; say where it is instead"));
        }
        let is_here = config.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        });
        if config.get_hosts().is_empty() {
            return Err(wrong("the address names no host"));
        }
        match ca {
            Some(_) => drop(config.ssl_mode(SslMode::Require)),
            None if is_here => drop(config.ssl_mode(SslMode::Disable)),
            None => return Err(wrong("a database on another host needs `ca`: TLS, verified")),
        }
        config.connect_timeout(CONNECT_PATIENCE).application_name("vestibule-hub");
        config.keepalives_idle(Duration::from_secs(30));
        config.options("-c search_path=vestibule_hub -c idle_in_transaction_session_timeout=30s");
        let tls = Connector::new(ca.as_deref()).map_err(|error| wrong(&error.to_string()))?;
        Ok(Self {
            way: Arc::new(Way { config, password: password.clone(), tls }),
            slots: (0..CONNECTIONS).map(|_| Mutex::new(None)).collect(),
            next: AtomicUsize::new(0),
            bell: Arc::default(),
            listening: OnceLock::new(),
        })
    }

    /// Runs one statement in a transaction of its own.
    pub(super) async fn query(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let client = self.client().await?;
        let rows = tokio::time::timeout(PATIENCE, client.query_typed(sql, parameters)).await;
        let rows = rows.map_err(|_| StoreError::Postgres("no answer in time".into()))?;
        rows.map_err(|error| StoreError::Postgres(told(&error)))
    }

    /// Runs several statements in one transaction.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), StoreError> {
        let client = self.client().await?;
        let done = tokio::time::timeout(PATIENCE * 4, client.batch_execute(sql)).await;
        let done = done.map_err(|_| StoreError::Postgres("no answer in time".into()))?;
        done.map_err(|error| StoreError::Postgres(told(&error)))
    }

    /// Who tells those who wait.
    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Follows what other hubs say until the pool is gone; to be called once.
    pub(super) fn listen(&self) {
        let (way, bell) = (Arc::clone(&self.way), Arc::clone(&self.bell));
        let following = tokio::spawn(async move {
            loop {
                if let Err(error) = way.follow(&bell).await {
                    warn!(%error, "other hubs are not heard");
                }
                tokio::time::sleep(LISTEN_AGAIN).await;
            }
        });
        self.listening.set(following.abort_handle()).ok();
    }

    async fn client(&self) -> Result<Arc<Client>, StoreError> {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS;
        let Some(slot) = self.slots.get(at) else { return Err(StoreError::Closed) };
        let mut slot = slot.lock().await;
        if let Some(client) = slot.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Arc::clone(client));
        }
        let (client, connection) = self.way.connect().await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(error = told(&error), "a connection to the hub's database ended");
            }
        });
        Ok(Arc::clone(slot.insert(Arc::new(client))))
    }
}

type Connection =
    tokio_postgres::Connection<tokio_postgres::Socket, super::tls::Stream<tokio_postgres::Socket>>;

impl Way {
    async fn connect(&self) -> Result<(Client, Connection), StoreError> {
        let mut config = self.config.clone();
        if let Some(password) = self.password.clone() {
            let read = tokio::task::spawn_blocking(move || password()).await;
            let password = read.map_err(|_| StoreError::Closed)?.map_err(|error| {
                StoreError::Postgres(format!("its password can't be had: {error}"))
            })?;
            config.password(password.expose());
        }
        let connected = tokio::time::timeout(CONNECT_PATIENCE, config.connect(self.tls.clone()));
        let connected = connected.await;
        let connected = connected.map_err(|_| StoreError::Postgres("no connection in time".into()));
        connected?.map_err(|error| StoreError::Postgres(told(&error)))
    }

    async fn follow(&self, bell: &Bell) -> Result<(), StoreError> {
        let (client, mut connection) = self.connect().await?;
        let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
        let listening = client.batch_execute("listen vestibule_hub");
        tokio::pin!(listening);
        let mut is_listening = false;
        loop {
            tokio::select! {
                done = &mut listening, if !is_listening => {
                    done.map_err(|error| StoreError::Postgres(told(&error)))?;
                    is_listening = true;
                    bell.tell(&Word::Anything);
                }
                message = messages.next() => match message {
                    Some(Ok(AsyncMessage::Notification(said))) => bell.tell(&Word::read(said.payload())),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(StoreError::Postgres(told(&error))),
                    None => return Err(StoreError::Postgres("the connection ended".into())),
                },
                () = tokio::time::sleep(LOOK_AGAIN) => bell.tell(&Word::Anything),
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.get() {
            listening.abort();
        }
    }
}

/// What the server says, or why it can't be asked: its own text names only the kind.
fn told(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        // Not its detail, which may quote values.
        return format!("{} ({})", said.message(), said.code().code());
    }
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
