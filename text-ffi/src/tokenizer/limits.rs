//! What the parts of a tokenizer.json may not do. The tokenizers crate trusts
//! its file: a chain of replacements can double a text as often as it has
//! steps, and a part can name ids that do not exist.

use serde::Serialize;
use serde_json::Value;

/// How many bytes one byte may become. Of the normalizer this is far from what
/// happens, so that Tokenizer::encode has a second look at long texts.
const MAX_NORMALIZER_GROWTH: f64 = 1024.0;
const MAX_GROWTH: f64 = 64.0;
const MAX_STEPS: usize = 64;
const MAX_PATTERN_BYTES: usize = 16 << 10;
/// Repetitions in a pattern, as if all were in each other: matching tries as
/// many steps at each place of a text.
const MAX_REPETITIONS: u64 = 4096;
/// Put before every part of a text between added tokens.
const MAX_PREPENDED_BYTES: usize = 16;
const MAX_TEMPLATE_PIECES: usize = 256;
const MAX_CHARSMAP_BYTES: usize = 16 << 20;

type Result<T> = std::result::Result<T, String>;

/// What must hold before the crate reads a part.
pub fn check_unread(part: &Value) -> Result<()> {
    match part {
        Value::Array(list) => list.iter().try_for_each(check_unread),
        Value::Object(members) => {
            members
                .iter()
                .try_for_each(|(name, value)| match (name.as_str(), value) {
                    ("precompiled_charsmap", Value::String(map)) => check_charsmap(map),
                    ("Regex" | "String", Value::String(pattern)) => check_pattern(pattern),
                    _ => check_unread(value),
                })
        }
        _ => Ok(()),
    }
}

/// The parts as the crate has read them. (It does not hold a part to its type:
/// one that calls itself "NFC" may be read as a replacement.) How many bytes
/// they may make of one byte is returned.
pub fn normalizer_growth(normalizer: &impl Serialize) -> Result<f64> {
    let mut chain = Chain::new(MAX_NORMALIZER_GROWTH);
    chain.add(&as_json(normalizer)?, &growth_of_normalizer)?;
    Ok(chain.growth)
}

pub fn pre_tokenizer_growth(pre_tokenizer: &impl Serialize) -> Result<f64> {
    let mut chain = Chain::new(MAX_GROWTH);
    chain.add(&as_json(pre_tokenizer)?, &growth_of_pre_tokenizer)?;
    Ok(chain.growth)
}

pub fn check_decoder(decoder: &impl Serialize) -> Result<()> {
    Chain::new(MAX_GROWTH).add(&as_json(decoder)?, &growth_of_decoder)
}

/// Also that every id that is added to a text is below `id_end`.
pub fn check_post_processor(post_processor: &impl Serialize, id_end: u32) -> Result<()> {
    Chain::new(MAX_GROWTH).add(&as_json(post_processor)?, &|kind, part| {
        growth_of_post_processor(kind, part, id_end)
    })
}

fn as_json(part: &impl Serialize) -> Result<Value> {
    serde_json::to_value(part).map_err(|e| e.to_string())
}

/// Steps that follow each other: their growths multiply.
struct Chain {
    growth: f64,
    max_growth: f64,
    steps: usize,
}

impl Chain {
    fn new(max_growth: f64) -> Self {
        Chain {
            growth: 1.0,
            max_growth,
            steps: 0,
        }
    }

    fn add(&mut self, part: &Value, growth: &impl Fn(&str, &Value) -> Result<f64>) -> Result<()> {
        if part.is_null() {
            return Ok(());
        }
        let kind = part["type"].as_str().unwrap_or("");
        if kind == "Sequence" {
            let lists = ["normalizers", "pretokenizers", "processors", "decoders"];
            for step in lists.iter().filter_map(|name| part[name].as_array()) {
                step.iter().try_for_each(|s| self.add(s, growth))?;
            }
            return Ok(());
        }
        self.steps += 1;
        self.growth *= growth(kind, part)?;
        if self.steps > MAX_STEPS {
            return Err(format!("more than {MAX_STEPS} steps in a chain"));
        }
        if self.growth > self.max_growth {
            return Err(format!(
                "steps that may make a text {} times as long, more than {}",
                self.growth, self.max_growth
            ));
        }
        Ok(())
    }
}

