//! Values as Python writes them: str(), repr() and json.dumps().

use std::fmt::Write;

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::filters::option;
use super::limits;

pub fn failure(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// str(float): the shortest digits that give the same number, with an exponent
/// beyond 1e16 and below 1e-4.
fn write_float(out: &mut String, number: f64) {
    let magnitude = number.abs();
    let _ = if number.is_nan() {
        write!(out, "nan")
    } else if magnitude.is_infinite() {
        write!(out, "{}", if number > 0.0 { "inf" } else { "-inf" })
    } else if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{number:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        write!(out, "{mantissa}e{sign}{digits:0>2}")
    } else if number.fract() == 0.0 {
        write!(out, "{number:.1}")
    } else {
        write!(out, "{number}")
    };
}

fn write_number(out: &mut String, number: &Value) {
    match f64::try_from(number.clone()) {
        Ok(float) if !number.is_integer() => write_float(out, float),
        _ => {
            let _ = write!(out, "{number}");
        }
    }
}

/// str(value), with "" for undefined.
pub fn write_str(out: &mut String, value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.push_str(text),
        None => write_repr(out, value, 0)?,
    }
    limits::check()
}

pub fn to_str(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_str(&mut out, value)?;
    Ok(out)
}

fn write_repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    limits::check_step(depth)?;
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => write_number(out, value),
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let tuple = value.is_tuple();
            out.push(if tuple { '(' } else { '[' });
            let mut count = 0;
            for item in value.try_iter()? {
                if count > 0 {
                    out.push_str(", ");
                }
                write_repr(out, &item, depth + 1)?;
                count += 1;
            }
            if tuple && count == 1 {
                out.push(',');
            }
            out.push(if tuple { ')' } else { ']' });
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(out, &key, depth + 1)?;
                out.push_str(": ");
                write_repr(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push('}');
        }
        _ => {
            let _ = write!(out, "{value}");
        }
    }
    Ok(())
}

fn write_quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if !is_printable(c) => write_escape(out, c),
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// str.isprintable() but for characters that Unicode has not assigned.
fn is_printable(c: char) -> bool {
    let hidden = c.is_control()
        || (c != ' ' && c.is_whitespace())
        || matches!(c as u32,
            0xAD | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F | 0x180E
            | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x206F
            | 0xE000..=0xF8FF | 0xFEFF | 0xFFF9..=0xFFFB
            | 0xE0001..=0xE007F | 0xF0000..=0x10FFFF);
    !hidden
}

fn write_escape(out: &mut String, c: char) {
    let _ = match c as u32 {
        code @ ..=0xFF => write!(out, "\\x{code:02x}"),
        code @ ..=0xFFFF => write!(out, "\\u{code:04x}"),
        code => write!(out, "\\U{code:08x}"),
    };
}

/// The filter "tojson" as transformers defines it: json.dumps, which does not
/// escape for HTML, with ensure_ascii off.
pub fn tojson(
    value: &Value,
    ensure_ascii: Option<bool>,
    indent: Option<Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    let indent = option(indent, &options, "indent")?;
    let ensure_ascii = option(ensure_ascii, &options, "ensure_ascii")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let indent = indent_text(indent)?;
    let (item, key) = match separators.as_deref() {
        None if indent.is_some() => (",", ": "),
        None => (", ", ": "),
        Some([item, key]) => (item.as_str(), key.as_str()),
        Some(_) => return Err(failure("tojson: separators are not two texts")),
    };
    let dump = Dump {
        indent,
        item,
        key,
        sort_keys: sort_keys.unwrap_or(false),
        ensure_ascii: ensure_ascii.unwrap_or(false),
    };
    let mut out = String::new();
    dump.write(&mut out, value, 0)?;
    Ok(Value::from(out))
}

/// A number of spaces, or the text itself.
fn indent_text(indent: Option<Value>) -> Result<Option<String>, Error> {
    let Some(indent) = indent.filter(|indent| !indent.is_none()) else {
        return Ok(None);
    };
    let text = match indent.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(limits::check_width(usize::try_from(indent)?)?),
    };
    limits::check_width(text.len())?;
    Ok(Some(text))
}

struct Dump<'a> {
    indent: Option<String>,
    item: &'a str,
    key: &'a str,
    sort_keys: bool,
    ensure_ascii: bool,
}

