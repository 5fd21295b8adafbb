//! Values that many rows have alike are kept once: names of traits and fields, users, stamps.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use super::register::Stamp;

/// Most values that a pool knows. When it is full it starts anew: what it gave out stays shared, so
/// that a flood of different values costs sharing, and no memory.
const MAX_VALUES: usize = 4096;

/// See the module's documentation.
pub(super) struct Pool<T: ?Sized>(HashSet<Arc<T>>);

/// What a pool knows has no order, and is nobody's state.
impl<T: ?Sized> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self(HashSet::new())
    }
}

impl<T: ?Sized + Eq + Hash> Pool<T> {
    /// The pool's own copy of a value, which becomes `value` if there is none.
    pub(super) fn share(&mut self, value: &Arc<T>) -> Arc<T> {
        if let Some(known) = self.0.get(&**value) {
            return Arc::clone(known);
        }
        if self.0.len() >= MAX_VALUES {
            self.0.clear();
        }
        self.0.insert(Arc::clone(value));
        Arc::clone(value)
    }
}

/// The pools of one engine.
#[derive(Debug, Default)]
pub(super) struct Pools {
    /// Names of traits and fields, and short values.
    pub(super) texts: Pool<str>,
    pub(super) users: Pool<BTreeSet<Arc<str>>>,
    pub(super) stamps: Pool<Stamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_kept_once_and_the_number_of_different_ones_is_bounded() {
        let mut pool = Pool::<str>::default();
        let first = pool.share(&"a".into());
        assert!(Arc::ptr_eq(&first, &pool.share(&"a".into())));
        for n in 0..2 * MAX_VALUES {
            pool.share(&n.to_string().into());
            assert!(pool.0.len() <= MAX_VALUES);
        }
        assert!(
            !Arc::ptr_eq(&first, &pool.share(&"a".into())),
            "it started anew"
        );
    }
}
