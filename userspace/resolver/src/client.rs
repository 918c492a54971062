//! Who asks: one session for each process and the server it asks, kept while it goes on asking.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::OnceCell;
use types::accepted::Accepted;
use types::addr::OrigDst;
use types::id::{CgroupId, CommandId, SessionId};
use types::principal::{Inode, Principal, ProcessKey};
use types::target::Target;

use crate::acting::Acting;
use crate::ledger::{Ledger, NotRecorded, TARGET};
use crate::server::Resources;

/// Sessions of datagrams at once: 4,096 × about 2 KiB (its policies are shared) = 8 MiB, and a fifth
/// of what the journal holds open.
const SESSIONS_MAX: usize = 4_096;

/// A session ends when its process asked nothing for this long: a second look-up of the same program
/// belongs to it, its next task does not.
const IDLE_NS: u64 = 30 * 1_000_000_000;

/// One who asks.
pub(crate) struct Client {
    pub(crate) session: SessionId,
    pub(crate) acting: RefCell<Acting>,
    pub(crate) enrolled: CgroupId,
    pub(crate) server: SocketAddr,
    commands: Cell<u32>,
}

/// Why a question has no one who asks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unknown {
    /// The cgroup is no agent's.
    #[error(transparent)]
    Unattributed(#[from] identity::Unattributed),
    /// It can't be recorded.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
    /// There are as many sessions as there may be.
    #[error("{SESSIONS_MAX} processes ask already")]
    TooMany,
    /// Attribution did not end.
    #[error("attribution did not end")]
    Ended,
}

impl Client {
    /// A client with a session of its own. Digesting an executable the first time takes up to a
    /// second: that is done on another thread.
    pub(crate) async fn attribute(
        accepted: Accepted,
        resources: &Arc<Resources>,
        ledger: &Ledger,
    ) -> Result<Self, Unknown> {
        let (own, record) = (Arc::clone(resources), accepted.clone());
        let work =
            move || identity::attribute(&record, &own.enrollments, &own.processes, own.guarded);
        let attributed = tokio::task::spawn_blocking(work).await.map_err(|_| Unknown::Ended)??;
        Ok(Self::open(&accepted, attributed.principal, resources, ledger)?)
    }

    /// A client that is attributed already.
    pub(crate) fn open(
        accepted: &Accepted,
        principal: Principal,
        resources: &Resources,
        ledger: &Ledger,
    ) -> Result<Self, NotRecorded> {
        let mut target = Target {
            name: TARGET.into(),
            addr: accepted.orig_dst,
            host: None,
            protocol: "dns",
            database: None,
            account: None,
            tls: None,
            credential: None,
        };
        let session = ledger.open(accepted, &principal, &target)?;
        // One set of policies for whatever server was asked: that is in each request.
        target.addr = OrigDst(SocketAddr::from(([0, 0, 0, 0], 0)));
        let standing = resources.enrollments.get(accepted.enrolled).map(|own| own.standing);
        let acting = Acting::new(principal, target, standing, resources);
        Ok(Self {
            session,
            acting: RefCell::new(acting),
            enrolled: accepted.enrolled,
            server: accepted.orig_dst.0,
            commands: Cell::new(0),
        })
    }

    /// The next command's id.
    pub(crate) fn next_command(&self) -> CommandId {
        self.commands.set(self.commands.get() + 1);
        CommandId(self.commands.get())
    }
}

/// The clients that ask by datagrams.
#[derive(Default)]
pub(crate) struct Clients(RefCell<HashMap<Key, Entry>>);

/// What makes two datagrams one client's: a process that executes another program is another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    process: ProcessKey,
    exe: Option<Inode>,
    enrolled: CgroupId,
    netns_cookie: u64,
    server: SocketAddr,
}

struct Entry {
    client: Rc<OnceCell<Client>>,
    asked_at_ns: u64,
}

impl Clients {
    /// The client of a datagram, attributed at its first; two that come at once share it.
    pub(crate) async fn of(
        &self,
        accepted: Accepted,
        resources: &Arc<Resources>,
        ledger: &Ledger,
    ) -> Result<Rc<OnceCell<Client>>, Unknown> {
        let key = Key {
            process: accepted.process.key,
            exe: accepted.process.exe,
            enrolled: accepted.enrolled,
            netns_cookie: accepted.netns_cookie,
            server: accepted.orig_dst.0,
        };
        let now_ns = ledger.clock.now().mono_ns;
        let client = self.place(&key, now_ns).ok_or(Unknown::TooMany)?;
        let made = client.get_or_try_init(|| Client::attribute(accepted, resources, ledger)).await;
        match made {
            Ok(_) => Ok(client),
            Err(error) => {
                let mut open = self.0.borrow_mut();
                if open.get(&key).is_some_and(|own| own.client.get().is_none()) {
                    open.remove(&key);
                }
                Err(error)
            }
        }
    }

    fn place(&self, key: &Key, now_ns: u64) -> Option<Rc<OnceCell<Client>>> {
        let mut open = self.0.borrow_mut();
        if let Some(own) = open.get_mut(key) {
            own.asked_at_ns = now_ns;
            return Some(Rc::clone(&own.client));
        }
        if open.len() >= SESSIONS_MAX {
            return None;
        }
        let client = Rc::new(OnceCell::new());
        open.insert(key.clone(), Entry { client: Rc::clone(&client), asked_at_ns: now_ns });
        Some(client)
    }

    /// Ends the sessions of who asked nothing for a while and waits for nothing.
    pub(crate) fn sweep(&self, ledger: &Ledger) {
        let now_ns = ledger.clock.now().mono_ns;
        self.0.borrow_mut().retain(|_, own| {
            let is_idle = own.asked_at_ns.saturating_add(IDLE_NS) < now_ns;
            // A question under way holds the client as well.
            if !is_idle || Rc::strong_count(&own.client) > 1 {
                return true;
            }
            if let Some(client) = own.client.get() {
                ledger.close(client.session, "idle");
            }
            false
        });
    }

    /// Ends all sessions.
    pub(crate) fn close(&self, ledger: &Ledger) {
        for (_, own) in self.0.borrow_mut().drain() {
            if let Some(client) = own.client.get() {
                ledger.close(client.session, "shutdown");
            }
        }
    }
}
