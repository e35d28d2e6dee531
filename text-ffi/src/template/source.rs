//! A template's text before it is compiled.

use std::borrow::Cow;

use minijinja::machinery::{tokenize, Token};
use minijinja::syntax::SyntaxConfig;
use minijinja::Error;

use super::python::failure;

/// The largest known templates have 30 kB.
const MAX_BYTES: usize = 256 << 10;
/// The compiler goes one call deeper for each operator of an expression,
const MAX_TOKENS_PER_TAG: usize = 8192;
/// and for each "elif".
const MAX_ELIFS: usize = 1000;

/// Checks what the compiler cannot bear, and makes `{% generation %}` a block
/// that it knows. transformers marks the assistant's words by that tag, for
/// training; it changes no text. A "with" block is a scope, as that block is.
pub fn prepare<'a>(source: &'a str, syntax: &SyntaxConfig) -> Result<Cow<'a, str>, Error> {
    if source.len() > MAX_BYTES {
        return Err(failure(format!(
            "a template of {} bytes, more than {MAX_BYTES}",
            source.len()
        )));
    }
    let mut prepared = String::new();
    let mut copied = 0;
    let mut tokens_in_tag = 0;
    let mut elifs = 0;
    for token in tokenize(source, false, syntax.clone()) {
        let (token, span) = token?;
        tokens_in_tag += 1;
        if matches!(token, Token::BlockStart | Token::VariableStart) {
            tokens_in_tag = 0;
        }
        if tokens_in_tag > MAX_TOKENS_PER_TAG {
            return Err(failure(format!(
                "a tag of more than {MAX_TOKENS_PER_TAG} words, line {}",
                span.start_line
            )));
        }
        // The name of a block, since it follows the start of its tag.
        let Token::Ident(name) = token else { continue };
        if tokens_in_tag != 1 {
            continue;
        }
        let replacement = match name {
            "generation" => "with",
            "endgeneration" => "endwith",
            "elif" => {
                elifs += 1;
                if elifs > MAX_ELIFS {
                    return Err(failure(format!("more than {MAX_ELIFS} times elif")));
                }
                continue;
            }
            _ => continue,
        };
        prepared += &source[copied..span.start_offset as usize];
        prepared += replacement;
        copied = span.end_offset as usize;
    }
    if copied == 0 {
        return Ok(source.into());
    }
    prepared += &source[copied..];
    Ok(prepared.into())
}
