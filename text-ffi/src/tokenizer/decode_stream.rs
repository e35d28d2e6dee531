//! Decoding as the ids come. What push() and finish() return, joined, is what
//! Tokenizer::decode makes of all the ids, and every piece is whole characters.
//!
//! A decoder is a chain of steps, each of which maps the list of tokens to a
//! new list. Most steps look at each token by itself and can be applied to one
//! token at a time. The others remember what they must: the first bytes of a
//! character, a run of byte tokens, whether a token is the first. After "Fuse"
//! or "ByteLevel" the list is one token, which then grows at its end.

use std::sync::Arc;

use tokenizers::{Decoder, DecoderWrapper};

use super::Tokenizer;
use crate::byte_level;
use crate::error::{Error, Result};

pub struct DecodeStream {
    tokenizer: Arc<Tokenizer>,
    skip_special: bool,
    stages: Vec<Stage>,
}

impl DecodeStream {
    pub fn new(tokenizer: Arc<Tokenizer>, skip_special: bool) -> Self {
        let stages = stages_of(tokenizer.inner.get_decoder());
        Self {
            tokenizer,
            skip_special,
            stages,
        }
    }

    /// The text that `id` makes certain.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.tokenizer.check_id(id)?;
        let Some(token) = self.tokenizer.text_token(id, self.skip_special) else {
            return Ok(String::new());
        };
        let mut tokens = vec![token];
        for stage in &mut self.stages {
            let mut out = Vec::with_capacity(tokens.len());
            for token in tokens {
                stage.push(token, &mut out).map_err(Error::bad_model)?;
            }
            tokens = out;
        }
        Ok(tokens.concat())
    }

    /// What is left at the end of the ids. The stream then begins anew.
    pub fn finish(&mut self) -> Result<String> {
        let mut tokens = Vec::new();
        for stage in &mut self.stages {
            let mut out = Vec::new();
            for token in tokens {
                stage.push(token, &mut out).map_err(Error::bad_model)?;
            }
            stage.finish(&mut out).map_err(Error::bad_model)?;
            tokens = out;
        }
        self.stages = stages_of(self.tokenizer.inner.get_decoder());
        Ok(tokens.concat())
    }
}

type Tokens = Vec<String>;
type Outcome<T> = tokenizers::Result<T>;

enum Stage {
    /// Each token by itself.
    Each(DecoderWrapper),
    /// Each token by itself, the first otherwise than the others.
    FirstDiffers {
        decoder: DecoderWrapper,
        first: bool,
    },
    /// Each token by itself, the last otherwise than the others.
    LastDiffers {
        decoder: DecoderWrapper,
        held: Option<String>,
    },
    /// Each token by itself, unless it repeats the one before.
    Deduplicated {
        decoder: DecoderWrapper,
        previous: Option<String>,
    },
    /// A space between tokens: what decode does without a decoder.
    Spaced {
        first: bool,
    },
    ByteFallback(ByteRun),
    ByteLevel(PartialText),
    /// Strip's beginning, on a text that grows: `left` more characters.
    StripStart {
        content: char,
        left: usize,
    },
    /// A step for which the whole text must be there.
    Whole {
        decoder: DecoderWrapper,
        text: String,
    },
}

