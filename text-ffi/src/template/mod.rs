//! Chat templates: Jinja as transformers' apply_chat_template sets it up.

mod filters;
mod guard;
mod limits;
mod methods;
mod python;
mod source;
mod strftime;

use std::collections::BTreeMap;

use minijinja::machinery::{self, CodeGenerator, Instructions};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, ErrorKind};

use crate::error::{Error, Result};
use crate::own_thread::on_own_thread;

pub struct ChatTemplate {
    env: Environment<'static>,
    source: String,
}

struct Compiled<'source> {
    instructions: Instructions<'source>,
    blocks: BTreeMap<&'source str, Instructions<'source>>,
}

impl ChatTemplate {
    pub fn new(source: &str) -> Result<Self> {
        let mut env = Environment::new();
        env.set_syntax(syntax().map_err(bad_template)?);
        env.set_debug(false);
        env.set_fuel(Some(limits::MAX_INSTRUCTIONS));
        env.set_formatter(|out, _, value| {
            limits::check()?;
            match value.as_str() {
                Some(text) => out.write_str(text)?,
                None => out.write_str(&python::to_str(value)?)?,
            }
            Ok(())
        });
        filters::add(&mut env);
        guard::add_filters(&mut env);

        let source = source::prepare(source, env.syntax())
            .map_err(bad_template)?
            .into_owned();
        let template = Self { env, source };
        on_own_thread("template", || {
            template.compile().map(|_| ()).map_err(bad_template)
        })?;
        Ok(template)
    }

    /// `context` is a JSON object. `now` is what strftime_now prints, in
    /// seconds since the epoch, shifted to local time.
    pub fn render(&self, context: &[u8], now: i64) -> Result<String> {
        on_own_thread("template", || {
            limits::begin(now);
            let context: Value = serde_json::from_slice(context)
                .map_err(|e| Error::invalid_argument(format!("the template's context: {e}")))?;
            if context.kind() != ValueKind::Map {
                return Err(Error::invalid_argument(
                    "the template's context is not a JSON object",
                ));
            }
            self.evaluate(context)
                .map_err(|e| Error::invalid_argument(message(&e)))
        })
    }

    /// Done for every rendering, because instructions borrow their source; it
    /// takes a fraction of a millisecond.
    fn compile(&self) -> std::result::Result<Compiled<'_>, minijinja::Error> {
        let syntax = self.env.syntax().clone();
        let tree = machinery::parse(&self.source, "chat template", syntax)?;
        let mut generator = CodeGenerator::new("chat template", &self.source);
        generator.compile_stmt(&tree);
        let (instructions, blocks) = generator.finish();
        Ok(Compiled {
            instructions: guard::guarded(&instructions),
            blocks: blocks
                .iter()
                .map(|(name, instructions)| (*name, guard::guarded(instructions)))
                .collect(),
        })
    }

    fn evaluate(&self, context: Value) -> std::result::Result<String, minijinja::Error> {
        let compiled = self.compile()?;
        let mut out = String::new();
        machinery::eval(
            &self.env,
            &compiled.instructions,
            context,
            &compiled.blocks,
            &mut machinery::make_string_output(&mut out),
            AutoEscape::None,
        )?;
        Ok(out)
    }
}

fn syntax() -> std::result::Result<SyntaxConfig, minijinja::Error> {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(false)
        .build()
}

fn bad_template(error: minijinja::Error) -> Error {
    Error::bad_model(message(&error))
}

/// The reason and the line, without the template's name.
fn message(error: &minijinja::Error) -> String {
    let reason = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "the template runs too long".into(),
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    match error.line() {
        Some(line) => format!("{reason} (line {line})"),
        None => reason,
    }
}

#[cfg(test)]
mod tests;
