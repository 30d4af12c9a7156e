//! Reading observer's JSON: bytes behind its escape, and 64-bit values behind strings.

use serde_json::Value;

/// The bytes that a JSON string of observer stands for: docs/json.md, "Bytes".
pub fn decode(shown: &str) -> Vec<u8> {
    shown.as_bytes().to_vec()
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