fn growth_of_normalizer(kind: &str, part: &Value) -> Result<f64> {
    Ok(match kind {
        "Replace" => replacement_growth(part),
        "Prepend" => {
            let prepended = text_length(&part["prepend"]);
            if prepended > MAX_PREPENDED_BYTES {
                return Err(format!("{prepended} bytes put before texts"));
            }
            1.0 + prepended as f64
        }
        "Precompiled" => charsmap_growth(part["precompiled_charsmap"].as_str().unwrap_or(""))?,
        // U+FDFA, 3 bytes, is 33 bytes when decomposed for compatibility.
        "NFKC" | "NFKD" => 11.0,
        "NFC" | "NFD" | "Lowercase" => 3.0,
        // Spaces around Chinese characters, decomposition, lower case.
        "BertNormalizer" => 9.0,
        "ByteLevel" => 2.0,
        _ => 1.0,
    })
}

fn growth_of_pre_tokenizer(kind: &str, part: &Value) -> Result<f64> {
    Ok(match kind {
        "FixedLength" if part["length"] == 0 => {
            return Err("pieces of a fixed length of 0".into());
        }
        // A space is prepended, and every byte becomes up to two.
        "ByteLevel" => 4.0,
        // Prepended, and for every space.
        "Metaspace" => 2.0 * text_length(&part["replacement"]).max(1) as f64,
        _ => 1.0,
    })
}

fn growth_of_decoder(kind: &str, part: &Value) -> Result<f64> {
    Ok(match kind {
        "Replace" => replacement_growth(part),
        // A byte that is part of no character becomes U+FFFD.
        "ByteLevel" => 3.0,
        // A space before each token, or between all characters.
        "WordPiece" | "BPEDecoder" | "CTC" => 2.0,
        "Strip" if part["stop"] != 0 => {
            // The crate fails on every token shorter than that.
            return Err("a Strip decoder that cuts the end of tokens".into());
        }
        _ => 1.0,
    })
}

fn growth_of_post_processor(kind: &str, part: &Value, id_end: u32) -> Result<f64> {
    let check_id = |id: &Value| match id.as_u64() {
        Some(id) if id < u64::from(id_end) => Ok(()),
        _ => Err(format!(
            "the post-processor adds the token {id}, and ids end at {id_end}"
        )),
    };
    match kind {
        "BertProcessing" | "RobertaProcessing" => {
            check_id(&part["sep"][1])?;
            check_id(&part["cls"][1])?;
            Ok(3.0)
        }
        "TemplateProcessing" => template_growth(part, check_id),
        _ => Ok(1.0),
    }
}

/// Ids of special tokens are added once; sequences can be repeated.
fn template_growth(part: &Value, check_id: impl Fn(&Value) -> Result<()>) -> Result<f64> {
    let tokens = &part["special_tokens"];
    let mut sequences = 0;
    for name in ["single", "pair"] {
        let pieces = part[name].as_array().map_or(&[][..], Vec::as_slice);
        if pieces.len() > MAX_TEMPLATE_PIECES {
            return Err(format!("a template of {} pieces", pieces.len()));
        }
        for piece in pieces {
            let Some(id) = piece["SpecialToken"]["id"].as_str() else {
                sequences += 1;
                continue;
            };
            let ids = tokens[id]["ids"]
                .as_array()
                .ok_or_else(|| format!("the template names the unknown token \"{id}\""))?;
            if ids.len() > MAX_TEMPLATE_PIECES {
                return Err(format!("the token \"{id}\" of {} ids", ids.len()));
            }
            ids.iter().try_for_each(&check_id)?;
        }
    }
    Ok(f64::from(sequences).max(1.0))
}

fn text_length(value: &Value) -> usize {
    value.as_str().map_or(0, str::len)
}

fn check_pattern(pattern: &str) -> Result<()> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!("a pattern of {} bytes", pattern.len()));
    }
    let mut repetitions = 1;
    for counts in pattern.split('{').skip(1) {
        let counts = counts.split('}').next().unwrap_or("");
        for count in counts.split(',') {
            // What is no number is a name, such as in \p{L}.
            if !count.is_empty() && count.bytes().all(|c| c.is_ascii_digit()) {
                let count = count.parse().unwrap_or(u64::MAX);
                repetitions = count.max(1).saturating_mul(repetitions);
            }
        }
    }
    if repetitions > MAX_REPETITIONS {
        return Err(format!("a pattern with {repetitions} repetitions"));
    }
    Ok(())
}

fn replacement_growth(part: &Value) -> f64 {
    let content = text_length(&part["content"]) as f64;
    let matched = text_length(&part["pattern"]["String"]) as f64;
    // A regular expression, as an empty string, may match between any two
    // bytes.
    if matched > 0.0 {
        (content / matched).max(1.0)
    } else {
        1.0 + content
    }
}