impl Stage {
    fn push(&mut self, token: String, out: &mut Tokens) -> Outcome<()> {
        match self {
            Stage::Each(decoder) => out.extend(decoder.decode_chain(vec![token])?),
            Stage::FirstDiffers { decoder, first } => {
                if std::mem::take(first) {
                    out.extend(decoder.decode_chain(vec![token])?);
                } else {
                    out.extend(decode_later_token(decoder, token)?);
                }
            }
            Stage::LastDiffers { decoder, held } => {
                if let Some(before) = held.replace(token) {
                    // Two tokens, so that `before` is not the last.
                    let decoded = decoder.decode_chain(vec![before, String::new()])?;
                    out.extend(decoded.into_iter().next());
                }
            }
            Stage::Deduplicated { decoder, previous } => {
                if previous.as_ref() != Some(&token) {
                    *previous = Some(token.clone());
                    out.extend(decoder.decode_chain(vec![token])?);
                }
            }
            Stage::Spaced { first } => {
                let space = if std::mem::take(first) { "" } else { " " };
                out.push(format!("{space}{token}"));
            }
            Stage::ByteFallback(run) => run.push(token, out),
            Stage::ByteLevel(text) => {
                let bytes = byte_level::to_bytes(&token).unwrap_or_else(|| token.into_bytes());
                out.push(text.push(&bytes));
            }
            Stage::StripStart { content, left } => {
                let stripped = token.chars().take(*left).take_while(|c| c == content);
                let stripped = stripped.count();
                let rest = &token[stripped * content.len_utf8()..];
                *left = if rest.is_empty() { *left - stripped } else { 0 };
                out.push(rest.to_owned());
            }
            Stage::Whole { text, .. } => text.push_str(&token),
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Tokens) -> Outcome<()> {
        match self {
            Stage::LastDiffers { decoder, held } => {
                if let Some(last) = held.take() {
                    out.extend(decoder.decode_chain(vec![last])?);
                }
            }
            Stage::ByteFallback(run) => run.finish(out),
            Stage::ByteLevel(text) => out.push(text.finish()),
            Stage::Whole { decoder, text } => {
                out.extend(decoder.decode_chain(vec![std::mem::take(text)])?);
            }
            _ => {}
        }
        Ok(())
    }
}

fn stages_of(decoder: Option<&DecoderWrapper>) -> Vec<Stage> {
    let mut stages = Vec::new();
    match decoder {
        Some(decoder) => add_stages(decoder, &mut false, &mut stages),
        None => stages.push(Stage::Spaced { first: true }),
    }
    stages
}

/// `fused` says whether the tokens have become one text.
fn add_stages(decoder: &DecoderWrapper, fused: &mut bool, stages: &mut Vec<Stage>) {
    let whole = |decoder: &DecoderWrapper| Stage::Whole {
        decoder: decoder.clone(),
        text: String::new(),
    };
    stages.push(match decoder {
        DecoderWrapper::Sequence(steps) => {
            for step in steps.get_decoders() {
                add_stages(step, fused, stages);
            }
            return;
        }
        DecoderWrapper::Fuse(_) => {
            *fused = true;
            return;
        }
        DecoderWrapper::Strip(strip) if *fused => Stage::StripStart {
            content: strip.content,
            left: strip.start,
        },
        decoder if *fused => whole(decoder),
        DecoderWrapper::ByteLevel(_) => {
            *fused = true;
            Stage::ByteLevel(PartialText::default())
        }
        DecoderWrapper::ByteFallback(_) => Stage::ByteFallback(ByteRun::default()),
        DecoderWrapper::Metaspace(_) | DecoderWrapper::WordPiece(_) => Stage::FirstDiffers {
            decoder: decoder.clone(),
            first: true,
        },
        DecoderWrapper::BPE(_) => Stage::LastDiffers {
            decoder: decoder.clone(),
            held: None,
        },
        DecoderWrapper::CTC(_) => Stage::Deduplicated {
            decoder: decoder.clone(),
            previous: None,
        },
        DecoderWrapper::Replace(_) | DecoderWrapper::Strip(_) => Stage::Each(decoder.clone()),
    });
}

/// What `decoder` makes of a token that is not the first.
pub fn decode_later_token(decoder: &DecoderWrapper, token: String) -> Outcome<Option<String>> {
    let decoded = decoder.decode_chain(vec![String::new(), token])?;
    Ok(decoded.into_iter().nth(1))
}

/// The byte that a token such as "<0xE4>" stands for.
pub fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// A run of byte tokens. The decoder makes text of it if the whole run is
/// UTF-8, else a U+FFFD for every byte: so nothing of a run is certain before
/// its end, unless a byte has spoilt it.
#[derive(Default)]
struct ByteRun {
    bytes: Vec<u8>,
    /// How many of `bytes` are whole characters.
    valid: usize,
    spoilt: bool,
}

impl ByteRun {
    fn push(&mut self, token: String, out: &mut Tokens) {
        let Some(byte) = fallback_byte(&token) else {
            self.finish(out);
            out.push(token);
            return;
        };
        self.bytes.push(byte);
        if !self.spoilt {
            match std::str::from_utf8(&self.bytes[self.valid..]) {
                Ok(_) => self.valid = self.bytes.len(),
                Err(error) => self.spoilt = error.error_len().is_some(),
            }
        }
        if self.spoilt {
            self.give_up(out);
        }
    }

    fn finish(&mut self, out: &mut Tokens) {
        if self.valid == self.bytes.len() && !self.bytes.is_empty() {
            out.push(String::from_utf8_lossy(&self.bytes).into_owned());
            self.bytes.clear();
        }
        self.give_up(out);
        *self = ByteRun::default();
    }

    fn give_up(&mut self, out: &mut Tokens) {
        out.extend(self.bytes.drain(..).map(|_| "\u{FFFD}".to_owned()));
    }
}

/// Bytes as they come, given out as whole characters. Bytes that are none
/// become U+FFFD where String::from_utf8_lossy has one.
#[derive(Default)]
struct PartialText {
    bytes: Vec<u8>,
}

impl PartialText {
    fn push(&mut self, bytes: &[u8]) -> String {
        self.bytes.extend_from_slice(bytes);
        // Only an unfinished character at the very end may still change.
        let certain = self.bytes.len() - unfinished_bytes(&self.bytes);
        let text = String::from_utf8_lossy(&self.bytes[..certain]).into_owned();
        self.bytes.drain(..certain);
        text
    }

    fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.bytes)).into_owned()
    }
}

