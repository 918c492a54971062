//! The maps, typed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData, MapError, SkStorage};
use redirect_common::{
    AllowedKey, ConnectRecord, DatagramKey, Listener, MODE_ENFORCE, MODE_REVOKED, map,
};
use types::id::CgroupId;

use crate::Error;

/// Handles of the maps; each outlives the object it came from.
#[derive(Debug)]
pub(crate) struct Maps {
    enrolled: Mutex<HashMap<MapData, u64, u32>>,
    listeners: Mutex<HashMap<MapData, u64, Listener>>,
    datagrams: Mutex<HashMap<MapData, DatagramKey, ConnectRecord>>,
    allowed: Mutex<HashMap<MapData, AllowedKey, u32>>,
    connects: SkStorage<MapData, ConnectRecord>,
}

impl Maps {
    /// Takes them out of the object.
    pub(crate) fn take(object: &mut Ebpf) -> Result<Self, Error> {
        let mut take = |name| object.take_map(name).ok_or(Error::Missing(name));
        let (enrolled, listeners) = (take(map::ENROLLED)?, take(map::LISTENERS)?);
        let (connects, datagrams) = (take(map::CONNECTS)?, take(map::DATAGRAMS)?);
        let allowed = take(map::ALLOWED)?;
        Ok(Self {
            enrolled: Mutex::new(typed(map::ENROLLED, enrolled)?),
            listeners: Mutex::new(typed(map::LISTENERS, listeners)?),
            datagrams: Mutex::new(typed(map::DATAGRAMS, datagrams)?),
            allowed: Mutex::new(typed(map::ALLOWED, allowed)?),
            connects: typed(map::CONNECTS, connects)?,
        })
    }

    /// Sends connections and DNS datagrams of a network namespace to the daemon's ports there.
    pub(crate) fn listen(&self, netns_cookie: u64, listener: Listener) -> Result<(), Error> {
        self.listeners().insert(netns_cookie, listener, 0).map_err(failed(map::LISTENERS))
    }

    /// Refuses connections of a network namespace from now on; not an error if it is not there.
    pub(crate) fn unlisten(&self, netns_cookie: u64) -> Result<(), Error> {
        remove(&mut self.listeners(), &netns_cookie).map_err(failed(map::LISTENERS))
    }

    /// All network namespaces whose connections are sent somewhere.
    pub(crate) fn listening(&self) -> Result<Vec<u64>, Error> {
        self.listeners().keys().map(|key| key.map_err(failed(map::LISTENERS))).collect()
    }

    /// Redirects the cgroup's connections from now on.
    pub(crate) fn enroll(&self, cgroup: CgroupId) -> Result<(), Error> {
        self.enrolled().insert(cgroup.0, MODE_ENFORCE, 0).map_err(failed(map::ENROLLED))
    }

    /// Refuses the cgroup's connections from now on.
    pub(crate) fn revoke(&self, cgroup: CgroupId) -> Result<(), Error> {
        self.enrolled().insert(cgroup.0, MODE_REVOKED, 0).map_err(failed(map::ENROLLED))
    }

    /// Forgets the cgroup and what it is allowed; not an error if it is not there.
    pub(crate) fn forget(&self, cgroup: CgroupId) -> Result<(), Error> {
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        remove_if(map::ALLOWED, &mut allowed, |key, _| key.enrolled == cgroup.0)?;
        remove(&mut self.enrolled(), &cgroup.0).map_err(failed(map::ENROLLED))
    }

    /// Whether the cgroup is enrolled, revoked or not.
    pub(crate) fn knows(&self, cgroup: CgroupId) -> Result<bool, Error> {
        match self.enrolled().get(&cgroup.0, 0) {
            Ok(_) => Ok(true),
            Err(MapError::KeyNotFound) => Ok(false),
            Err(source) => Err(failed(map::ENROLLED)(source)),
        }
    }

