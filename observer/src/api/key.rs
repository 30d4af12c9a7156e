//! The identity of one life of a process, as one word that scripts carry.

use std::fmt;

use observer_core::ProcessKey;

/// No process that anybody asks for starts earlier, boot time in ns.
const START_MIN_NS: u64 = 1 << 24;

/// `BOOT-PID-START`: the boot id up to its first dash, the tgid, and the start in boot time (ns, hexadecimal), as in
/// `7f3e90ab-4242-1a2b3c4d5e`. A pid that is given again has another key, and so has each boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LifeKey<'a> {
    boot: &'a str,
    pid: u32,
    start_boottime_ns: u64,
}

impl<'a> LifeKey<'a> {
    /// The key of a process, in the boot with this id.
    pub fn of(boot_id: &'a str, key: ProcessKey) -> Self {
        let boot = boot_id.split('-').next().unwrap_or_default();
        Self { boot, pid: key.tgid.0, start_boottime_ns: key.start_boottime.0 }
    }

    /// The key that is written so; `None`: it is none. Names that begin with a date (`20261128-1-2`) are none: nothing
    /// starts so soon after a boot.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(text).ok()?.split('-');
        let (boot, pid, start) = (parts.next()?, parts.next()?, parts.next()?);
        let is_boot = boot.len() == 8 && boot.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let key =
            Self { boot, pid: pid.parse().ok()?, start_boottime_ns: u64::from_str_radix(start, 16).ok()? };
        // Each key is written in one way only.
        let is_spelled_so = parts.next().is_none() && key.to_string().as_bytes() == text;
        (is_boot && is_spelled_so && key.start_boottime_ns >= START_MIN_NS).then_some(key)
    }

    /// The tgid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The process, if it is one of the boot with this id.
    pub fn process(&self, boot_id: &str) -> Option<ProcessKey> {
        let is_of_boot = boot_id.split('-').next() == Some(self.boot);
        is_of_boot.then(|| ProcessKey::new(self.pid, self.start_boottime_ns))
    }
}

impl fmt::Display for LifeKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{:x}", self.boot, self.pid, self.start_boottime_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_word_that_is_read_again() {
        let key = LifeKey::of("7f3e90ab-1234-4567-89ab-cdef01234567", ProcessKey::new(4242, 0x1a_2b3c_4d5e));
        assert_eq!(key.to_string(), "7f3e90ab-4242-1a2b3c4d5e");
        assert_eq!(LifeKey::parse(b"7f3e90ab-4242-1a2b3c4d5e"), Some(key));
        assert_eq!(key.process("7f3e90ab-1"), Some(ProcessKey::new(4242, 0x1a_2b3c_4d5e)));
        assert_eq!(key.process("8f3e90ab-1"), None);
        assert_eq!(key.pid(), 4242);
    }

    #[test]
    fn names_and_other_spellings_are_no_keys() {
        let none = [
            "alpha",
            "7f3e90ab-4242",
            "7f3e90ab-4242-1a2b3c4d5e-2",
            "7f3e90ab-04242-1a2b3c4d5e",
            "7f3e90ab-4242-01a2b3c4d5e",
            "7f3e90ab-4242-1A2b3c4d5e",
            "7f3e90ab-+4242-1a2b3c4d5e",
            "7f3e90a-4242-1a2b3c4d5e",
            "7f3e90ag-4242-1a2b3c4d5e",
            "7F3e90ab-4242-1a2b3c4d5e",
            "20261128-1-2",
            "20261128-20-2026",
            "/7f3e90ab-4242-1a2b3c4d5e",
            "",
        ];
        for text in none {
            assert_eq!(LifeKey::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(LifeKey::parse(b"\xff"), None);
    }
}
