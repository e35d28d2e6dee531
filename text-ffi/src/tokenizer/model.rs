//! The "model" of a tokenizer.json: the vocabulary and how words are cut.
//!
//! Read in one pass into what the tokenizers crate needs. Its own reader keeps
//! the whole file as a JSON tree beside the result, several times the size.

use std::fmt;

use ahash::AHashMap;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::Deserialize;
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::ModelWrapper;

/// Ids index arrays, so a hostile id must not make one of them huge.
pub const MAX_IDS: u32 = 1 << 24;
const MAX_PIECE_BYTES: usize = 16 << 10;
const MAX_AFFIX_BYTES: usize = 256;
/// The pieces of a Unigram model live in a trie with a hash map per byte, which
/// is freed by recursion as deep as the longest piece.
const MAX_UNIGRAM_PIECE_BYTES: usize = 1 << 10;
const MAX_UNIGRAM_BYTES: usize = 4 << 20;
/// WordPiece tries all ends of all starts of a word.
const MAX_WORDPIECE_CHARS: usize = 256;
/// Words whose cut is remembered, per thread.
const CACHED_WORDS: usize = 4096;

#[derive(Deserialize)]
pub struct ModelFile {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: Vocabulary,
    merges: Option<Merges>,
    unk_token: Option<String>,
    unk_id: Option<usize>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    fuse_unk: Option<bool>,
    byte_fallback: Option<bool>,
    ignore_merges: Option<bool>,
    max_input_chars_per_word: Option<usize>,
    // "dropout" is left out: it is for training, and makes encoding random.
}

type Result<T> = std::result::Result<T, String>;

impl ModelFile {
    /// The model, and the end of its ids.
    pub fn build(self) -> Result<(ModelWrapper, u32)> {
        let id_end = self.vocab.id_end()?;
        let model = match self.kind() {
            "BPE" => self.bpe()?.into(),
            "WordPiece" => self.word_piece()?.into(),
            "WordLevel" => self.word_level()?.into(),
            "Unigram" => self.unigram()?.into(),
            other => return Err(format!("unknown model type \"{other}\"")),
        };
        Ok((model, id_end))
    }

    /// Old files have no type; the members tell.
    fn kind(&self) -> &str {
        match &self.kind {
            Some(kind) => kind,
            None if self.merges.is_some() => "BPE",
            None if matches!(self.vocab, Vocabulary::Scores(_)) => "Unigram",
            None if self.max_input_chars_per_word.is_some() => "WordPiece",
            None => "WordLevel",
        }
    }

    fn bpe(self) -> Result<BPE> {
        let prefix = self.continuing_subword_prefix.unwrap_or_default();
        let suffix = self.end_of_word_suffix.unwrap_or_default();
        let merges = self.merges.ok_or("the BPE model has no merges")?.0;
        check_affixes(&prefix, &suffix)?;
        // The crate cuts the prefix off without looking.
        if let Some((_, right)) = merges.iter().find(|(_, b)| !b.starts_with(&prefix)) {
            return Err(format!(
                "merge of \"{right}\", which lacks the prefix \"{prefix}\""
            ));
        }
        let vocab = self.vocab.ids()?;
        let mut builder = BPE::builder()
            // A cache is of no use to a vocabulary smaller than itself.
            .cache_capacity(CACHED_WORDS.min(vocab.len() / 8))
            .vocab_and_merges(vocab, merges)
            .fuse_unk(self.fuse_unk.unwrap_or(false))
            .byte_fallback(self.byte_fallback.unwrap_or(false))
            .ignore_merges(self.ignore_merges.unwrap_or(false));
        if let Some(unk_token) = self.unk_token {
            builder = builder.unk_token(unk_token);
        }
        if !prefix.is_empty() {
            builder = builder.continuing_subword_prefix(prefix);
        }
        if !suffix.is_empty() {
            builder = builder.end_of_word_suffix(suffix);
        }
        builder.build().map_err(|e| e.to_string())
    }

    fn word_piece(self) -> Result<WordPiece> {
        let prefix = self
            .continuing_subword_prefix
            .unwrap_or_else(|| "##".into());
        check_affixes(&prefix, "")?;
        let max_chars = self.max_input_chars_per_word.unwrap_or(100);
        if max_chars > MAX_WORDPIECE_CHARS {
            return Err(format!(
                "max_input_chars_per_word is {max_chars}, more than {MAX_WORDPIECE_CHARS}"
            ));
        }
        WordPiece::builder()
            .vocab(self.vocab.ids()?)
            .unk_token(self.unk_token.unwrap_or_else(|| "[UNK]".into()))
            .continuing_subword_prefix(prefix)
            .max_input_chars_per_word(max_chars)
            .build()
            .map_err(|e| e.to_string())
    }

