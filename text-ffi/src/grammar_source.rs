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
/// Each definition of a rule has one, and each group one of the others.
const DEPTH_MARKS: &[char] = &[':', '(', '['];
const MAX_DEPTH_MARKS: usize = 4_000;

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
    let mut marks = 0;
    let mut rest = source;
    while let Some(at) = rest.find(JSON) {
        marks += rest[..at].matches(DEPTH_MARKS).count();
        rest = &rest[at + JSON.len()..];
        rest = &rest[check_schema(rest)?..];
    }
    marks += rest.matches(DEPTH_MARKS).count();
    require("a grammar", marks, MAX_DEPTH_MARKS, "rules and groups")
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
