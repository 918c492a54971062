//! An exec as the kernel reports it.

use crate::principal::{ImageKey, Inode, ProcessKey};

/// An exec of an agent's process. `path` and `arguments` are as the caller gave them: they may hold
/// secrets, and go nowhere but through [`crate::command_line::redacted`].
#[derive(Clone, PartialEq, Eq)]
pub struct Exec {
    /// Who.
    pub process: ProcessKey,
    /// What it runs from here on, and its forks with it.
    pub image: ImageKey,
    /// The executable.
    pub exe: Option<Inode>,
    /// Real user id.
    pub uid: u32,
    /// The path given to execve(2); at most 255 bytes.
    pub path: Vec<u8>,
    /// Its arguments, each ended by NUL; the last one may be cut.
    pub arguments: Vec<u8>,
    /// Whether there were more than are here.
    pub cut: bool,
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exec").field("image", &self.image).finish_non_exhaustive()
    }
}