    fn word_level(self) -> Result<WordLevel> {
        WordLevel::builder()
            .vocab(self.vocab.ids()?)
            .unk_token(self.unk_token.unwrap_or_else(|| "<unk>".into()))
            .build()
            .map_err(|e| e.to_string())
    }

    fn unigram(self) -> Result<Unigram> {
        let Vocabulary::Scores(pieces) = self.vocab else {
            return Err("the Unigram vocabulary is not a list of [piece, score]".into());
        };
        let longest = pieces.iter().map(|(piece, _)| piece.len()).max();
        let bytes: usize = pieces.iter().map(|(piece, _)| piece.len()).sum();
        if longest > Some(MAX_UNIGRAM_PIECE_BYTES) || bytes > MAX_UNIGRAM_BYTES {
            return Err(format!(
                "a Unigram vocabulary of {bytes} bytes, its longest piece {} bytes; \
                 at most {MAX_UNIGRAM_BYTES} and {MAX_UNIGRAM_PIECE_BYTES} are taken",
                longest.unwrap_or(0)
            ));
        }
        Unigram::from(pieces, self.unk_id, self.byte_fallback.unwrap_or(false))
            .map_err(|e| e.to_string())
    }
}

fn check_affixes(prefix: &str, suffix: &str) -> Result<()> {
    if prefix.len() > MAX_AFFIX_BYTES || suffix.len() > MAX_AFFIX_BYTES {
        return Err(format!(
            "a subword prefix or suffix of more than {MAX_AFFIX_BYTES} bytes"
        ));
    }
    Ok(())
}

/// "vocab": piece to id, or for Unigram a list of [piece, score].
enum Vocabulary {
    Ids(AHashMap<String, u32>),
    Scores(Vec<(String, f64)>),
}

impl Vocabulary {
    fn id_end(&self) -> Result<u32> {
        let end = match self {
            Vocabulary::Ids(ids) => ids.values().max().map_or(0, |&max| max as usize + 1),
            Vocabulary::Scores(pieces) => pieces.len(),
        };
        match u32::try_from(end) {
            Ok(0) => Err("the vocabulary is empty".into()),
            Ok(end) if end <= MAX_IDS => Ok(end),
            _ => Err(format!("ids up to {end}, more than {MAX_IDS}")),
        }
    }

    fn ids(self) -> Result<AHashMap<String, u32>> {
        match self {
            Vocabulary::Ids(ids) => Ok(ids),
            Vocabulary::Scores(_) => Err("the vocabulary is a list, not an object".into()),
        }
    }
}

fn check_piece<E: de::Error>(piece: &str) -> std::result::Result<(), E> {
    if piece.len() > MAX_PIECE_BYTES {
        return Err(E::custom(format!(
            "a vocabulary entry of {} bytes, more than {MAX_PIECE_BYTES}",
            piece.len()
        )));
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Vocabulary {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        from.deserialize_any(VocabularyVisitor)
    }
}

struct VocabularyVisitor;

impl<'de> Visitor<'de> for VocabularyVisitor {
    type Value = Vocabulary;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a vocabulary")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Vocabulary, A::Error> {
        let mut ids = AHashMap::new();
        while let Some((piece, id)) = map.next_entry::<String, u32>()? {
            check_piece(&piece)?;
            ids.insert(piece, id);
        }
        Ok(Vocabulary::Ids(ids))
    }

    fn visit_seq<A: SeqAccess<'de>>(
        self,
        mut list: A,
    ) -> std::result::Result<Vocabulary, A::Error> {
        let mut pieces = Vec::new();
        while let Some((piece, score)) = list.next_element::<(String, f64)>()? {
            check_piece(&piece)?;
            pieces.push((piece, score));
        }
        Ok(Vocabulary::Scores(pieces))
    }
}

/// "merges": pairs written as "left right" or as ["left", "right"].
struct Merges(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let list = Vec::<Merge>::deserialize(from)?;
        // Collected in place: the pairs take the memory of the list.
        Ok(Merges(list.into_iter().filter_map(|m| m.0).collect()))
    }
}

/// Nothing for a "#version" line, which old files begin with.
struct Merge(Option<(String, String)>);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        from.deserialize_any(MergeVisitor)
    }
}

