//! Bytes that processes choose (comm, argv, paths, names) as text: without loss in JSON, and without control characters
//! for people.
//!
//! **JSON.** Valid UTF-8 stands as it is. A byte that belongs to no valid sequence becomes the one private-use
//! character U+10FE00 + byte (U+10FE80 to U+10FEFF). Where the text itself holds one of those characters, each of
//! its four bytes is escaped that way: so the way back is unambiguous, and ordinary text, backslashes included,
//! is never changed.
//!
//! **Lines for people and scripts.** Everything that could break a line, a column or a terminal is written out:
//! `\n`, `\t`, `\r`, `\\`, `\xNN` for other control bytes and bytes that are no UTF-8, `\u{…}` for control, format
//! (bidi, zero-width), private-use and unassigned characters.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::ser::{Serialize, Serializer};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Byte `b` (0x80 to 0xff) is escaped in JSON as the character `JSON_ESCAPE_BASE + b`.
const JSON_ESCAPE_BASE: u32 = 0x10_fe00;

/// Bytes in a JSON string, escaped as described above.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Text<'a>(pub Cow<'a, [u8]>);

impl<'a> From<&'a [u8]> for Text<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for Text<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Cow::Owned(bytes))
    }
}

impl Text<'_> {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_json(&self.0))
    }
}

impl<'de> Deserialize<'de> for Text<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unescape;
        impl Visitor<'_> for Unescape {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Vec<u8>, E> {
                Ok(from_json(text))
            }
        }
        deserializer.deserialize_str(Unescape).map(Self::from)
    }
}

/// A 64-bit value in a JSON string: readers round numbers above 2^53.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Big(pub u64);

impl Serialize for Big {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Big {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = Cow::<str>::deserialize(deserializer)?;
        digits.parse().map(Self).map_err(D::Error::custom)
    }
}

/// `bytes` as the content of a JSON string, before JSON's own escaping.
pub fn to_json(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        // Escape characters begin with 0xf4: without it there is none.
        Ok(text) if !bytes.contains(&0xf4) || !text.chars().any(is_json_escape) => Cow::Borrowed(text),
        _ => Cow::Owned(escape_json(bytes)),
    }
}

/// The bytes that [`to_json`] was given.
pub fn from_json(text: &str) -> Vec<u8> {
    if !text.as_bytes().contains(&0xf4) {
        return text.as_bytes().to_vec();
    }
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        if is_json_escape(c) {
            bytes.push((u32::from(c) - JSON_ESCAPE_BASE) as u8);
        } else {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    bytes
}

fn is_json_escape(c: char) -> bool {
    (JSON_ESCAPE_BASE + 0x80..=JSON_ESCAPE_BASE + 0xff).contains(&u32::from(c))
}

fn escape_json(bytes: &[u8]) -> String {
    let escaped =
        |byte: u8| char::from_u32(JSON_ESCAPE_BASE + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER);
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_json_escape(c) {
                text.extend(c.encode_utf8(&mut [0; 4]).bytes().map(escaped));
            } else {
                text.push(c);
            }
        }
        text.extend(chunk.invalid().iter().copied().map(escaped));
    }
    text
}

/// `bytes` as a part of a line, without characters that change the terminal or the line.
pub fn to_line(bytes: &[u8]) -> Cow<'_, str> {
    if bytes.iter().all(|&byte| (b' '..=b'~').contains(&byte) && byte != b'\\') {
        return Cow::Borrowed(std::str::from_utf8(bytes).unwrap_or_default());
    }
    let mut line = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_char(&mut line, c);
        }
        for byte in chunk.invalid() {
            push_byte(&mut line, *byte);
        }
    }
    Cow::Owned(line)
}

/// Characters of a value from outside that a message quotes.
const QUOTED_CHARS_MAX: usize = 60;

/// `text` in quotes, for a message: without characters that change the terminal or the line, and cut to
/// [`QUOTED_CHARS_MAX`] characters.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// `text` as one line. Unlike [`to_line`], this leaves backslashes as they are: parts of `text` may be escaped already.
pub fn to_one_line(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c == '\\' { line.push(c) } else { push_char(&mut line, c) }
    }
    Cow::Owned(line)
}

