//! What a session left behind, in JSON.

use observer_core::death::LeftProcesses;
use serde::{Deserialize, Serialize};

use super::cost::bytes_of_pages;
use super::key::LifeKey;
use crate::text::size::size;

/// What was born in the session and outlived it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeftJson {
    /// The number of processes.
    pub processes: u32,
    /// The memory that they had when they were counted, bytes; null where it is not known. What several share counts for each.
    pub rss_bytes: Option<u64>,
    /// The keys of the processes, at most 64.
    pub keys: Vec<String>,
}

impl LeftJson {
    /// The JSON of what was left in the boot `boot_id`.
    pub fn new(left: &LeftProcesses, boot_id: &str) -> Self {
        let key = |key: &observer_core::ProcessKey| LifeKey::of(boot_id, *key).to_string();
        Self {
            processes: left.processes,
            rss_bytes: left.rss_pages.and_then(bytes_of_pages),
            keys: left.keys.iter().map(key).collect(),
        }
    }

    /// For people: `left 9 processes, 2.5 GB`. `None`: nothing was left.
    pub fn describe(&self) -> Option<String> {
        let processes = match self.processes {
            0 => return None,
            1 => "1 process".into(),
            count => format!("{count} processes"),
        };
        let memory = self.rss_bytes.map(|bytes| format!(", {}", size(bytes)));
        Some(format!("left {processes}{}", memory.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_told_in_a_few_words() {
        let left = |processes, rss_bytes| LeftJson { processes, rss_bytes, keys: Vec::new() }.describe();
        assert_eq!(left(0, Some(0)), None);
        assert_eq!(left(1, None).as_deref(), Some("left 1 process"));
        assert_eq!(left(9, Some(2_500_000_000)).as_deref(), Some("left 9 processes, 2.5 GB"));
    }
}
