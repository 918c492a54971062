//! Captured packets as sessions: the way of a packet back to what an agent asked.
//!
//! `source` reads pcap and pcapng, `segment` finds TCP in a frame, `stream` and `connection` put a connection's bytes
//! in their order again, `conversation` gives them to the protocol sessions that the proxy drives (`exchange`: to
//! what takes HTTP apart there), and `reading` is all
//! of it over one file. `map` says whose an address is. It decides and records nothing, and what it can't read it says.

pub mod connection;
pub mod conversation;
pub mod exchange;
mod limit;
pub mod map;
pub mod reading;
pub mod segment;
pub mod source;
pub mod stream;
mod unmasked;
pub mod write;

#[cfg(test)]
mod tests;
