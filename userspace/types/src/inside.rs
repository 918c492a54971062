//! How an agent starts another inside itself: it connects to [`DOOR`], as to any target, and says whom.
//!
//! Nothing listens there: the kernel hands the connection of an enrolled process to the daemon, with its own word
//! on who made it, and anybody else's is refused by the host. One line with the agent's name, one with a token of
//! whom it acts for (empty for whom the outer one does); the answer is a line as on the control socket. By then the
//! asking process is the inner agent's.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Where: an address of the host itself, at a port that only root could listen at.
pub const DOOR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 86), 86);

/// Bytes of a request at most: a name of 63, a token of 16 KiB, two line ends.
pub const REQUEST_BYTES_MAX: usize = 17 * 1024;
