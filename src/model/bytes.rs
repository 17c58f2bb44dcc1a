//! Texts that hold every byte of a file, whatever encoding it is in: an operator's `pg_hba.conf` may have a comment in Latin-1.
//!
//! A byte that is part of no UTF-8 character stands as a character of its own at the end of Unicode's last private area, as
//! Python's "surrogateescape" does it with surrogates. The bytes of a true character of that range stand so, too: so whatever is
//! read is written back as it was.

/// The character before that of byte 0.
const BASE: u32 = 0x10_FF00;

fn character(byte: u8) -> char {
    char::from_u32(BASE + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Returns the byte for which a character stands; none where it stands for itself.
pub fn byte(character: char) -> Option<u8> {
    let byte = u32::from(character).checked_sub(BASE)?;
    u8::try_from(byte).ok().filter(|byte| *byte >= 0x80)
}

/// Returns the text of bytes.
pub fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut one = [0; 4];
    for chunk in bytes.utf8_chunks() {
        for valid in chunk.valid().chars() {
            match byte(valid) {
                None => text.push(valid),
                Some(_) => text.extend(valid.encode_utf8(&mut one).bytes().map(character)),
            }
        }
        text.extend(chunk.invalid().iter().copied().map(character));
    }
    text
}

/// Returns the bytes of a text.
pub fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut one = [0; 4];
    for character in text.chars() {
        match byte(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut one).as_bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_byte_comes_back(before in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(bytes(&text(&before)), before);
        }

        #[test]
        fn every_character_comes_back(before in ".*") {
            prop_assert_eq!(bytes(&text(before.as_bytes())), before.as_bytes());
        }
    }

    #[test]
    fn what_is_no_character_stands_for_its_byte() {
        assert_eq!(text(b"f\xfcr alle"), "f\u{10fffc}r alle");
        assert_eq!(text("für alle".as_bytes()), "für alle");
        for last in ['\u{10fffc}', '\u{10ffff}', '\u{10ff80}', '\u{10ff7f}'] {
            let before = last.to_string();
            assert_eq!(bytes(&text(before.as_bytes())), before.as_bytes());
        }
    }
}
