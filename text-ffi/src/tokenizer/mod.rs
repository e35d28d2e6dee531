//! A Hugging Face tokenizer.json: text to ids and back.

mod decode_stream;
mod limits;
mod model;
mod token_bytes;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::{
    AddedToken, DecoderWrapper, NormalizedString, Normalizer, NormalizerWrapper,
    PostProcessorWrapper, PreTokenizerWrapper,
};

use crate::error::{Error, Result};
pub use decode_stream::DecodeStream;

/// The largest known files have 35 MB.
const MAX_FILE_BYTES: usize = 128 << 20;
/// How long a text may become on its way to ids.
const MAX_ENCODED_BYTES: f64 = (64 << 20) as f64;
const PART_BYTES: usize = 1 << 10;

#[derive(Deserialize)]
struct TokenizerFile {
    version: Option<String>,
    model: model::ModelFile,
    added_tokens: Option<Vec<AddedTokenEntry>>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    // "truncation" and "padding" are left out: a prompt is not to be cut or
    // filled up.
}

/// The file's ids of added tokens are left out: the tokenizers library gives
/// them their ids, and so do we.
#[derive(Deserialize)]
struct AddedTokenEntry {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

impl AddedTokenEntry {
    fn into_token(self) -> AddedToken {
        AddedToken::from(self.content, self.special)
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
            .normalized(self.normalized)
    }
}

pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    id_end: u32,
    /// How many bytes one byte may become.
    normalizer_growth: f64,
    pre_tokenizer_growth: f64,
}

impl Tokenizer {
    pub fn from_json(json: &[u8]) -> Result<Self> {
        if json.len() > MAX_FILE_BYTES {
            return Err(Error::bad_model(format!(
                "{} bytes, more than {MAX_FILE_BYTES}",
                json.len()
            )));
        }
        // Texts are encoded one at a time, on the caller's thread.
        tokenizers::utils::parallelism::set_parallelism(false);
        let file: TokenizerFile = serde_json::from_slice(json).map_err(Error::bad_model)?;
        Self::from_file(file).map_err(Error::bad_model)
    }

    fn from_file(file: TokenizerFile) -> std::result::Result<Self, String> {
        if let Some(version) = file.version.filter(|version| version != "1.0") {
            return Err(format!("version \"{version}\", not \"1.0\""));
        }
        let normalizer: Option<NormalizerWrapper> = part("normalizer", file.normalizer)?;
        let pre_tokenizer: Option<PreTokenizerWrapper> = part("pre_tokenizer", file.pre_tokenizer)?;
        let decoder: Option<DecoderWrapper> = part("decoder", file.decoder)?;
        let normalizer_growth = limits::normalizer_growth(&normalizer)?;
        let pre_tokenizer_growth = limits::pre_tokenizer_growth(&pre_tokenizer)?;
        limits::check_decoder(&decoder)?;

        let (model, mut id_end) = file.model.build()?;
        let mut inner = tokenizers::Tokenizer::new(model);
        inner
            .with_normalizer(normalizer)
            .map_err(|e| e.to_string())?
            .with_pre_tokenizer(pre_tokenizer)
            .with_decoder(decoder);

        let added = file.added_tokens.unwrap_or_default();
        inner
            .add_tokens(added.into_iter().map(AddedTokenEntry::into_token))
            .map_err(|e| format!("added tokens: {e}"))?;
        let added = inner.get_added_vocabulary().get_added_tokens_decoder();
        if let Some(&max) = added.keys().max() {
            id_end = id_end.max(max.saturating_add(1));
        }

        let post_processor: Option<PostProcessorWrapper> =
            part("post_processor", file.post_processor)?;
        limits::check_post_processor(&post_processor, id_end)?;
        inner.with_post_processor(post_processor);
        Ok(Self {
            inner,
            id_end,
            normalizer_growth,
            pre_tokenizer_growth,
        })
    }

    /// Ids are below this. Some below it may be unused.
    pub fn id_end(&self) -> u32 {
        self.id_end
    }

    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        self.check_length(text)?;
        let encoding = self
            .inner
            .encode_fast(text, add_special)
            .map_err(Error::bad_model)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The crate keeps some twenty bytes for each byte that a text becomes.
    fn check_length(&self, text: &str) -> Result<()> {
        let fits = |bytes: usize, growth: f64| bytes as f64 * growth <= MAX_ENCODED_BYTES;
        if fits(
            text.len(),
            self.normalizer_growth * self.pre_tokenizer_growth,
        ) {
            return Ok(());
        }
        // It could become too long. Whether it does, its parts tell.
        let mut bytes = 0;
        for part in parts_of(text, PART_BYTES) {
            let mut part = NormalizedString::from(part);
            if let Some(normalizer) = self.inner.get_normalizer() {
                normalizer.normalize(&mut part).map_err(Error::bad_model)?;
            }
            bytes += part.len();
            if !fits(bytes, self.pre_tokenizer_growth) {
                return Err(Error::invalid_argument(format!(
                    "a text of {} bytes is too long to encode at once",
                    text.len()
                )));
            }
        }
        Ok(())
    }

    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        ids.iter().try_for_each(|&id| self.check_id(id))?;
        // Some decoders cannot bear an empty list.
        if ids
            .iter()
            .all(|&id| self.text_token(id, skip_special).is_none())
        {
            return Ok(String::new());
        }
        self.inner
            .decode(ids, skip_special)
            .map_err(Error::bad_model)
    }

    /// The vocabulary's spelling of `id`, if it is used.
    pub fn piece(&self, id: u32) -> Option<String> {
        match self.added_token(id) {
            Some(token) => Some(token.content.clone()),
            None => self.inner.id_to_token(id),
        }
    }

    pub fn find(&self, piece: &str) -> Option<u32> {
        self.inner.token_to_id(piece)
    }

    fn added_token(&self, id: u32) -> Option<&AddedToken> {
        let added = self.inner.get_added_vocabulary();
        added.get_added_tokens_decoder().get(&id)
    }

    /// What the decoder is given for `id`: nothing for an unused id.
    fn text_token(&self, id: u32, skip_special: bool) -> Option<String> {
        let token = self.inner.id_to_token(id)?;
        let added = self.inner.get_added_vocabulary();
        (!skip_special || !added.is_special_token(&token)).then_some(token)
    }

    fn check_id(&self, id: u32) -> Result<()> {
        if id < self.id_end {
            return Ok(());
        }
        Err(Error::invalid_argument(format!(
            "token id {id} is not in the vocabulary of ids below {}",
            self.id_end
        )))
    }
}

