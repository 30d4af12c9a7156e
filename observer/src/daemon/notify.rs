//! Messages to the service manager.

use tracing::error;

/// Notifies the service manager, if there is one.
pub fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        error!("the service manager could not be notified ({error}); look at NOTIFY_SOCKET");
    }
}
