//! Several hosts, one approval desk: the hub that keeps what hosts ask, and the hosts' link to it.
//!
//! A host alone decides on its requests. It tells a hub how they stand, and takes what people answer there;
//! the hub keeps both durably in a [`store`], and several hubs on one database answer alike. What comes
//! twice changes nothing, so whoever is not sure that it arrived says it again.

pub mod client;
pub mod desk;
pub mod link;
mod peer;
pub mod protocol;
pub mod server;
pub mod store;
pub mod tls;
