//! The policy decision point: Cedar policies in, decisions and masks out.
//!
//! Does no I/O and reads no clock: sources come in as strings, time as a number.

pub mod classification;
pub mod mask;
