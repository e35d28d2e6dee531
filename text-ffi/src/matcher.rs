//! What may follow a text of a grammar, by llguidance, in bounded memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use crate::counting_allocator::held_bytes;
use crate::error::{Error, Result};

/// Of all matchers of one grammar: each may hold so much, and beyond that all
/// of them together so much more.
pub struct Memory {
    each: usize,
    shared: usize,
    left: AtomicUsize, // of what is shared
}

impl Memory {
    pub fn new(each: usize, shared: usize) -> Self {
        Self {
            each,
            shared,
            left: AtomicUsize::new(shared),
        }
    }

    /// Whether a matcher of so many bytes fits beside no other one.
    pub fn require_room(&self, bytes: usize) -> Result<()> {
        let most = self.each.saturating_add(self.shared);
        if bytes > most {
            return Err(Error::invalid_argument(format!(
                "what the text may be by this grammar takes more than {most} bytes, which is all \
                 that the memory budget leaves for that; make the grammar smaller or less \
                 ambiguous, the text shorter, or the budget larger"
            )));
        }
        Ok(())
    }

    fn take(&self, bytes: usize) -> Result<()> {
        let less = |left: usize| left.checked_sub(bytes);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .map(|_| ())
            .map_err(|_| {
                Error::no_memory(
                    "other answers' grammars take the memory that this one needs; try again, \
                     or make it smaller or less ambiguous",
                )
            })
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What one matcher holds: its grammar, its lexer's states, and for each lexeme
/// of the text all that it may be a part of.
struct Share {
    memory: Arc<Memory>,
    held: isize,
    taken: usize, // of what is shared
}

impl Share {
    /// Counts what `work` allocates, less what it frees.
    fn count<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = held_bytes();
        let result = work()?;
        self.held += held_bytes() - before;
        Ok(result)
    }

    /// Takes what was counted. Fails where there is less.
    fn settle(&mut self) -> Result<()> {
        let held = usize::try_from(self.held).unwrap_or(0);
        self.memory.require_room(held)?;
        let needed = held.saturating_sub(self.memory.each);
        if needed > self.taken {
            self.memory.take(needed - self.taken)?;
        } else {
            self.memory.give_back(self.taken - needed);
        }
        self.taken = needed;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.give_back(self.taken);
    }
}

pub struct Matcher {
    inner: llguidance::Matcher,
    share: Share,
}

impl Matcher {
    /// What `make` returns is allocated by it, on this thread.
    pub fn new(
        memory: &Arc<Memory>,
        make: impl FnOnce() -> Result<llguidance::Matcher>,
    ) -> Result<Self> {
        let mut share = Share {
            memory: memory.clone(),
            held: 0,
            taken: 0,
        };
        let inner = share.count(make)?;
        share.settle()?;
        Ok(Self { inner, share })
    }

    /// Fills `mask`, one bit per id, and returns how many tokens are allowed.
    pub fn allowed(&mut self, mask: &mut [u32]) -> Result<usize> {
        let inner = &mut self.inner;
        let count = self.share.count(|| {
            let set = inner
                .compute_mask_or_eos()
                .map_err(|e| Error::invalid_argument(format!("{e:#}")))?;
            // The set has spare bits at its end, which are zero.
            mask.fill(0);
            for (word, bits) in mask.iter_mut().zip(set.as_slice()) {
                *word = *bits;
            }
            Ok(set.num_set())
        })?;
        self.share.settle()?;
        Ok(count)
    }

    /// Takes a token and returns whether the text is complete.
    pub fn commit(&mut self, token: u32) -> Result<bool> {
        let inner = &mut self.inner;
        let complete = self.share.count(|| {
            inner
                .consume_token(token)
                .map_err(|e| Error::invalid_argument(format!("{e:#}")))?;
            Ok(inner.is_stopped())
        })?;
        if !complete {
            self.share.settle()?; // else it is soon gone
        }
        Ok(complete)
    }
}
