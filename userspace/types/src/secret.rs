//! Values that must not be seen: no `Debug` of the content, no serialisation, zeroed on drop.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret value; [`Secret::expose`] is the one way to it, easy to grep for.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// Has the value filled in place, so that no other copy of it is made.
    pub fn expose_mut<R>(&mut self, fill: impl FnOnce(&mut T) -> R) -> R {
        fill(&mut self.0)
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