    /// All enrolled cgroups.
    pub(crate) fn all(&self) -> Result<Vec<CgroupId>, Error> {
        let enrolled = self.enrolled();
        enrolled.keys().map(|key| key.map(CgroupId).map_err(failed(map::ENROLLED))).collect()
    }

    /// The record stored with a socket.
    pub(crate) fn record(
        &self,
        socket: std::os::fd::BorrowedFd<'_>,
    ) -> Result<ConnectRecord, Error> {
        match self.connects.get(&socket, 0) {
            Ok(record) => Ok(record),
            Err(MapError::KeyNotFound) => Err(Error::NoRecord),
            Err(source) => Err(failed(map::CONNECTS)(source)),
        }
    }

    /// Who sends datagrams from a client's address.
    pub(crate) fn datagram(&self, client: &DatagramKey) -> Result<ConnectRecord, Error> {
        let datagrams = self.datagrams.lock().unwrap_or_else(PoisonError::into_inner);
        match datagrams.get(client, 0) {
            Ok(record) => Ok(record),
            Err(MapError::KeyNotFound) => Err(Error::NoRecord),
            Err(source) => Err(failed(map::DATAGRAMS)(source)),
        }
    }

    /// Forgets who sends datagrams, by their records.
    pub(crate) fn forget_datagrams(
        &self,
        mut gone: impl FnMut(&ConnectRecord) -> bool,
    ) -> Result<(), Error> {
        let mut datagrams = self.datagrams.lock().unwrap_or_else(PoisonError::into_inner);
        remove_if(map::DATAGRAMS, &mut datagrams, |_, record| gone(record))
    }

    /// Lets datagrams out from now on.
    pub(crate) fn allow(&self, datagrams: AllowedKey) -> Result<(), Error> {
        let mut allowed = self.allowed.lock().unwrap_or_else(PoisonError::into_inner);
        allowed.insert(datagrams, 1, 0).map_err(failed(map::ALLOWED))
    }

    fn listeners(&self) -> MutexGuard<'_, HashMap<MapData, u64, Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enrolled(&self) -> MutexGuard<'_, HashMap<MapData, u64, u32>> {
        self.enrolled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes an entry; not an error if it is not there, which aya 0.14 tells as the call's ENOENT.
pub(crate) fn remove<K: aya::Pod, V: aya::Pod>(
    map: &mut HashMap<MapData, K, V>,
    key: &K,
) -> Result<(), MapError> {
    match map.remove(key) {
        Err(MapError::SyscallError(error))
            if error.io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        done => done,
    }
}

/// Removes entries, as far as the programs don't change the map meanwhile: an iteration that meets
/// a change ends, and the next one does the rest.
fn remove_if<K: aya::Pod, V: aya::Pod>(
    name: &'static str,
    map: &mut HashMap<MapData, K, V>,
    mut gone: impl FnMut(&K, &V) -> bool,
) -> Result<(), Error> {
    let mut keys = Vec::new();
    for entry in map.iter() {
        match entry {
            Ok((key, value)) if gone(&key, &value) => keys.push(key),
            Ok(_) => {}
            Err(MapError::KeyNotFound) => break,
            Err(source) => return Err(failed(name)(source)),
        }
    }
    for key in keys {
        remove(map, &key).map_err(failed(name))?;
    }
    Ok(())
}

fn typed<T: TryFrom<Map, Error = MapError>>(name: &'static str, map: Map) -> Result<T, Error> {
    map.try_into().map_err(failed(name))
}

fn failed(name: &'static str) -> impl Fn(MapError) -> Error {
    move |source| Error::Map { name, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_remove_what_is_not_there_is_no_error() {
        let maps = Maps::take(&mut crate::load::load(None).unwrap()).unwrap();
        maps.forget(CgroupId(1)).unwrap();
        maps.unlisten(1).unwrap();
        maps.enroll(CgroupId(1)).unwrap();
        maps.forget(CgroupId(1)).unwrap();
        assert!(!maps.knows(CgroupId(1)).unwrap());
    }
}
