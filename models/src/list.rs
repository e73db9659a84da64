//! A short list without a heap, so that states are cheap to copy and to compare.

use std::hash::{Hash, Hasher};

/// A list of at most `N` elements.
#[derive(Debug, Clone, Copy)]
pub struct List<T, const N: usize> {
    items: [Option<T>; N],
    len: u8,
}

impl<T: Copy, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self { items: [None; N], len: 0 }
    }
}

impl<T: Copy, const N: usize> List<T, N> {
    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements, in order.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.items[..self.len()].iter().flatten().copied()
    }

    /// The elements, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let len = self.len();
        self.items[..len].iter_mut().flatten()
    }

    /// The element at a place.
    pub fn get(&self, at: usize) -> Option<T> {
        self.items.get(at).copied().flatten()
    }

    /// The element at a place, to be changed.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.items.get_mut(at)?.as_mut()
    }

    /// Adds an element at the end.
    ///
    /// # Panics
    ///
    /// If the list is full: a model that cut off silently would leave states out.
    pub fn push(&mut self, item: T) {
        assert!(self.len() < N, "a list of this model is too short");
        self.items[self.len()] = Some(item);
        self.len += 1;
    }

    /// Takes the element at a place out.
    pub fn remove(&mut self, at: usize) -> Option<T> {
        let item = self.get(at)?;
        self.items.copy_within(at + 1.., at);
        self.items[N - 1] = None;
        self.len -= 1;
        Some(item)
    }

    /// Keeps those for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(T) -> bool) {
        let kept = *self;
        *self = Self::default();
        for item in kept.iter().filter(|item| keep(*item)) {
            self.push(item);
        }
    }
}

impl<T: Copy + PartialEq, const N: usize> PartialEq for List<T, N> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: Copy + Eq, const N: usize> Eq for List<T, N> {}

impl<T: Hash + Copy, const N: usize> Hash for List<T, N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u8(self.len);
        for item in self.iter() {
            item.hash(state);
        }
    }
}
