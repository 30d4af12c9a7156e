//! The protocol between a test and its puppets: a line each way, words in hexadecimal, so that any bytes pass.

/// A line of words, newline included. An empty word is written as `-`.
pub fn line(words: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        if word.is_empty() {
            out.push(b'-');
        }
        for byte in word {
            out.extend_from_slice(format!("{byte:02x}").as_bytes());
        }
    }
    out.push(b'\n');
    out
}

/// The line that answers a request: `ok` and numbers, or `failed` and why.
pub fn answer(done: std::io::Result<Vec<u64>>) -> Vec<u8> {
    match done {
        Ok(numbers) => {
            let numbers = numbers.iter().map(|number| number.to_string().into_bytes());
            line(&std::iter::once(b"ok".to_vec()).chain(numbers).collect::<Vec<_>>())
        }
        Err(error) => line(&[b"failed".to_vec(), error.to_string().into_bytes()]),
    }
}

/// The words of a line; `None` if it is not one that [`line`] makes.
pub fn words(line: &str) -> Option<Vec<Vec<u8>>> {
    line.trim_end_matches('\n').split(' ').map(word).collect()
}

fn word(text: &str) -> Option<Vec<u8>> {
    if text == "-" {
        return Some(Vec::new());
    }
    if text.is_empty() || !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

/// CLOCK_BOOTTIME, ns: the domain of `start_boottime`.
pub fn boottime_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec for the kernel to fill.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::{line, words};

    #[test]
    fn any_bytes_pass() {
        let sent = vec![b"chdir".to_vec(), vec![0, 10, 0xff, b' '], Vec::new()];
        let text = String::from_utf8(line(&sent)).expect("hexadecimal is ASCII");
        assert_eq!(words(&text), Some(sent));
    }

    #[test]
    fn what_is_not_a_line_is_none() {
        for wrong in ["", "6", "zz", "61  62", "é1"] {
            assert_eq!(words(wrong), None, "{wrong:?}");
        }
    }
}
