//! What the kernel says of one redirected connection.

use std::net::SocketAddr;

use crate::addr::OrigDst;
use crate::id::CgroupId;
use crate::principal::{Confinement, Process};

/// The kernel's record of a redirected `connect()`, read from the accepted socket's storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Where the agent wanted to go.
    pub orig_dst: OrigDst,
    /// The agent's own end of the connection.
    pub source: SocketAddr,
    /// Who connected.
    pub process: Process,
    /// What held it back at that moment; none where the kernel's record does not say.
    pub confinement: Option<Confinement>,
    /// The nearest enrolled cgroup at or above the process's own.
    pub enrolled: CgroupId,
    /// The network namespace's cookie.
    pub netns_cookie: u64,
    /// The agent-side socket's cookie.
    pub socket_cookie: u64,
}
