//! The DNS forwarder: agents' questions to whatever server they ask come here, are attributed,
//! decided by policy on the name, recorded, and asked of the operator's own servers.
//!
//! It sees no eBPF: who sent a datagram comes through [`Asker`]. It is no recursive resolver and
//! validates no DNSSEC: that is the operator's servers' part.

pub mod counters;
pub mod hosts;
pub mod server;

mod acting;
mod answer;
mod budget;
mod client;
mod ledger;
mod message;
mod stream;
mod upstream;

use std::io;
use std::net::{IpAddr, SocketAddr};

use types::accepted::Accepted;

pub use server::{Handle, Options, Progress, Resources, Socket, start};

/// Who sends a datagram: the kernel's record.
pub trait Asker: Send + Sync {
    /// The record of who sends from `client` in a network namespace, and which server they asked;
    /// an error where there is none, which drops the datagram.
    fn asker(&self, netns_cookie: u64, client: SocketAddr) -> io::Result<Accepted>;
    /// A connection handed over ended: bytes of payload from and to the agent, for reconciliation.
    fn connection_ended(&self, socket_cookie: u64, sent: u64, received: u64);
}

/// What the configured targets say of names and addresses.
pub trait Targets: Send + Sync {
    /// Whether a target's address names `name`, by `*.` or in full.
    fn is_target(&self, name: &str) -> bool;
    /// Whether a target's address names it in full.
    fn is_listed(&self, name: &str) -> bool;
    /// Whether a target's address is `ip`, or a block that holds it.
    fn has_address(&self, ip: IpAddr) -> bool;
}