struct MergeVisitor;

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = Merge;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a merge of two pieces")
    }

    fn visit_str<E: de::Error>(self, line: &str) -> std::result::Result<Merge, E> {
        if line.starts_with("#version") {
            return Ok(Merge(None));
        }
        match line.split_once(' ') {
            Some((a, b)) if !b.contains(' ') => Ok(Merge(Some((a.into(), b.into())))),
            _ => Err(E::custom(format!("merge \"{line}\" is not two pieces"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Merge, A::Error> {
        let a = list.next_element::<String>()?;
        let b = list.next_element::<String>()?;
        match (a, b, list.next_element::<de::IgnoredAny>()?) {
            (Some(a), Some(b), None) => Ok(Merge(Some((a, b)))),
            _ => Err(de::Error::custom("a merge that is not two pieces")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::Model;

    fn build(json: &str) -> Result<(ModelWrapper, u32)> {
        let file: ModelFile = serde_json::from_str(json).map_err(|e| e.to_string())?;
        file.build()
    }

    fn ids(model: &ModelWrapper, text: &str) -> Vec<u32> {
        let tokens = model.tokenize(text).unwrap();
        tokens.iter().map(|token| token.id).collect()
    }

    #[test]
    fn merges_in_both_spellings() {
        for merges in [r##"["#version: 0.2", "a b"]"##, r#"[["a", "b"]]"#] {
            let json = format!(
                r#"{{"type": "BPE", "dropout": 0.5, "vocab": {{"a": 0, "b": 1, "ab": 7}},
                    "merges": {merges}, "unknown_member": [1, 2]}}"#
            );
            let (model, id_end) = build(&json).unwrap();
            assert_eq!(id_end, 8);
            assert_eq!(ids(&model, "abba"), [7, 1, 0]);
        }
    }

    #[test]
    fn types_are_guessed_when_missing() {
        let bpe = build(r#"{"vocab": {"a": 0}, "merges": []}"#).unwrap().0;
        assert!(matches!(bpe, ModelWrapper::BPE(_)));
        let unigram = build(r#"{"vocab": [["a", -1.5]], "unk_id": 0}"#).unwrap().0;
        assert!(matches!(unigram, ModelWrapper::Unigram(_)));
        let piece = r###"{"vocab": {"a": 0}, "max_input_chars_per_word": 9,
            "continuing_subword_prefix": "##"}"###;
        assert!(matches!(
            build(piece).unwrap().0,
            ModelWrapper::WordPiece(_)
        ));
        let level = build(r#"{"vocab": {"a": 0}}"#).unwrap().0;
        assert!(matches!(level, ModelWrapper::WordLevel(_)));
    }

    #[test]
    fn hostile_models_are_errors() {
        let long = "a".repeat(MAX_PIECE_BYTES + 1);
        let deep = "a".repeat(MAX_UNIGRAM_PIECE_BYTES + 1);
        let cases = [
            (
                r#"{"type": "BPE", "vocab": {}, "merges": []}"#.into(),
                "empty",
            ),
            (r#"{"vocab": {"a": 4294967295}}"#.into(), "4294967296"),
            (r#"{"vocab": {"a": -1}}"#.into(), "u32"),
            (r#"{"type": "BPE", "vocab": {"a": 0}}"#.into(), "no merges"),
            (
                r#"{"vocab": {"a": 0}, "merges": ["a b c"]}"#.into(),
                "two pieces",
            ),
            (
                r#"{"vocab": {"a": 0}, "merges": [["a"]]}"#.into(),
                "two pieces",
            ),
            (
                r#"{"vocab": {"a": 0}, "merges": ["a b"]}"#.into(),
                "vocabulary",
            ),
            (
                r#"{"vocab": {"a": 0, "b": 1}, "merges": ["a b"],
                    "continuing_subword_prefix": "é"}"#
                    .into(),
                "lacks the prefix",
            ),
            (format!(r#"{{"vocab": {{"{long}": 0}}}}"#), "bytes"),
            (format!(r#"{{"vocab": [["{deep}", 0]]}}"#), "longest piece"),
            (r#"{"vocab": [["a", 0]], "unk_id": 9}"#.into(), "unk_id"),
            (
                r#"{"vocab": {"a": 0}, "max_input_chars_per_word": 100000}"#.into(),
                "100000",
            ),
        ];
        for (json, reason) in cases {
            let json: String = json;
            let error = match build(&json) {
                Ok(_) => panic!("accepted: {json}"),
                Err(error) => error,
            };
            assert!(error.contains(reason), "{error}: {json}");
        }
    }
}
