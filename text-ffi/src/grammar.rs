//! Constrained decoding by llguidance: which tokens may come next.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use crate::error::{Error, Result};
use crate::grammar_source;
use crate::own_thread::on_own_thread;
use crate::tokenizer::Tokenizer;

/// What one matcher may cost.
pub struct Limits {
    /// Steps of compiling; 50,000 take about a millisecond.
    pub compile_cost: u64,
    /// States of its lexer, about a kilobyte each.
    pub lexer_states: usize,
}

/// The trie of a tokenizer, from which matchers are made.
pub struct Grammar {
    factory: ParserFactory,
}

impl Grammar {
    /// `vocab_size` is the model's, which may be more than the tokenizer's.
    pub fn new(tokenizer: &Tokenizer, vocab_size: usize, eos: u32, limits: Limits) -> Result<Self> {
        let mut words = tokenizer.token_bytes()?;
        if vocab_size < words.len() || eos as usize >= vocab_size {
            return Err(Error::invalid_argument(format!(
                "a vocabulary of {vocab_size} ids, for a tokenizer of {} and the end token {eos}",
                words.len()
            )));
        }
        words.resize(vocab_size, Vec::new());
        let trie = TokTrie::from(&TokRxInfo::new(vocab_size as u32, eos), &words);
        drop(words);
        // Any spelling of a text by tokens is allowed, not the tokenizer's alone:
        // how that would spell a part of a text depends on what is around it.
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&env).map_err(Error::unsupported)?;
        let all = factory.quiet().limits_mut();
        all.verbose_errors = false;
        all.initial_lexer_fuel = limits.compile_cost;
        all.max_grammar_size = (limits.compile_cost / 2) as usize;
        all.max_lexer_states = limits.lexer_states;
        Ok(Self { factory })
    }

    /// `kind` is "json_schema", "regex" or "lark".
    pub fn matcher(&self, kind: &str, source: &str) -> Result<Matcher> {
        on_own_thread("grammar", || {
            grammar_source::check(kind, source)?;
            let grammar = TopLevelGrammar::from_tagged_str(kind, source)
                .map_err(|e| Error::invalid_argument(format!("{e:#}")))?;
            let matcher = Matcher::new(self.factory.create_parser(grammar));
            match matcher.get_error() {
                Some(error) => Err(Error::invalid_argument(error)),
                None => Ok(matcher),
            }
        })
    }
}

/// Fills `mask`, one bit per id, and returns how many tokens are allowed.
pub fn allowed(matcher: &mut Matcher, mask: &mut [u32]) -> Result<usize> {
    let set = matcher
        .compute_mask_or_eos()
        .map_err(|e| Error::invalid_argument(format!("{e:#}")))?;
    // The set has spare bits at its end, which are zero.
    mask.fill(0);
    for (word, bits) in mask.iter_mut().zip(set.as_slice()) {
        *word = *bits;
    }
    Ok(set.num_set())
}

/// Takes a token and returns whether the text is complete.
pub fn commit(matcher: &mut Matcher, token: u32) -> Result<bool> {
    matcher
        .consume_token(token)
        .map_err(|e| Error::invalid_argument(format!("{e:#}")))?;
    Ok(matcher.is_stopped())
}
