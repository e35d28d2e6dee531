//! Filters and functions that minijinja lacks, that are stricter than
//! Python's Jinja2, or that can make too much of little.

use minijinja::formatting::{format, FormatStyle};
use minijinja::value::{from_args, ArgType, Kwargs, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{filters as builtin, Environment, Error, State};

use super::python::{self, failure, to_str};
use super::{limits, methods, strftime};

pub fn add(env: &mut Environment) {
    env.add_filter("tojson", python::tojson);
    env.add_filter("length", length);
    env.add_filter("count", length);
    env.add_filter("int", int);
    env.add_filter("float", float);
    env.add_filter("string", to_str);
    env.add_filter("join", join);
    env.add_filter("replace", replace);
    env.add_filter("indent", indent);
    env.add_filter("format", |text: &str, args: Rest<ValueOrKwargs>| {
        format_text(FormatStyle::Printf, text, &args.into_values())
    });
    env.add_filter("batch", batch);
    env.add_filter("slice", slice);
    env.add_filter("map", map);
    env.add_filter("sort", sort);
    env.add_filter("truncate", truncate);
    env.add_filter("first", first);
    env.add_filter("last", last);
    env.add_filter("items", items);
    env.add_test("iterable", |value: &Value| {
        !value.is_none() && value.try_iter().is_ok()
    });
    env.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
    env.add_function(
        "raise_exception",
        |message: String| -> Result<Value, Error> { Err(failure(message)) },
    );
    env.add_function("strftime_now", |format: &str| {
        strftime::strftime(format, limits::now())
    });
    env.set_unknown_method_callback(methods::call);
    // They print whatever there is, without measure.
    env.remove_filter("pprint");
    env.remove_global("debug");
}

/// An argument given by place or by name.
pub fn option<'a, T>(
    by_place: Option<T>,
    options: &'a Kwargs,
    name: &'static str,
) -> Result<Option<T>, Error>
where
    Option<T>: ArgType<'a, Output = Option<T>>,
{
    match by_place {
        Some(value) => Ok(Some(value)),
        None => options.get(name),
    }
}

/// len(), which for undefined is 0.
fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    value
        .len()
        .ok_or_else(|| failure(format!("object of type {} has no len()", value.kind())))
}

fn items(value: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Ok(Value::from(Vec::<Value>::new()));
    }
    builtin::items(value)
}

fn first(value: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Ok(Value::UNDEFINED);
    }
    builtin::first(value)
}

fn last(value: Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Ok(Value::UNDEFINED);
    }
    builtin::last(value)
}

/// int(value), or the default where Python has an error.
fn int(value: &Value, default: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    let base: Option<u32> = options.get("base")?;
    let default = option(default, &options, "default")?.unwrap_or(Value::from(0));
    options.assert_all_used()?;
    let number = match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        ValueKind::Number if value.is_integer() => return Ok(value.clone()),
        ValueKind::Number => f64::try_from(value.clone()).ok().and_then(truncated),
        ValueKind::String => parse_int(value.as_str().unwrap_or_default(), base.unwrap_or(10)),
        _ => None,
    };
    Ok(number.map_or(default, Value::from))
}

fn truncated(number: f64) -> Option<i128> {
    number.is_finite().then_some(number as i128)
}

fn parse_int(text: &str, base: u32) -> Option<i128> {
    let text = text.trim().replace('_', "");
    if !(2..=36).contains(&base) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let digits = match base {
        2 => lower.strip_prefix("0b"),
        8 => lower.strip_prefix("0o"),
        16 => lower.strip_prefix("0x"),
        _ => None,
    };
    i128::from_str_radix(digits.unwrap_or(&lower), base)
        .ok()
        .or_else(|| lower.parse().ok().and_then(truncated))
}

/// float(value), or the default where Python has an error.
fn float(value: &Value, default: Option<f64>, options: Kwargs) -> Result<f64, Error> {
    let default = option(default, &options, "default")?.unwrap_or(0.0);
    options.assert_all_used()?;
    let number = match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default().trim().replace('_', "");
            text.parse().ok()
        }
        _ => None,
    };
    Ok(number.unwrap_or(default))
}

fn join(
    value: &Value,
    separator: Option<&str>,
    attribute: Option<Value>,
    options: Kwargs,
) -> Result<Value, Error> {
    let separator = option(separator, &options, "d")?;
    let attribute = option(attribute, &options, "attribute")?;
    options.assert_all_used()?;
    let items = value.try_iter()?.map(|item| match &attribute {
        Some(attribute) => attribute_of(&item, attribute),
        None => Ok(item),
    });
    join_items(items, separator.unwrap_or(""))
}

pub fn join_items(
    items: impl Iterator<Item = Result<Value, Error>>,
    separator: &str,
) -> Result<Value, Error> {
    let mut out = String::new();
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push_str(separator);
        }
        python::write_str(&mut out, &item?)?;
        limits::check_text(out.len())?;
    }
    Ok(Value::from(out))
}

/// "a.b.0", or a key that is no text.
fn attribute_of(value: &Value, attribute: &Value) -> Result<Value, Error> {
    let Some(path) = attribute.as_str() else {
        return value.get_item(attribute);
    };
    path.split('.')
        .try_fold(value.clone(), |value, name| match name.parse::<usize>() {
            Ok(index) => value.get_item(&Value::from(index)),
            Err(_) => value.get_attr(name),
        })
}