impl Dump<'_> {
    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        limits::check_step(depth)?;
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.write_number(out, value),
            ValueKind::String => self.write_string(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_members(out, ['[', ']'], &items, depth, |out, item| {
                    self.write(out, item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.write_members(out, ['{', '}'], &keys, depth, |out, key| {
                    self.write_key(out, key)?;
                    out.push_str(self.key);
                    self.write(out, &value.get_item(key)?, depth + 1)
                })?;
            }
            kind => {
                return Err(failure(format!(
                    "Object of type {kind} is not JSON serializable"
                )))
            }
        }
        Ok(())
    }

    fn write_members(
        &self,
        out: &mut String,
        brackets: [char; 2],
        members: &[Value],
        depth: usize,
        write: impl Fn(&mut String, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(brackets[0]);
        for (index, member) in members.iter().enumerate() {
            if index > 0 {
                out.push_str(self.item);
            }
            self.write_line_break(out, depth + 1);
            write(out, member)?;
        }
        if !members.is_empty() {
            self.write_line_break(out, depth);
        }
        out.push(brackets[1]);
        Ok(())
    }

    fn write_line_break(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    fn write_key(&self, out: &mut String, key: &Value) -> Result<(), Error> {
        let text = match (key.as_str(), key.kind()) {
            (Some(text), _) => text.to_owned(),
            (None, ValueKind::None | ValueKind::Bool | ValueKind::Number) => {
                let mut text = String::new();
                self.write(&mut text, key, 0)?;
                text
            }
            (None, kind) => return Err(failure(format!("tojson: a key of type {kind}"))),
        };
        self.write_string(out, &text);
        Ok(())
    }

    fn write_number(&self, out: &mut String, number: &Value) {
        let start = out.len();
        write_number(out, number);
        // json.dumps has its own names for these.
        let name = match &out[start..] {
            "nan" => "NaN",
            "inf" => "Infinity",
            "-inf" => "-Infinity",
            _ => return,
        };
        out.replace_range(start.., name);
    }

    fn write_string(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 0x20 => write_unicode_escape(out, c as u16),
                c if self.ensure_ascii && c as u32 >= 0x7F => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        write_unicode_escape(out, *unit);
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

fn write_unicode_escape(out: &mut String, unit: u16) {
    let _ = write!(out, "\\u{unit:04x}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(json: serde_json::Value) -> Value {
        serde_json::from_value(json).unwrap()
    }

    fn dumps(json: serde_json::Value, options: &[(&'static str, Value)]) -> String {
        let options = options.iter().map(|(name, value)| (*name, value.clone()));
        tojson(&value(json), None, None, options.collect())
            .unwrap()
            .to_string()
    }

    #[test]
    fn floats() {
        let cases = [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (1e-4, "0.0001"),
            (1e300, "1e+300"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (number, text) in cases {
            assert_eq!(to_str(&Value::from(number)).unwrap(), text);
        }
    }

    #[test]
    fn str_and_repr() {
        let text = |json| to_str(&value(json)).unwrap();
        assert_eq!(text(json!("it's\n")), "it's\n");
        assert_eq!(
            text(json!(["it's", "\"", "a'b\"", "\n\u{1}é"])),
            r#"["it's", '"', 'a\'b"', '\n\x01é']"#
        );
        assert_eq!(
            text(json!({"a": [null, true, 1, 2.0]})),
            "{'a': [None, True, 1, 2.0]}"
        );
        assert_eq!(
            text(json!(["\u{200b}\u{a0}\u{e0001} 漢"])),
            r"['\u200b\xa0\U000e0001 漢']"
        );
        assert_eq!(to_str(&Value::UNDEFINED).unwrap(), "");
    }

    #[test]
    fn json_dumps() {
        let example = json!({"b": [1, 2.5, "<é>\u{7f}"], "a": {}, "c": []});
        assert_eq!(
            dumps(example.clone(), &[]),
            "{\"b\": [1, 2.5, \"<é>\u{7f}\"], \"a\": {}, \"c\": []}"
        );
        assert_eq!(
            dumps(
                example.clone(),
                &[("indent", 1.into()), ("sort_keys", true.into())]
            ),
            "{\n \"a\": {},\n \"b\": [\n  1,\n  2.5,\n  \"<é>\u{7f}\"\n ],\n \"c\": []\n}"
        );
        let tight = value(json!([",", ":"]));
        assert_eq!(
            dumps(
                example,
                &[("separators", tight), ("ensure_ascii", true.into())]
            ),
            r#"{"b":[1,2.5,"<\u00e9>\u007f"],"a":{},"c":[]}"#
        );
        assert_eq!(
            dumps(json!("😀"), &[("ensure_ascii", true.into())]),
            r#""\ud83d\ude00""#
        );
    }
}