/// SentencePiece's table: the size of a trie in bytes, the trie, then the
/// replacements, each ended by a 0. The crate reserves memory for the trie
/// before it looks whether the trie is there.
fn check_charsmap(charsmap: &str) -> Result<()> {
    if charsmap.len() > MAX_CHARSMAP_BYTES {
        return Err(format!(
            "a precompiled_charsmap of {} bytes",
            charsmap.len()
        ));
    }
    charsmap_replacements(&decode_base64(charsmap)?).map(|_| ())
}

/// The trie names any byte of the replacements as a beginning, so one is at
/// most the longest run without a 0.
fn charsmap_growth(charsmap: &str) -> Result<f64> {
    let bytes = decode_base64(charsmap)?;
    let replacements = charsmap_replacements(&bytes)?;
    let longest = replacements.split(|&b| b == 0).map(<[u8]>::len).max();
    Ok(longest.unwrap_or(0).max(1) as f64)
}

fn charsmap_replacements(bytes: &[u8]) -> Result<&[u8]> {
    let (size, rest) = bytes
        .split_first_chunk::<4>()
        .ok_or("a precompiled_charsmap without a size")?;
    let trie_bytes = u32::from_le_bytes(*size) as usize;
    rest.get(trie_bytes..)
        .ok_or_else(|| "a precompiled_charsmap shorter than its trie".into())
}

fn decode_base64(text: &str) -> Result<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err("a precompiled_charsmap that is not base64".into()),
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn real_chains_are_taken() {
        let llama = json!({"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
        assert_eq!(normalizer_growth(&llama).unwrap(), 12.0);
        let qwen = json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\p{N}"}, "behavior": "Isolated",
             "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false}]});
        assert_eq!(pre_tokenizer_growth(&qwen).unwrap(), 4.0);
        assert_eq!(pre_tokenizer_growth(&Value::Null).unwrap(), 1.0);
    }

    #[test]
    fn a_chain_that_doubles_is_refused() {
        let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
        let chain = |kind: &str, n| json!({"type": "Sequence", kind: vec![double.clone(); n]});
        normalizer_growth(&chain("normalizers", 10)).unwrap();
        normalizer_growth(&chain("normalizers", 11)).unwrap_err();
        check_decoder(&chain("decoders", 6)).unwrap();
        check_decoder(&chain("decoders", 7)).unwrap_err();
        let nested = json!({"type": "Sequence", "normalizers":
            [chain("normalizers", 6), chain("normalizers", 6)]});
        normalizer_growth(&nested).unwrap_err();
    }

    #[test]
    fn patterns_do_not_repeat_without_end() {
        check_pattern(r"\p{N}{1,3}| ?[^\s\p{L}]{2,}|\s{64}").unwrap();
        check_pattern(r"\b{1000000}").unwrap_err();
        check_pattern(r"((\b{100}){100}){100}").unwrap_err();
        check_pattern(r"a{99999999999999999999}").unwrap_err();
        let part = json!([{"type": "Split", "pattern": {"Regex": "a{9999}"}}]);
        check_unread(&part).unwrap_err();
    }

    #[test]
    fn a_charsmap_is_as_long_as_it_says() {
        // Size 0, one replacement of two bytes.
        assert_eq!(charsmap_growth("AAAAAGFiAA==").unwrap(), 2.0);
        // Size 2^30.
        charsmap_growth("AAAAQGFiAA==").unwrap_err();
        charsmap_growth("?").unwrap_err();
        charsmap_growth("").unwrap_err();
        let part = json!([{"type": "NFC", "precompiled_charsmap": "AAAAQGFiAA=="}]);
        check_unread(&part).unwrap_err();
    }

    #[test]
    fn a_template_adds_known_tokens_only() {
        let template = |id: &str| {
            json!({"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": id, "type_id": 0}},
                           {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [7], "tokens": ["<s>"]}}})
        };
        check_post_processor(&template("<s>"), 8).unwrap();
        check_post_processor(&template("<s>"), 7).unwrap_err();
        check_post_processor(&template("</s>"), 8).unwrap_err();
        let copies = json!({"type": "TemplateProcessing", "pair": [], "special_tokens": {},
            "single": vec![json!({"Sequence": {"id": "A", "type_id": 0}}); 200]});
        let twice = json!({"type": "Sequence", "processors": [copies.clone(), copies]});
        check_post_processor(&twice, 8).unwrap_err();
    }
}
