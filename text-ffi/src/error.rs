//! One error type for the C ABI. The kinds are those of `TfErrorKind` in
//! include/text_ffi.h.

use std::fmt::Display;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Kind {
    InvalidArgument = 1,
    BadModel = 2,
    Unsupported = 3,
    NoMemory = 4,
}

#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn invalid_argument(message: impl Display) -> Self {
        Self::new(Kind::InvalidArgument, message)
    }

    pub fn bad_model(message: impl Display) -> Self {
        Self::new(Kind::BadModel, message)
    }

    pub fn unsupported(message: impl Display) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    pub fn no_memory(message: impl Display) -> Self {
        Self::new(Kind::NoMemory, message)
    }

    fn new(kind: Kind, message: impl Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
        }
    }
}
