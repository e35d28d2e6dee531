//! The bytes that each token adds to a text, which grammars work on.

use tokenizers::DecoderWrapper;
use toktrie::TokTrie;

use super::decode_stream::{decode_later_token, fallback_byte};
use super::Tokenizer;
use crate::byte_level;
use crate::error::{Error, Result};

impl Tokenizer {
    /// One entry per id: empty for an unused id, marked for a special token.
    pub fn token_bytes(&self) -> Result<Vec<Vec<u8>>> {
        let decoder = self.inner.get_decoder().ok_or_else(|| {
            Error::unsupported("without a decoder, tokens do not add to a text one by one")
        })?;
        (0..self.id_end)
            .map(|id| match self.added_token(id) {
                Some(token) if token.special => {
                    let marker = [TokTrie::SPECIAL_TOKEN_MARKER];
                    Ok([&marker, token.content.as_bytes()].concat())
                }
                Some(token) => Ok(token.content.clone().into_bytes()),
                None => match self.inner.id_to_token(id) {
                    Some(token) => bytes_of(decoder, token),
                    None => Ok(Vec::new()),
                },
            })
            .collect()
    }

    /// What `id` adds to a text when it is not the first: its own spelling if
    /// it is special, nothing for an unused id. Where that depends on its
    /// neighbours, its text by itself.
    pub fn bytes(&self, id: u32) -> Vec<u8> {
        if let Some(token) = self.added_token(id) {
            return token.content.clone().into_bytes();
        }
        let Some(token) = self.inner.id_to_token(id) else {
            return Vec::new();
        };
        self.inner
            .get_decoder()
            .and_then(|decoder| bytes_of(decoder, token.clone()).ok())
            .or_else(|| self.decode(&[id], false).ok().map(String::into_bytes))
            .unwrap_or_else(|| token.into_bytes())
    }
}

/// What `token` adds when it is not the first.
fn bytes_of(decoder: &DecoderWrapper, token: String) -> Result<Vec<u8>> {
    match decoder {
        DecoderWrapper::ByteLevel(_) => {
            Ok(byte_level::to_bytes(&token).unwrap_or_else(|| token.into_bytes()))
        }
        DecoderWrapper::Sequence(steps) => {
            let mut token = token;
            for step in steps.get_decoders() {
                match step {
                    DecoderWrapper::ByteFallback(_) => {
                        if let Some(byte) = fallback_byte(&token) {
                            return Ok(vec![byte]);
                        }
                    }
                    // It joins the tokens; what follows is for the whole text.
                    DecoderWrapper::Fuse(_) => break,
                    DecoderWrapper::ByteLevel(_) => return bytes_of(step, token),
                    step => token = text_of(step, token)?,
                }
            }
            Ok(token.into_bytes())
        }
        DecoderWrapper::ByteFallback(_) => Ok(match fallback_byte(&token) {
            Some(byte) => vec![byte],
            None => token.into_bytes(),
        }),
        DecoderWrapper::Fuse(_) => Ok(token.into_bytes()),
        step => Ok(text_of(step, token)?.into_bytes()),
    }
}

fn text_of(step: &DecoderWrapper, token: String) -> Result<String> {
    match step {
        DecoderWrapper::Replace(_)
        | DecoderWrapper::Metaspace(_)
        | DecoderWrapper::WordPiece(_)
        | DecoderWrapper::Strip(_) => {
            let text = decode_later_token(step, token).map_err(Error::bad_model)?;
            Ok(text.unwrap_or_default())
        }
        _ => Err(Error::unsupported(
            "with this decoder, what a token adds to a text depends on its neighbours",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, Value};

    fn bytes(decoder: Value) -> Result<Vec<Vec<u8>>> {
        let file = json!({
            "decoder": decoder,
            "model": {"type": "BPE", "merges": [],
                "vocab": {"▁a": 0, "<0xE4>": 1, "Ġb": 2, "unused after": 4}},
            "added_tokens": [{"content": "<s>", "special": true}, {"content": "x y"}],
        });
        Tokenizer::from_json(file.to_string().as_bytes())?.token_bytes()
    }

    #[test]
    fn byte_level_pieces() {
        let decoder = json!({"type": "ByteLevel", "add_prefix_space": false,
            "trim_offsets": false});
        let bytes = bytes(decoder).unwrap();
        assert_eq!(bytes[0], "▁a".as_bytes());
        assert_eq!(bytes[2], b" b");
        assert_eq!(bytes[3], b"");
    }

    #[test]
    fn sentence_pieces() {
        let bytes = bytes(json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}))
        .unwrap();
        assert_eq!(bytes[0], b" a");
        assert_eq!(bytes[1], [0xE4]);
    }

    #[test]
    fn one_token() {
        let bytes = |decoder: &Value, id| {
            let file = json!({
                "decoder": decoder,
                "model": {"type": "BPE", "merges": [],
                    "vocab": {"a</w>": 0, "Ġb": 1, "Ã": 2}},
                "added_tokens": [{"content": "<s>", "special": true}],
            });
            let file = file.to_string();
            Tokenizer::from_json(file.as_bytes()).unwrap().bytes(id)
        };
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false,
            "trim_offsets": false});
        assert_eq!(bytes(&byte_level, 1), b" b");
        assert_eq!(bytes(&byte_level, 2), [0xC3]);
        assert_eq!(bytes(&byte_level, 3), b"<s>");
        assert_eq!(bytes(&byte_level, 99), b"");
        let of_words = json!({"type": "BPEDecoder", "suffix": "</w>"});
        assert_eq!(bytes(&of_words, 0), b"a");
    }

    #[test]
    fn neighbours_matter_to_some_decoders() {
        bytes(Value::Null).unwrap_err();
        bytes(json!({"type": "BPEDecoder", "suffix": "</w>"})).unwrap_err();
    }
}
