//! Decides whether a connection that holds the host's presence lock is a ghost of this daemon, and may be ended.

use std::collections::VecDeque;

use uuid::Uuid;

use super::messages::{HostRow, LockHolder};
use crate::mirror::error::DatabaseError;

/// Connections that are remembered: a ghost is one of the last.
const BACKENDS_MAX: usize = 16;

/// Connections that this daemon had before.
#[derive(Debug, Default)]
pub struct FormerConnections {
    /// The last generation in which this daemon was the writer.
    pub generation: Option<i64>,
    /// Server processes of the last connections, the newest first.
    backends: VecDeque<i32>,
}

impl FormerConnections {
    /// Remembers a connection.
    pub fn add(&mut self, backend_pid: i32) {
        self.backends.truncate(BACKENDS_MAX - 1);
        self.backends.push_front(backend_pid);
    }

    /// Whether another daemon became the writer after this one was.
    fn were_superseded(&self, row: &HostRow) -> bool {
        let is_ours = row.backend_pid.is_some_and(|pid| self.backends.contains(&pid));
        self.generation.is_some_and(|generation| row.generation > generation) && !is_ours
    }
}

/// Checks that `holder` is a ghost of the daemon with this state directory. From another daemon that took over from this one
/// the lock is not taken back.
pub fn check_ghost(
    row: &HostRow,
    holder: &LockHolder,
    instance_id: Uuid,
    former: &FormerConnections,
) -> Result<(), DatabaseError> {
    let is_ours = row.instance_id.is_none_or(|id| id == instance_id);
    if !is_ours || former.were_superseded(row) {
        return Err(DatabaseError::superseded());
    }
    // Before its first reconciliation a connection has the lock, and the row does not name it yet.
    if row.backend_pid == Some(holder.backend_pid) || holder.same_role {
        return Ok(());
    }
    let LockHolder { role, backend_pid, .. } = holder;
    Err(DatabaseError::permanent(
        format!("the role {role} (server process {backend_pid}) holds this host's lock"),
        "end that session, and take the right to connect from that role",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    /// Whether process 7, which holds the lock of a host at generation 5, may be ended.
    fn check(
        instance_id: Option<Uuid>,
        backend: i32,
        same_role: bool,
        former: &FormerConnections,
    ) -> Result<(), String> {
        let row = HostRow { host_no: 1, generation: 5, instance_id, backend_pid: Some(backend) };
        let holder = LockHolder { backend_pid: 7, same_role, role: "mallory".into() };
        check_ghost(&row, &holder, OURS, former).map_err(|error| error.message)
    }

    #[test]
    fn only_a_ghost_of_the_same_daemon_is_ended() {
        let new = FormerConnections::default();
        assert_eq!(check(Some(OURS), 7, false, &new), Ok(()));
        assert_eq!(check(Some(OURS), 6, true, &new), Ok(()));
        assert_eq!(check(None, 6, true, &new), Ok(()));
        let clone = check(Some(OTHER), 7, true, &new).unwrap_err();
        assert!(clone.contains("cloned machine-id or second daemon"), "{clone}");
        let forged = check(Some(OURS), 6, false, &new).unwrap_err();
        assert!(forged.contains("mallory"), "{forged}");
    }

    #[test]
    fn a_superseded_daemon_takes_nothing_back() {
        let mut former = FormerConnections { generation: Some(4), ..FormerConnections::default() };
        assert!(check(Some(OURS), 7, true, &former).is_err());
        // This daemon itself raised the generation, and the answer never came.
        former.add(7);
        assert_eq!(check(Some(OURS), 7, true, &former), Ok(()));
        former = FormerConnections { generation: Some(5), ..FormerConnections::default() };
        assert_eq!(check(Some(OURS), 7, true, &former), Ok(()));
    }
}
