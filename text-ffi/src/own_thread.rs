//! A thread for work that recurses as deep as what users and models send.

use crate::error::{Error, Result};

/// Of which only what is used is taken: enough for the deepest templates that
/// template/source.rs lets through, and grammars that grammar_source.rs does.
const STACK_BYTES: usize = 128 << 20;

/// `what` is worked on, in messages.
pub fn on_own_thread<T: Send>(what: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name(what.into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|e| Error::invalid_argument(format!("no thread for a {what}: {e}")))?;
        thread.join().unwrap_or_else(|panic| {
            let text = crate::ffi::panic_text(panic.as_ref());
            Err(Error::invalid_argument(format!(
                "the {what} failed: {text}"
            )))
        })
    })
}
