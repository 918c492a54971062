//! Which network namespaces have a listener, and which processes agents are.

use std::fs;
use std::io;
use std::path::Path;

use redirect_common::Listener;
use types::id::CgroupId;

use crate::{Error, Kernel, cgroup};

/// A process of an enrolled agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentProcess {
    /// Its thread group id.
    pub tgid: u32,
    /// The enrolled cgroup that it is in or below.
    pub enrolled: CgroupId,
}

impl Kernel {
    /// The cookie of this process's network namespace, whose connections went to the listener's
    /// port from the start.
    pub fn own_netns(&self) -> u64 {
        self.own_netns
    }

    /// The cgroup that sockets to listen on must be made in.
    pub fn proxy_cgroup(&self) -> Result<CgroupId, Error> {
        cgroup::id(&self.slice.proxy).map_err(Error::file("examining", &self.slice.proxy))
    }

    /// Sends connections made in a network namespace, and DNS datagrams, to these ports of its
    /// loopback addresses (`dns` 0: datagrams are refused); an error if as many namespaces have
    /// listeners as may ([`redirect_common::MAX_LISTENERS`]).
    pub fn listen(&self, netns_cookie: u64, tcp: u16, dns: u16) -> Result<(), Error> {
        self.maps.listen(netns_cookie, Listener { tcp, dns })
    }

    /// Refuses connections made in a network namespace from now on, and announces them.
    pub fn unlisten(&self, netns_cookie: u64) -> Result<(), Error> {
        self.maps.unlisten(netns_cookie)
    }

    /// Cookies of the network namespaces whose connections are sent to a port.
    pub fn listening(&self) -> Result<Vec<u64>, Error> {
        self.maps.listening()
    }

    /// An error if a cgroup with hooks was removed since they were armed, and so lost them: what is
    /// at its path now has none until they are armed again.
    pub fn check_attached(&self) -> Result<(), Error> {
        let paths = [&self.slice.agents, &self.slice.proxy];
        for (path, armed) in paths.into_iter().zip(self.attached_to) {
            match cgroup::id(path) {
                Ok(id) if id == armed => {}
                Ok(_) => return Err(Error::Severed(path.clone())),
                Err(source) => {
                    return Err(Error::File { action: "examining", path: path.clone(), source });
                }
            }
        }
        Ok(())
    }

    /// Every process of every enrolled agent, as of now.
    pub fn processes(&self) -> Result<Vec<AgentProcess>, Error> {
        let mut found = Vec::new();
        for enrolled in self.enrolled()? {
            let cgroup = enrolled.cgroup;
            processes(&enrolled.path, &mut |tgid| {
                found.push(AgentProcess { tgid, enrolled: cgroup });
            })
            .map_err(Error::file("reading", &enrolled.path))?;
        }
        Ok(found)
    }
}

/// Those of a cgroup and below; one that is removed meanwhile has none.
fn processes(directory: &Path, each: &mut impl FnMut(u32)) -> io::Result<()> {
    let gone = |error: &io::Error| {
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
    };
    match fs::read_to_string(directory.join("cgroup.procs")) {
        Ok(listed) => listed.lines().filter_map(|line| line.parse().ok()).for_each(&mut *each),
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(error),
    }
    match cgroup::children(directory) {
        Ok(children) => children.iter().try_for_each(|child| processes(child, each)),
        Err(error) if gone(&error) => Ok(()),
        Err(error) => Err(error),
    }
}
