//! The enforcement point: accepts what the kernel redirects, attributes it, drives a protocol
//! session over the two sockets, and lets bytes go only once their records are durable.
//!
//! It sees no eBPF: where a connection wanted to go comes through [`door::OriginalDestination`].

pub mod accept;
pub mod approvals;
pub mod bearer;
pub mod cancels;
pub mod catalogs;
pub mod counters;
pub mod credentials;
pub mod door;
pub mod durability;
pub mod ephemeral;
pub mod flows;
pub mod follower;
pub mod listener;
pub mod recount;
pub mod secret;
pub mod sparing;
mod taping;
pub mod targets;
pub mod tls;
pub mod windows;

mod admit;
mod catalog_reader;
mod held;
mod http;
mod knowledge;
mod ledger;
mod leg;
mod limiter;
mod login;
mod parting;
mod preface;
mod relay;
mod serve;
pub mod sessions;
