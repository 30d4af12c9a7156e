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

/// Milliseconds since 1970 of a moment as the contract has it: `2026-11-21T04:47:18.257Z`; `None` if it is none.
pub fn moment_ms(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second, ms) = (number(11, 13)?, number(14, 16)?, number(17, 19)?, number(20, 23)?);
    if text.get(23..) != Some("Z") {
        return None;
    }
    // Years that begin in March, so that the leap day is the last of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000 + ms)
}

#[cfg(test)]
mod tests {
    #[test]
    fn moments_are_milliseconds_since_1970() {
        let cases = [
            ("1970-01-01T00:00:00.000Z", Some(0)),
            ("2000-02-29T23:59:59.999Z", Some(951_868_799_999)),
            ("2026-11-21T08:00:00.001Z", Some(1_795_248_000_001)),
            ("2026-11-21T08:00:00Z", None),
            ("", None),
        ];
        for (text, ms) in cases {
            assert_eq!(super::moment_ms(text), ms, "{text}");
        }
    }
}
