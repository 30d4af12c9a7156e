//! Brings a file of an earlier version to this one, in place: nothing of it is lost, and its stream goes on.

use rusqlite::{Connection, TransactionBehavior};

use super::live;
use super::tables::SCHEMA_VERSION;

/// The oldest version that is brought to this one.
pub const OLDEST_VERSION: i32 = 2;

/// Version 2 knew no users and no instances: `live` had one row for each home.
const PUT_ASIDE: &str = "
    ALTER TABLE entry ADD COLUMN uid INTEGER;
    ALTER TABLE entry ADD COLUMN instance INTEGER;
    ALTER TABLE live RENAME TO live_of_homes;";

/// The user is the one in the JSON of the session's last entry. Where that names none, it is 0, as
/// [`crate::api::session::SessionJson`] reads it.
const TAKE_OVER: &str = "
    INSERT INTO live
        (home, home_mnt_ns, uid, instance, seq, at_unix_ns, boottime_ns, kind, name, pid, start_boottime_ns, boot_id,
        detail)
    SELECT home, home_mnt_ns, CASE WHEN typeof(uid) = 'integer' AND uid BETWEEN 0 AND 4294967295 THEN uid ELSE 0 END,
        1, seq, at_unix_ns, boottime_ns, kind, name, pid, start_boottime_ns, boot_id, detail
    FROM (SELECT of_home.*, CASE WHEN json_valid(coalesce(of_home.detail, entry.detail))
            THEN json_extract(coalesce(of_home.detail, entry.detail), '$.uid') END AS uid
        FROM live_of_homes AS of_home LEFT JOIN entry ON entry.seq = of_home.seq);
    DROP TABLE live_of_homes;";

/// Brings the tables from `version`, which is not older than [`OLDEST_VERSION`], to this one, in one transaction.
pub fn migrate(conn: &mut Connection, version: i32) -> rusqlite::Result<()> {
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(PUT_ASIDE)?;
    tx.execute_batch(live::SCHEMA)?;
    tx.execute_batch(TAKE_OVER)?;
    tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    tx.commit()
}
