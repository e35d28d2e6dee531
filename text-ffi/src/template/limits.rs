//! What one rendering may use. A template comes with a model and is not to be
//! trusted: it can double a text in a loop, nest lists in lists, or run long.
//!
//! A rendering has a thread of its own (template/mod.rs), and these are kept
//! for the current thread. On a thread that renders nothing, nothing is
//! limited.

use std::cell::Cell;
use std::time::{Duration, Instant};

use minijinja::value::{Value, ValueKind};
use minijinja::Error;

use super::python::failure;
use crate::counting_allocator::held_bytes;

/// Instructions of the template, a few for each operation.
pub const MAX_INSTRUCTIONS: u64 = 20_000_000;
const MAX_SECONDS: u64 = 20;
/// Held at one time: variables, the output and whatever is in between.
const MAX_HELD_BYTES: isize = 256 << 20;
/// One text that a template makes by an operation.
const MAX_TEXT_BYTES: usize = 16 << 20;
const MAX_WIDTH: usize = 1000;
/// Lists in lists. Deeper values would be freed by too deep a recursion.
const MAX_DEPTH: usize = 120;
/// Of a list and all that is in it, counted as often as it is in it.
const MAX_NODES: usize = 1 << 18;
/// Of a list made of a text or of a lazy list.
const MAX_ITEMS: usize = 1 << 20;

#[derive(Clone, Copy)]
struct Rendering {
    held_at_start: isize,
    deadline: Instant,
    now: i64,
}

thread_local! {
    static RENDERING: Cell<Option<Rendering>> = const { Cell::new(None) };
}

/// Limits what this thread does from here on. `now` is for strftime_now.
pub fn begin(now: i64) {
    RENDERING.set(Some(Rendering {
        held_at_start: held_bytes(),
        deadline: Instant::now() + Duration::from_secs(MAX_SECONDS),
        now,
    }));
}

pub fn now() -> i64 {
    RENDERING.get().map_or(0, |rendering| rendering.now)
}

pub fn check() -> Result<(), Error> {
    let Some(rendering) = RENDERING.get() else {
        return Ok(());
    };
    if held_bytes() - rendering.held_at_start > MAX_HELD_BYTES {
        return Err(failure(format!(
            "the template takes more than {} MB",
            MAX_HELD_BYTES >> 20
        )));
    }
    if Instant::now() > rendering.deadline {
        return Err(failure(format!(
            "the template takes more than {MAX_SECONDS} s"
        )));
    }
    Ok(())
}

/// For one step of a walk through a value.
pub fn check_step(depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(failure(format!(
            "a value nested more than {MAX_DEPTH} deep"
        )));
    }
    check()
}

pub fn check_text(bytes: usize) -> Result<(), Error> {
    if bytes > MAX_TEXT_BYTES {
        return Err(failure(format!(
            "the template makes a text of more than {} MB",
            MAX_TEXT_BYTES >> 20
        )));
    }
    Ok(())
}

/// Of an indentation or a padded field.
pub fn check_width(width: usize) -> Result<usize, Error> {
    if width > MAX_WIDTH {
        return Err(failure(format!(
            "a width of {width}, more than {MAX_WIDTH}"
        )));
    }
    Ok(width)
}

/// What an operation has made. Lazy lists are made into lists, because a chain
/// of them is walked by recursion.
pub fn check_value(value: Value) -> Result<Value, Error> {
    check()?;
    match value.kind() {
        ValueKind::String => {
            check_text(value.as_str().map_or(0, str::len))?;
            Ok(value)
        }
        ValueKind::Iterable => {
            let list = collect(&value)?;
            check_value(list)
        }
        ValueKind::Seq | ValueKind::Map => {
            check_nodes(&value, 0, &mut 0)?;
            Ok(value)
        }
        _ => Ok(value),
    }
}

/// The items of `value` (the characters of a text) as a list.
pub fn collect(value: &Value) -> Result<Value, Error> {
    let mut items = Vec::new();
    for item in value.try_iter()? {
        if items.len() >= MAX_ITEMS {
            return Err(failure(format!("a list of more than {MAX_ITEMS} items")));
        }
        items.push(item);
    }
    Ok(Value::from(items))
}

fn check_nodes(value: &Value, depth: usize, nodes: &mut usize) -> Result<(), Error> {
    *nodes += 1;
    if *nodes > MAX_NODES || depth > MAX_DEPTH {
        return Err(failure(format!(
            "a value of more than {MAX_NODES} parts or nested more than {MAX_DEPTH} deep"
        )));
    }
    match value.kind() {
        ValueKind::Seq => value
            .try_iter()?
            .try_for_each(|item| check_nodes(&item, depth + 1, nodes)),
        ValueKind::Map => value
            .try_iter()?
            .try_for_each(|key| check_nodes(&value.get_item(&key)?, depth + 1, nodes)),
        _ => Ok(()),
    }
}

/// What is stored in a namespace, the one thing that can change: without
/// namespaces in namespaces, no value contains itself.
pub fn check_stored(value: Value) -> Result<Value, Error> {
    if contains_namespace(&value)? {
        return Err(failure("a namespace stored in a namespace"));
    }
    Ok(value)
}

fn contains_namespace(value: &Value) -> Result<bool, Error> {
    let Some(object) = value.as_object() else {
        return Ok(false);
    };
    if object.type_name().ends_with("::Namespace") {
        return Ok(true);
    }
    let parts: Vec<Value> = match value.kind() {
        ValueKind::Seq => value.try_iter()?.collect(),
        ValueKind::Map => value
            .try_iter()?
            .map(|key| value.get_item(&key))
            .collect::<Result<_, _>>()?,
        _ => return Ok(false),
    };
    parts
        .iter()
        .try_fold(false, |found, part| Ok(found || contains_namespace(part)?))
}
