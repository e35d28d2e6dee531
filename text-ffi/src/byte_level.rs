//! The alphabet of byte-level vocabularies (GPT-2): every byte has a printable
//! character, so that "Ġthe" stands for the bytes of " the".

use std::sync::OnceLock;

/// The characters of the alphabet are below this.
const ALPHABET_END: usize = 0x144;

fn table() -> &'static [Option<u8>; ALPHABET_END] {
    static TABLE: OnceLock<[Option<u8>; ALPHABET_END]> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = [None; ALPHABET_END];
        let mut substitute = 0x100;
        for byte in 0..=255u8 {
            let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
            if printable {
                table[byte as usize] = Some(byte);
            } else {
                table[substitute] = Some(byte);
                substitute += 1;
            }
        }
        table
    })
}

/// The bytes that `token` stands for, or nothing if it has a character from
/// outside the alphabet (as added tokens may).
pub fn to_bytes(token: &str) -> Option<Vec<u8>> {
    let table = table();
    token
        .chars()
        .map(|c| table.get(c as usize).copied().flatten())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_has_every_byte_once() {
        let mut bytes: Vec<u8> = table().iter().flatten().copied().collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn known_tokens() {
        assert_eq!(to_bytes("Ġthe").unwrap(), b" the");
        assert_eq!(to_bytes("Ċ").unwrap(), b"\n");
        assert_eq!(to_bytes("Ã©").unwrap(), "é".as_bytes());
        assert_eq!(to_bytes("漢"), None);
    }
}
