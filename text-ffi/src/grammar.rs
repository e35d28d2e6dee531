//! Constrained decoding by llguidance: from a grammar to what may come next.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::ParserFactory;
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use crate::counting_allocator::held_bytes;
use crate::error::{Error, Result};
use crate::grammar_source;
use crate::matcher::{Matcher, Memory};
use crate::own_thread::on_own_thread;
use crate::tokenizer::Tokenizer;

/// What a matcher needs for its text to begin, beside its grammar: the first
/// states of its lexer and a mask.
const FIRST_TOKENS_BYTES: usize = 256 << 10;

/// What matchers may cost.
pub struct Limits {
    /// Steps of compiling; 50,000 take about a millisecond.
    pub compile_cost: u64,
    /// States of its lexer, about a kilobyte each.
    pub lexer_states: usize,
    /// Bytes that each may hold.
    pub matcher_bytes: usize,
    /// Bytes that all of them together may hold beyond that.
    pub shared_bytes: usize,
}

/// The trie of a tokenizer, from which matchers are made.
pub struct Grammar {
    factory: ParserFactory,
    memory: Arc<Memory>,
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
        Ok(Self {
            factory,
            memory: Arc::new(Memory::new(limits.matcher_bytes, limits.shared_bytes)),
        })
    }

    /// `kind` is "json_schema", "regex" or "lark".
    pub fn matcher(&self, kind: &str, source: &str) -> Result<Matcher> {
        on_own_thread("grammar", || {
            Matcher::new(&self.memory, || self.compile(kind, source))
        })
    }

    /// Fails if there never is a matcher, whatever others hold now.
    pub fn check(&self, kind: &str, source: &str) -> Result<()> {
        on_own_thread("grammar", || {
            let before = held_bytes();
            let _matcher = self.compile(kind, source)?;
            let held = usize::try_from(held_bytes() - before).unwrap_or(0);
            self.memory.require_room(held + FIRST_TOKENS_BYTES)
        })
    }

    fn compile(&self, kind: &str, source: &str) -> Result<llguidance::Matcher> {
        grammar_source::check(kind, source)?;
        let grammar = TopLevelGrammar::from_tagged_str(kind, source)
            .map_err(|e| Error::invalid_argument(format!("{e:#}")))?;
        let matcher = llguidance::Matcher::new(self.factory.create_parser(grammar));
        match matcher.get_error() {
            Some(error) => Err(Error::invalid_argument(error)),
            None => Ok(matcher),
        }
    }
}
