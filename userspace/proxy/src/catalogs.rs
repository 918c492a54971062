//! What is known of each target database's catalog, shared by its sessions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use policy::mask::Catalog;
use types::addr::OrigDst;
use types::clock::Timestamp;

/// Databases remembered: 1,024 × a catalog of up to 8 MiB of rows, in practice about 100 KiB.
const CATALOGS_MAX: usize = 1_024;

/// A catalog older than this is read anew by the next session: what other hosts defined meanwhile
/// is seen within five minutes.
const AGE_US_MAX: u64 = 300_000_000;

/// Catalogs by target address and database.
#[derive(Debug, Default)]
pub struct Catalogs {
    known: Mutex<HashMap<CatalogKey, Known>>,
}

/// Whose catalog.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CatalogKey {
    /// The target.
    pub addr: OrigDst,
    /// The database.
    pub database: Option<Arc<str>>,
}

#[derive(Debug)]
struct Known {
    catalog: Arc<Catalog>,
    read_at: Timestamp,
}

impl Catalogs {
    /// The catalog of a database, if it was read recently.
    pub(crate) fn get(&self, key: &CatalogKey, now: Timestamp) -> Option<Arc<Catalog>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(key)?;
        (now.us_since(known.read_at) < AGE_US_MAX).then(|| Arc::clone(&known.catalog))
    }

    /// Remembers what was read.
    pub(crate) fn put(&self, key: CatalogKey, catalog: Arc<Catalog>, now: Timestamp) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CATALOGS_MAX && !known.contains_key(&key) {
            known.clear();
        }
        known.insert(key, Known { catalog, read_at: now });
    }

    /// Forgets a database's catalog, because a definition in it changed.
    pub(crate) fn forget(&self, key: &CatalogKey) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp { unix_us: 0, mono_ns: seconds * 1_000_000_000 }
    }

    #[test]
    fn a_catalog_holds_until_a_definition_changes_or_for_five_minutes() {
        let catalogs = Catalogs::default();
        let key = |database: &str| CatalogKey {
            addr: OrigDst(SocketAddr::from((Ipv4Addr::LOCALHOST, 5432))),
            database: Some(database.into()),
        };
        for database in ["bank", "other"] {
            catalogs.put(key(database), Arc::new(Catalog::unknown()), at(1));
        }
        assert!(catalogs.get(&key("bank"), at(300)).is_some());
        assert!(catalogs.get(&key("bank"), at(301)).is_none(), "it is read anew by then");
        assert!(catalogs.get(&key("unread"), at(1)).is_none());
        catalogs.forget(&key("bank"));
        assert!(catalogs.get(&key("bank"), at(2)).is_none());
        assert!(catalogs.get(&key("other"), at(2)).is_some(), "what another database has stays");
    }
}
