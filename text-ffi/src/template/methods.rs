//! Methods of Python's texts, lists and dictionaries: those of minijinja's
//! "pycompat", those it lacks, and those that can make too much of little.

use minijinja::formatting::FormatStyle;
use minijinja::value::{from_args, Value};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat;

use super::filters::{format_text, join_items, replace_text};
use super::python::failure;

pub fn call(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    match (value.as_str(), name) {
        (Some(separator), "join") => {
            let (items,): (&Value,) = from_args(args)?;
            join_items(items.try_iter()?.map(Ok), separator)
        }
        (Some(text), "replace") => {
            let (from, to, count): (&str, &str, Option<i64>) = from_args(args)?;
            let count = count.and_then(|count| usize::try_from(count).ok());
            replace_text(text, from, to, count).map(Value::from)
        }
        (Some(text), "format") => format_text(FormatStyle::StrFormat, text, args),
        (Some(text), "rsplit") => {
            let (separator, count): (Option<&str>, Option<i64>) = from_args(args)?;
            let count = count.and_then(|count| usize::try_from(count).ok());
            Ok(rsplit(text, separator, count.unwrap_or(usize::MAX)))
        }
        (Some(text), "removeprefix") => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        (Some(text), "removesuffix") => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        _ => pycompat::unknown_method_callback(state, value, name, args).map_err(|error| {
            if error.kind() == ErrorKind::UnknownMethod {
                failure(format!("{} has no method named {name}", value.kind()))
            } else {
                error
            }
        }),
    }
}

fn rsplit(text: &str, separator: Option<&str>, count: usize) -> Value {
    let parts = count.saturating_add(1);
    let mut found: Vec<Value> = match separator {
        Some(separator) => text.rsplitn(parts, separator).map(Value::from).collect(),
        None => rsplit_at_space(text, count),
    };
    found.reverse();
    Value::from(found)
}

/// The words of `text` from its end. What is left after `count` of them is one
/// more.
fn rsplit_at_space(text: &str, count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    let mut rest = text.trim_end();
    while !rest.is_empty() {
        let space = rest.rfind(char::is_whitespace);
        match space.filter(|_| found.len() < count) {
            Some(space) => {
                found.push(Value::from(rest[space..].trim_start()));
                rest = rest[..space].trim_end();
            }
            None => {
                found.push(Value::from(rest));
                rest = "";
            }
        }
    }
    found
}
