//! What many rows have in common, kept once for all of them.

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use super::canon::Form;

/// A part of rows of which many are the same.
pub trait Common: Clone + Send + Sync + 'static {
    /// Its columns in canonical form.
    fn form(&self) -> Form;

    /// Bytes of its columns, about.
    fn bytes(&self) -> usize;
}

/// A part that rows share: to have it again costs no copy, and its canonical form is made once. To change it in one row leaves
/// the others as they are.
#[derive(Clone, Debug, Default)]
pub struct Shared<T>(Arc<Kept<T>>);

#[derive(Debug, Default)]
struct Kept<T> {
    of: T,
    form: OnceLock<Form>,
}

impl<T: Clone> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self { of: self.of.clone(), form: OnceLock::new() }
    }
}

impl<T: Common> Shared<T> {
    /// Kept from here on.
    pub fn new(of: T) -> Self {
        Self(Arc::new(Kept { of, form: OnceLock::new() }))
    }

    /// Where it is: the same for all that share it, and nothing else's as long as it is kept.
    pub fn place(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Keeps it where it is.
    pub fn keep(&self) -> Arc<dyn Any + Send + Sync> {
        let kept: Arc<Kept<T>> = Arc::clone(&self.0);
        kept
    }

    /// Its canonical form, where others have it as well: for one row it is not worth its making.
    pub(crate) fn form(&self) -> Option<&Form> {
        let Kept { of, form } = &*self.0;
        (Arc::strong_count(&self.0) > 1).then(|| form.get_or_init(|| of.form()))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.of
    }
}

impl<T: Common> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        let kept = Arc::make_mut(&mut self.0);
        kept.form.take();
        &mut kept.of
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.of == other.0.of
    }
}
