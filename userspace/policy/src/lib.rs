//! The policy decision point: Cedar policies in, decisions out.
//!
//! Does no I/O and reads no clock: sources come in as strings, time as a number.

mod approve;
mod authorize;
pub mod cases;
pub mod exchange;
mod limit;
mod load;
pub mod lookup;
mod obligation;
mod policy_set;
mod request;

pub use authorize::SessionPolicy;
pub use load::LoadError;
pub use policy_set::{MissingFile, PolicySet, PolicySource};
