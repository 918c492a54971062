//! Who is behind a connection: from the kernel's record to a principal.

pub mod attribution;
pub mod enrollment;
pub mod names;
pub mod process;

pub use attribution::{Unattributed, attribute};
pub use enrollment::{Enrollment, Enrollments};