/// The bytes that [`to_line`] was given; `None` if it cannot have produced `line`'s escapes.
#[cfg(test)]
pub fn from_line(line: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let kind = escaped.chars().next()?;
        rest = escaped.get(kind.len_utf8()..)?;
        match kind {
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            'r' => bytes.push(b'\r'),
            '\\' => bytes.push(b'\\'),
            'x' => {
                bytes.push(u8::from_str_radix(rest.get(..2)?, 16).ok()?);
                rest = rest.get(2..)?;
            }
            'u' => {
                let (digits, after) = rest.strip_prefix('{')?.split_once('}')?;
                let c = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
            }
            _ => return None,
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

fn push_char(line: &mut String, c: char) {
    match c {
        '\n' => line.push_str("\\n"),
        '\t' => line.push_str("\\t"),
        '\r' => line.push_str("\\r"),
        '\\' => line.push_str("\\\\"),
        ' '..='~' => line.push(c),
        '\0'..='\x1f' | '\x7f' => push_byte(line, c as u8),
        // A mark with nothing before it would join what stands to the left of the name.
        _ if is_unsafe(c) || (line.is_empty() && is_mark(c)) => {
            // Writing to a String cannot fail.
            let _ = write!(line, "\\u{{{:x}}}", u32::from(c));
        }
        _ => line.push(c),
    }
}

fn push_byte(line: &mut String, byte: u8) {
    let _ = write!(line, "\\x{byte:02x}");
}

/// Characters that move the cursor, reorder or hide text, or that have no defined appearance.
fn is_unsafe(c: char) -> bool {
    use GeneralCategory as Category;
    matches!(
        c.general_category(),
        Category::Control
            | Category::Format
            | Category::LineSeparator
            | Category::ParagraphSeparator
            | Category::PrivateUse
            | Category::Surrogate
            | Category::Unassigned
    ) || is_invisible(c)
}

fn is_mark(c: char) -> bool {
    use GeneralCategory as Category;
    matches!(c.general_category(), Category::NonspacingMark | Category::EnclosingMark | Category::SpacingMark)
}

/// Default-ignorable characters outside the categories above, and spaces that resemble others (Unicode 16,
/// DerivedCoreProperties.txt).
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}'
        | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{2800}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_text_stands_as_it_is_in_json() {
        for text in ["", "plain", r"back\slash \x41 \u{41}", "grüße/日本/👩‍🚀", "tab\tnewline\n", "\u{fffd}"]
        {
            assert_eq!(to_json(text.as_bytes()), text);
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_become_private_characters_and_come_back() {
        assert_eq!(to_json(b"a\xff\xc3b"), "a\u{10feff}\u{10fec3}b");
        let own = "\u{10fe80}".as_bytes();
        assert_eq!(to_json(own), "\u{10fef4}\u{10fe8f}\u{10feba}\u{10fe80}");
        assert_eq!(from_json(&to_json(own)), own);
        assert_eq!(
            serde_json::to_string(&Text::from(&b"x\n\x1b\xfe"[..])).unwrap(),
            "\"x\\n\\u001b\u{10fefe}\""
        );
    }

    #[test]
    fn lines_show_what_would_break_them() {
        let cases: [(&[u8], &str); 9] = [
            (b"plain name", "plain name"),
            (b"a\nb\tc\rd\\e", r"a\nb\tc\rd\\e"),
            (b"\x1b[31mred\x07\x7f", r"\x1b[31mred\x07\x7f"),
            (b"\xff\xfe", r"\xff\xfe"),
            ("\u{202e}evil\u{2066}".as_bytes(), r"\u{202e}evil\u{2066}"),
            ("zero\u{200b}width\u{feff}".as_bytes(), r"zero\u{200b}width\u{feff}"),
            ("\u{85}\u{2028}\u{9b}".as_bytes(), r"\u{85}\u{2028}\u{9b}"),
            ("\u{301}e\u{301}".as_bytes(), "\\u{301}e\u{301}"),
            ("grüße 日本".as_bytes(), "grüße 日本"),
        ];
        for (bytes, line) in cases {
            assert_eq!(to_line(bytes), line);
        }
    }

    /// Bytes with more UTF-8, escapes and hostile characters in them than chance would give.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<Vec<u8>>(),
            any::<String>().prop_map(String::into_bytes),
            (0x10_fe00u32..0x10_ff00)
                .prop_filter_map("char", char::from_u32)
                .prop_map(|c| c.to_string().into_bytes()),
            prop_oneof![Just(r"\x41"), Just(r"\u{41}"), Just("\\"), Just("\u{202e}"), Just("\n")]
                .prop_map(|text| text.as_bytes().to_vec()),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn json_is_lossless(bytes in hostile()) {
            prop_assert_eq!(from_json(&to_json(&bytes)), bytes.clone());
            let document = serde_json::to_string(&Text::from(&bytes[..])).unwrap();
            prop_assert!(!document.contains('\n'));
            let back: Text<'_> = serde_json::from_str(&document).unwrap();
            prop_assert_eq!(back.as_bytes(), &bytes[..]);
        }

        #[test]
        fn lines_are_lossless_and_harmless(bytes in hostile()) {
            let line = to_line(&bytes);
            prop_assert!(!line.chars().any(|c| c.is_control() || is_unsafe(c)));
            prop_assert_eq!(from_line(&line), Some(bytes.clone()));
        }
    }
}
