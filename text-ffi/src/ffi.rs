//! What the entry points share: buffers that cross the border, errors, and
//! the rule that no panic crosses it.

use std::any::Any;
use std::ffi::{c_char, CString};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Once;

use crate::error::{Error, Kind, Result};

/// Memory of this library that the caller gives back. `data` is null for none.
#[repr(C)]
pub struct Buffer<T> {
    data: *mut T,
    length: usize,
    capacity: usize,
}

impl<T> Buffer<T> {
    pub const NONE: Self = Buffer {
        data: std::ptr::null_mut(),
        length: 0,
        capacity: 0,
    };

    pub fn new(values: Vec<T>) -> Self {
        let mut values = std::mem::ManuallyDrop::new(values);
        Buffer {
            data: values.as_mut_ptr(),
            length: values.len(),
            capacity: values.capacity(),
        }
    }

    /// # Safety
    /// The buffer must come from `new` and not have been released.
    pub unsafe fn release(self) {
        if !self.data.is_null() {
            drop(Vec::from_raw_parts(self.data, self.length, self.capacity));
        }
    }
}

#[repr(C)]
pub struct FfiError {
    kind: i32,
    message: *mut c_char,
}

/// Runs `work`. An error, or a panic as an error of kind `on_panic`, goes to
/// `error`, and `failed` is returned.
///
/// # Safety
/// `error` must be writable.
pub unsafe fn guard<T>(
    error: *mut FfiError,
    on_panic: Kind,
    failed: T,
    work: impl FnOnce() -> Result<T>,
) -> T {
    silence_panics();
    let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(Error {
            kind: on_panic,
            message: panic_text(panic.as_ref()),
        })
    });
    match outcome {
        Ok(value) => value,
        Err(Error { kind, message }) => {
            let message = CString::new(message.replace('\0', "?")).unwrap_or_default();
            *error = FfiError {
                kind: kind as i32,
                message: message.into_raw(),
            };
            failed
        }
    }
}

/// Panics are reported as errors; they are not to write to stderr as well.
fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}

pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!(
        "the text library failed: {}",
        text.unwrap_or("no reason given")
    )
}

/// # Safety
/// `data` must point to `length` values, or `length` be 0.
pub unsafe fn slice<'a, T>(data: *const T, length: usize) -> &'a [T] {
    if length == 0 {
        return &[];
    }
    std::slice::from_raw_parts(data, length)
}

/// # Safety
/// As `slice`.
pub unsafe fn text<'a>(data: *const c_char, length: usize) -> Result<&'a str> {
    std::str::from_utf8(slice(data.cast::<u8>(), length)).map_err(|e| {
        Error::invalid_argument(format!("the text is not UTF-8 at byte {}", e.valid_up_to()))
    })
}
