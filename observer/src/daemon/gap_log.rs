//! Warnings that events were lost.

use observer_core::BootTime;
use tracing::warn;

/// Shortest interval between two log messages about gaps, ns.
const GAP_LOG_NS: u64 = 10_000_000_000;

/// When the last warning was logged.
#[derive(Debug, Default)]
pub struct GapLog {
    logged_at: Option<BootTime>,
}

impl GapLog {
    /// Logs that events were lost, but not once for each of many gaps.
    pub fn log(&mut self, at: BootTime) {
        if self.logged_at.is_none_or(|logged| at.since(logged) >= GAP_LOG_NS) {
            self.logged_at = Some(at);
            warn!("events were lost; the kernel is read again. If this repeats, raise --ring-bytes");
        }
    }
}
