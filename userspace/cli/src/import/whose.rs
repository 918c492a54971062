//! Who acts in a capture, and on what: by the map alone.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use capture::conversation::Opening;
use capture::map::{Map, UNMAPPED};
use capture::reading::Ends;
use types::addr::OrigDst;
use types::id::AgentName;
use types::identity::Identity;
use types::principal::{Assurance, Principal, Process};
use types::target::Target;

/// Addresses without an entry that are named: 1,000 × about 100 B. Further ones are only counted.
const UNMAPPED_MAX: usize = 1_000;

/// Whose addresses are, and which ones are nobody's.
#[derive(Debug)]
pub(crate) struct Whose {
    map: Map,
    nobody: AgentName,
    /// Connections of addresses that are in no map.
    pub(crate) unmapped: BTreeMap<IpAddr, u64>,
    /// Connections of further ones.
    pub(crate) unmapped_more: u64,
}

impl Whose {
    /// By this map.
    pub(crate) fn new(map: Map) -> Result<Self> {
        let nobody = UNMAPPED.parse()?;
        Ok(Self { map, nobody, unmapped: BTreeMap::new(), unmapped_more: 0 })
    }

    /// Who acts. What only a kernel sees of a process is not there.
    pub(crate) fn principal(&mut self, client: SocketAddr) -> Principal {
        let agent = self.map.agent(client).cloned();
        if agent.is_none() {
            let has_room = self.unmapped.len() < UNMAPPED_MAX;
            match self.unmapped.get_mut(&client.ip()) {
                Some(count) => *count += 1,
                None if has_room => drop(self.unmapped.insert(client.ip(), 1)),
                None => self.unmapped_more += 1,
            }
        }
        let (name, owner) = agent.map_or_else(
            || (self.nobody.clone(), None),
            |agent| (agent.name.clone(), agent.owner.clone()),
        );
        Principal {
            agent: name.clone(),
            instance: "imported".into(),
            chain: [name].into(),
            identity: Arc::new(Identity { owner, ..Identity::default() }),
            process: Process::unseen(0),
            // What stands today: nothing says that it was held any better.
            assurance: Assurance::A0,
        }
    }

    /// What is reached; called by its address where no entry says more.
    pub(crate) fn target(&self, ends: Ends, opening: Opening<'_>) -> Target {
        let name = self.map.target(ends.server).cloned();
        Target {
            name: name.unwrap_or_else(|| ends.server.to_string().into()),
            addr: OrigDst(ends.server),
            host: None,
            protocol: opening.protocol,
            database: opening.database.map(Into::into),
            account: opening.user.map(Into::into),
            tls: None,
            credential: None,
        }
    }
}
