//! Reading observer's JSON: bytes behind its escape, and 64-bit values behind strings.

use serde_json::Value;

/// Bytes that are no UTF-8 stand in observer's JSON as these characters, one a byte: U+10FE00 + byte.
const ESCAPES: std::ops::RangeInclusive<char> = '\u{10fe80}'..='\u{10feff}';

/// The bytes that a JSON string of observer stands for: docs/json.md.
pub fn decode(shown: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for c in shown.chars() {
        if ESCAPES.contains(&c) {
            bytes.push((u32::from(c) & 0xff) as u8);
        } else {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    bytes
}

/// The bytes of a string field; `None` where it is absent or null.
pub fn bytes(object: &Value, field: &str) -> Option<Vec<u8>> {
    object.get(field)?.as_str().map(decode)
}

/// A 64-bit value, which the contract has as a string; `None` where it is absent, null or anything else.
pub fn u64_string(object: &Value, field: &str) -> Option<u64> {
    object.get(field)?.as_str()?.parse().ok()
}

/// A value that the contract leaves free to be a number or a string.
pub fn u64_any(object: &Value, field: &str) -> Option<u64> {
    let value = object.get(field)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