/// The length of the beginning of a character at the end of `bytes`.
fn unfinished_bytes(bytes: &[u8]) -> usize {
    // At most three bytes of a character can wait for the next.
    for length in 1..=bytes.len().min(3) {
        let tail = &bytes[bytes.len() - length..];
        if tail[0] & 0xC0 == 0x80 {
            continue;
        }
        return match std::str::from_utf8(tail) {
            Err(error) if error.valid_up_to() == 0 && error.error_len().is_none() => length,
            _ => 0,
        };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, Value};

    const PIECES: [&str; 16] = [
        "a", "▁b", "▁▁", "<0xE4>", "<0xBD>", "<0xA0>", "<0x41>", "<0xFF>", "##c", "d</w>", "Ġe",
        "Ã", "©", "\u{FFFD}", " n't", "<pad>",
    ];

    fn tokenizer(decoder: &Value) -> Arc<Tokenizer> {
        let vocab: serde_json::Map<_, _> = PIECES
            .iter()
            .enumerate()
            .map(|(id, piece)| (piece.to_string(), json!(id)))
            .collect();
        let file = json!({
            "decoder": decoder,
            "model": {"type": "BPE", "vocab": vocab, "merges": []},
            "added_tokens": [{"content": "<s>", "special": true}],
        });
        Arc::new(Tokenizer::from_json(file.to_string().as_bytes()).unwrap())
    }

    fn decoders() -> Vec<Value> {
        let replace = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
        let strip = json!({"type": "Strip", "content": " ", "start": 2, "stop": 0});
        let step = |kind: &str| json!({"type": kind});
        let sequence = |steps: &[&Value]| json!({"type": "Sequence", "decoders": steps});
        let fallback = step("ByteFallback");
        let fuse = step("Fuse");
        let word_piece = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false,
            "trim_offsets": false, "use_regex": false});
        let metaspace = json!({"type": "Metaspace", "replacement": "▁",
            "prepend_scheme": "always", "split": true});
        vec![
            Value::Null,
            byte_level.clone(),
            metaspace.clone(),
            word_piece.clone(),
            json!({"type": "BPEDecoder", "suffix": "</w>"}),
            json!({"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "a",
                "cleanup": true}),
            sequence(&[&replace, &fallback, &fuse, &strip]),
            sequence(&[&fallback, &metaspace]),
            sequence(&[&fallback, &strip, &word_piece]),
            sequence(&[&fuse, &replace, &fallback]),
            sequence(&[&byte_level, &strip, &replace, &fuse]),
        ]
    }

    #[test]
    fn joined_pieces_are_what_decode_makes() {
        let mut random = 42u64;
        for decoder in decoders() {
            let tokenizer = tokenizer(&decoder);
            let mut stream = DecodeStream::new(tokenizer.clone(), true);
            for round in 0..2000 {
                let ids: Vec<u32> = (0..round % 12 + 1)
                    .map(|_| {
                        random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
                        ((random >> 33) % 17) as u32
                    })
                    .collect();
                let mut text = String::new();
                for &id in &ids {
                    text += &stream.push(id).unwrap();
                }
                text += &stream.finish().unwrap();
                let expected = tokenizer.decode(&ids, true).unwrap();
                assert_eq!(text, expected, "{decoder} {ids:?}");
            }
        }
    }

    #[test]
    fn a_run_of_byte_tokens_waits_for_its_end() {
        let tokenizer = tokenizer(&decoders()[6]);
        let id = |piece| tokenizer.find(piece).unwrap();
        let mut stream = DecodeStream::new(tokenizer.clone(), false);
        for piece in ["<0xE4>", "<0xBD>", "<0xA0>"] {
            assert_eq!(stream.push(id(piece)).unwrap(), "");
        }
        assert_eq!(stream.push(id("a")).unwrap(), "你a");
        assert_eq!(stream.push(id("<0x41>")).unwrap(), "");
        assert_eq!(stream.push(id("<0xFF>")).unwrap(), "\u{FFFD}\u{FFFD}");
        assert_eq!(stream.push(id("<0x41>")).unwrap(), "\u{FFFD}");
        assert_eq!(stream.finish().unwrap(), "");
    }

    #[test]
    fn half_a_character_waits() {
        let tokenizer = tokenizer(&decoders()[1]);
        let id = |piece| tokenizer.find(piece).unwrap();
        let mut stream = DecodeStream::new(tokenizer.clone(), false);
        assert_eq!(stream.push(id("Ã")).unwrap(), "");
        assert_eq!(stream.push(id("©")).unwrap(), "é");
        assert_eq!(stream.push(id("Ã")).unwrap(), "");
        assert_eq!(stream.finish().unwrap(), "\u{FFFD}");
    }

    #[test]
    fn partial_text_agrees_with_lossy_decoding() {
        let mut random = 7u64;
        let alphabet = [
            b'a', 0xC3, 0xA9, 0xE4, 0xBD, 0xA0, 0xF0, 0x9F, 0x8C, 0x8D, 0xFF, 0xED,
        ];
        for length in 0..3000 {
            let bytes: Vec<u8> = (0..length % 9)
                .map(|_| {
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
                    alphabet[(random >> 33) as usize % alphabet.len()]
                })
                .collect();
            let mut partial = PartialText::default();
            let mut text: String = bytes.iter().map(|b| partial.push(&[*b])).collect();
            text += &partial.finish();
            assert_eq!(text, String::from_utf8_lossy(&bytes), "{bytes:x?}");
        }
    }
}
