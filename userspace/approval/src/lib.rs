//! Approvals: who is asked, who may answer, and what an answer is good for.
//!
//! Pure: times come in, events come out. Whoever drives a [`Book`] writes an event down durably before it
//! acts on it, and applies it; a book that all written events are applied to again is the same book. Hosts
//! keep their events in the journal, hubs in a database.

pub mod book;
pub mod control;
pub mod desk;
pub mod event;
pub mod four_eyes;
pub mod request;
pub mod shown;
pub mod vote;

pub use book::Book;
pub use event::{Ending, Event};
pub use request::{ApprovalRequest, Grant, Wanted};
pub use vote::{Approver, Vote, VoteError};
