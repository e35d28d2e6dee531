//! What is looked at before llguidance compiles a grammar: it has limits for
//! much that a hostile source can ask for (grammar.rs sets them), but for two
//! things. It recurses along rules and references, and it compares each pair
//! of patternProperties in every object they come to be in.

use serde_json::Value;

use crate::error::{Error, Result};

/// Of one schema. With what nests between them, a path along references fits
/// the stack that compiling has.
const MAX_REFERENCES: usize = 256;
/// Arrays and objects of one schema.
const MAX_CONTAINERS: usize = 4_096;
/// Of one schema, wherever they are in it.
const MAX_PATTERN_PROPERTIES: usize = 8;
/// Of one grammar: each of them may lead deeper.
const MAX_RULES_AND_GROUPS: usize = 10_000;

/// Fails for what would take too long or too deep a recursion.
pub fn check(kind: &str, source: &str) -> Result<()> {
    match kind {
        "json_schema" => check_schema(source).map(|_| ()),
        "lark" => check_lark(source),
        _ => Ok(()),
    }
}

fn check_lark(source: &str) -> Result<()> {
    const JSON: &str = "%json";
    let mut count = 0;
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => quoted(rest, b'"'),
            '#' => comment(rest),
            '/' if rest.starts_with("//") => comment(rest),
            '/' => quoted(rest, b'/'),
            '%' if rest.starts_with(JSON) => JSON.len() + check_schema(&rest[JSON.len()..])?,
            ':' | '(' | '[' => {
                count += 1;
                1
            }
            _ => first.len_utf8(),
        };
        rest = &rest[length..];
    }
    require("a grammar", count, MAX_RULES_AND_GROUPS, "rules and groups")
}

/// The length of the text or regular expression that `text` begins with.
fn quoted(text: &str, quote: u8) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    let end = (at + 1).min(bytes.len());
    // A backslash may stand before a character of several bytes.
    (end..=bytes.len())
        .find(|&i| text.is_char_boundary(i))
        .unwrap_or(bytes.len())
}

fn comment(text: &str) -> usize {
    text.find('\n').unwrap_or(text.len())
}

/// The schema that `text` begins with, and how long it is: nothing where that
/// is no JSON, which llguidance says better.
fn check_schema(text: &str) -> Result<usize> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let Some(Ok(schema)) = values.next() else {
        return Ok(0);
    };
    let mut counts = Counts::default();
    counts.add(&schema);
    let require = |count, most, what| require("a schema", count, most, what);
    require(counts.references, MAX_REFERENCES, "$refs")?;
    require(counts.containers, MAX_CONTAINERS, "arrays and objects")?;
    require(
        counts.pattern_properties,
        MAX_PATTERN_PROPERTIES,
        "patternProperties",
    )?;
    Ok(values.byte_offset())
}

#[derive(Default)]
struct Counts {
    references: usize,
    containers: usize,
    pattern_properties: usize,
}

impl Counts {
    // By names alone, also where they are a user's: a reference can make a
    // schema of anything. serde_json bounds how deep this goes.
    fn add(&mut self, value: &Value) {
        match value {
            Value::Array(items) => {
                self.containers += 1;
                items.iter().for_each(|item| self.add(item));
            }
            Value::Object(members) => {
                self.containers += 1;
                for (name, member) in members {
                    match (name.as_str(), member) {
                        ("$ref", _) => self.references += 1,
                        ("patternProperties", Value::Object(patterns)) => {
                            self.pattern_properties += patterns.len();
                        }
                        _ => {}
                    }
                    self.add(member);
                }
            }
            _ => {}
        }
    }
}

fn require(whole: &str, count: usize, most: usize, what: &str) -> Result<()> {
    if count > most {
        return Err(Error::invalid_argument(format!(
            "{whole} may have {most} {what}, not {count}"
        )));
    }
    Ok(())
}
