//! Who is behind a connection: from the kernel's record to a principal.

pub mod attribution;
pub mod container;
pub mod enrollment;
pub mod names;
pub mod oidc;
pub mod process;
pub mod processes;
pub mod standing;

pub use attribution::{Attributed, Unattributed, attribute};
pub use enrollment::{Enrollment, Enrollments};
pub use processes::Processes;