/// `text` in parts of about `bytes`, cut between characters.
fn parts_of(text: &str, bytes: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let cut = (bytes..rest.len()).find(|&i| rest.is_char_boundary(i));
        let (part, after) = rest.split_at(cut.unwrap_or(rest.len()));
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

fn part<T: serde::de::DeserializeOwned>(
    name: &str,
    json: Value,
) -> std::result::Result<Option<T>, String> {
    limits::check_unread(&json).map_err(|e| format!("{name}: {e}"))?;
    serde_json::from_value(json).map_err(|e| format!("{name}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use serde_json::json;

    /// A vocabulary of characters, with what `parts` adds.
    fn tokenizer(parts: Value) -> Result<Tokenizer> {
        let mut file = json!({
            "version": "1.0",
            "model": {"type": "BPE", "merges": [], "unk_token": "?",
                      "vocab": {"?": 0, "a": 1, "b": 2}},
        });
        for (name, part) in parts.as_object().unwrap() {
            file[name] = part.clone();
        }
        Tokenizer::from_json(file.to_string().as_bytes())
    }

    #[test]
    fn added_tokens_follow_the_vocabulary() {
        let added = json!([{"id": 3, "content": "<s>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}]);
        let tokenizer = tokenizer(json!({"added_tokens": added})).unwrap();
        assert_eq!(tokenizer.id_end(), 4);
        assert_eq!(tokenizer.encode("a<s>b", false).unwrap(), [1, 3, 2]);
        assert_eq!(tokenizer.find("<s>"), Some(3));
        assert_eq!(tokenizer.piece(3).as_deref(), Some("<s>"));
        assert_eq!(tokenizer.decode(&[3, 1], true).unwrap(), "a");
        assert_eq!(tokenizer.decode(&[3, 1], false).unwrap(), "<s> a");
    }

    #[test]
    fn padding_and_truncation_are_left_out() {
        let tokenizer = tokenizer(json!({
            "padding": {"strategy": {"Fixed": 1000000000}, "direction": "Right",
                "pad_to_multiple_of": null, "pad_id": 9, "pad_type_id": 0, "pad_token": "p"},
            "truncation": {"direction": "Right", "max_length": 1,
                "strategy": "LongestFirst", "stride": 0}}))
        .unwrap();
        assert_eq!(tokenizer.encode("aaa", true).unwrap(), [1, 1, 1]);
    }

    #[test]
    fn a_text_is_too_long_by_what_it_becomes() {
        let long = |normalizer: Value| {
            let tokenizer = tokenizer(json!({"normalizer": normalizer})).unwrap();
            tokenizer.encode(&"ab".repeat(80_000), false)
        };
        let grow = json!({"type": "Replace", "pattern": {"String": "a"},
            "content": "a".repeat(1000)});
        let error = long(grow).unwrap_err();
        assert_eq!(error.kind, Kind::InvalidArgument);
        // As much in theory, but there is no "c" in the text.
        let may_grow = json!({"type": "Replace", "pattern": {"String": "c"},
            "content": "a".repeat(1000)});
        assert_eq!(long(may_grow).unwrap().len(), 160_000);
    }

    #[test]
    fn parts_are_the_text() {
        let text = "a漢b".repeat(100);
        let parts: Vec<&str> = parts_of(&text, 7).collect();
        assert!(parts.iter().all(|part| part.len() < 12));
        assert_eq!(parts.concat(), text);
        assert_eq!(parts_of("", 7).count(), 0);
    }

    #[test]
    fn ids_beyond_the_vocabulary_are_refused() {
        let tokenizer = tokenizer(json!({})).unwrap();
        let error = tokenizer.decode(&[1, 3], false).unwrap_err();
        assert_eq!(error.kind, Kind::InvalidArgument);
        assert!(error.message.contains('3'));
    }

    #[test]
    fn bad_parts_are_named() {
        let error = tokenizer(json!({"decoder": {"type": "Nonsense"}}))
            .err()
            .unwrap();
        assert_eq!(error.kind, Kind::BadModel);
        assert!(error.message.starts_with("decoder: "), "{}", error.message);
        let error = tokenizer(json!({"version": "2.0"})).err().unwrap();
        assert!(error.message.contains("2.0"));
    }
}
