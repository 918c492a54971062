//! Webhooks out: what becomes of approvals is told to whoever is configured to hear it.
//!
//! At least once: what is due follows from the journal's records of approvals and of deliveries, so a daemon that was
//! killed goes on where it was. Nothing that stands in no record is sent, so no literal and no parameter. What is
//! answered counts as a status alone.

mod body;
mod driver;
mod notice;
mod queue;
mod sender;
mod sign;

pub use body::Shape;
pub use driver::Webhooks;
pub use notice::{Kind, Notice};
pub use queue::{Attempt, GIVEN_UP_AFTER_S, HOOKS_RECORD, Queue};
pub use sender::{Hook, HookError, SecretOf, url};
pub use sign::{Key, KeyError};