fn replace(
    value: &Value,
    from: &str,
    to: &str,
    count: Option<usize>,
    options: Kwargs,
) -> Result<Value, Error> {
    let count = option(count, &options, "count")?;
    options.assert_all_used()?;
    replace_text(&to_str(value)?, from, to, count).map(Value::from)
}

pub fn replace_text(
    text: &str,
    from: &str,
    to: &str,
    count: Option<usize>,
) -> Result<String, Error> {
    let count = count.unwrap_or(usize::MAX);
    let grown = text
        .matches(from)
        .take(count)
        .count()
        .saturating_mul(to.len());
    limits::check_text(text.len().saturating_add(grown))?;
    Ok(text.replacen(from, to, count))
}

fn indent(
    text: &str,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    options: Kwargs,
) -> Result<Value, Error> {
    let width = option(width, &options, "width")?;
    let first = option(first, &options, "first")?;
    let blank = option(blank, &options, "blank")?;
    options.assert_all_used()?;
    let margin = match width {
        None => " ".repeat(4),
        Some(width) => match width.as_str() {
            Some(margin) => margin.to_owned(),
            None => " ".repeat(limits::check_width(usize::try_from(width)?)?),
        },
    };
    let lines = text.matches('\n').count() + 1;
    limits::check_text(
        text.len()
            .saturating_add(margin.len().saturating_mul(lines)),
    )?;

    let mut out = String::new();
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            out.push('\n');
        }
        let indented = if index == 0 {
            first.unwrap_or(false)
        } else {
            !line.is_empty() || blank.unwrap_or(false)
        };
        if indented {
            out.push_str(&margin);
        }
        out.push_str(line);
    }
    Ok(Value::from(out))
}

/// A field can be padded to any width, so widths are looked at first.
pub fn format_text(style: FormatStyle, text: &str, args: &[Value]) -> Result<Value, Error> {
    for digits in text.split(|c: char| !c.is_ascii_digit()) {
        if !digits.is_empty() {
            limits::check_width(digits.parse().unwrap_or(usize::MAX))?;
        }
    }
    format(style, text, args).map(Value::from)
}

fn batch(state: &State, value: Value, count: usize, fill: Option<Value>) -> Result<Value, Error> {
    limits::check_width(count)?;
    builtin::batch(state, value, count, fill)
}

fn slice(state: &State, value: Value, count: usize, fill: Option<Value>) -> Result<Value, Error> {
    limits::check_width(count)?;
    builtin::slice(state, value, count, fill)
}

/// One operation that may be a million, so it checks after each.
fn map(state: &mut State, value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let args = args.into_values();
    let (args, options): (&[Value], Kwargs) = from_args(&args)?;
    let attribute: Option<Value> = options.get("attribute")?;
    let default: Option<Value> = options.get("default")?;
    let mut out = Vec::new();
    for item in value.try_iter()? {
        let mapped = match (&attribute, args) {
            (Some(attribute), _) => match (attribute_of(&item, attribute), &default) {
                (Ok(found), Some(default)) if found.is_undefined() => default.clone(),
                (Err(_), Some(default)) => default.clone(),
                (found, _) => found?,
            },
            (None, [filter, args @ ..]) => {
                let name = filter
                    .as_str()
                    .ok_or_else(|| failure("map: the filter's name is not a text"))?;
                let args: Vec<Value> = std::iter::once(item).chain(args.iter().cloned()).collect();
                state.apply_filter(name, &args)?
            }
            (None, []) => return Err(failure("map: neither a filter nor an attribute")),
        };
        out.push(limits::check_value(mapped)?);
    }
    Ok(Value::from(out))
}

fn sort(
    state: &State,
    value: Value,
    reverse: Option<bool>,
    options: Kwargs,
) -> Result<Value, Error> {
    let reverse = option(reverse, &options, "reverse")?.unwrap_or(false);
    let case_sensitive: Option<bool> = options.get("case_sensitive")?;
    let mut named = vec![
        ("reverse", Value::from(reverse)),
        ("case_sensitive", case_sensitive.unwrap_or(false).into()),
    ];
    // minijinja takes no number for an attribute.
    if let Some(attribute) = options.get::<Option<Value>>("attribute")? {
        named.push(("attribute", to_str(&attribute)?.into()));
    }
    options.assert_all_used()?;
    builtin::sort(state, value, named.into_iter().collect())
}

/// A text longer than `length` and some, cut at a word.
fn truncate(
    value: &Value,
    length: Option<usize>,
    kill_words: Option<bool>,
    end: Option<String>,
    options: Kwargs,
) -> Result<Value, Error> {
    let length = option(length, &options, "length")?.unwrap_or(255);
    let kill_words = option(kill_words, &options, "killwords")?.unwrap_or(false);
    let end = option(end, &options, "end")?.unwrap_or_else(|| "...".into());
    let leeway = options.get::<Option<usize>>("leeway")?.unwrap_or(5);
    options.assert_all_used()?;
    let text = to_str(value)?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(Value::from(text));
    }
    let kept = length
        .checked_sub(end.chars().count())
        .ok_or_else(|| failure(format!("truncate: {length} is shorter than \"{end}\"")))?;
    let mut cut: String = text.chars().take(kept).collect();
    if !kill_words {
        cut.truncate(cut.rfind(' ').unwrap_or(cut.len()));
    }
    Ok(Value::from(cut + &end))
}
