//! The statements of a writer. Names of tables, columns and functions are those of the schema's migrations; whoever changes one
//! changes the other.

use super::columns::all_parameters;

/// First key of the presence lock; the second is the host's number.
pub const LOCK_CLASS: i32 = 1_868_723_062;

/// The channel of hints.
pub const CHANNEL: &str = "observer";

/// Reads the host's row: number, instance, generation, backend.
pub const FIND_HOST: &str =
    "SELECT host_no, instance_id, generation, backend_pid FROM observer.host WHERE host_id = $1";

/// Makes the row of a new host.
pub const INSERT_HOST: &str =
    "INSERT INTO observer.host (host_id, host) VALUES ($1, $2) ON CONFLICT (host_id) DO NOTHING";

/// Removes this backend from the host's row before the lock is taken: the number of a process is used again, and must not make
/// the state of an earlier connection look present.
pub const DISOWN: &str = "UPDATE observer.host SET backend_pid = NULL WHERE host_no = $1 AND backend_pid = pg_catalog.pg_backend_pid()";

/// Takes the presence lock if nobody holds it.
pub const TRY_LOCK: &str = "SELECT pg_catalog.pg_try_advisory_lock($1, $2)";

/// Reads who holds the lock: process, whether it is of the same role, and which role.
pub const LOCK_HOLDER: &str = "
    SELECT l.pid, a.usesysid IS NOT DISTINCT FROM r.oid, a.usename::text
    FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
    JOIN pg_catalog.pg_roles r ON r.rolname = current_user
    LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.classid = $1::int8::oid AND l.objid = $2::int8::oid AND l.objsubid = 2 AND l.granted
    LIMIT 1";

/// Ends a server process of the same role.
pub const END_BACKEND: &str = "SELECT pg_catalog.pg_terminate_backend($1)";

/// Makes this connection the host's writer, and the host present: the tokens of earlier generations find no row.
pub const BEGIN_GENERATION: &str = "
    UPDATE observer.host SET generation = generation + 1, backend_pid = pg_catalog.pg_backend_pid(), login = session_user,
        host = $2, boot_id = $3, instance_id = $4, version = $5
    WHERE host_no = $1
    RETURNING generation";

/// The same, with which readers recognize the connection by its name from here on ([`NAME_CONNECTION`]).
pub const BEGIN_NAMED_GENERATION: &str = "
    UPDATE observer.host SET generation = generation + 1, named_generation = generation + 1,
        backend_pid = pg_catalog.pg_backend_pid(), login = session_user, host = $2, boot_id = $3, instance_id = $4, version = $5
    WHERE host_no = $1
    RETURNING generation";

/// Gives the connection the name that the views expect of the host's writer.
pub const NAME_CONNECTION: &str = "SELECT pg_catalog.set_config('application_name', 'observer ' || $1::integer || ' ' || $2::bigint, false)";

/// Notes how far the host's clock is ahead of the server's: host, token, µs. Clocks that are further apart than the column allows
/// are noted as so far apart.
pub const NOTE_CLOCK: &str = "
    UPDATE observer.host SET clock_ahead = least(greatest($3::bigint, -3153600000000000), 3153600000000000) * interval '1 microsecond'
    WHERE host_no = $1 AND generation = $2 AND backend_pid = pg_catalog.pg_backend_pid()";

/// Adds the user to the keys of sessions that a daemon of an earlier version wrote. The connection has to be the host's writer.
pub const REKEY_SESSIONS: &str = "SELECT observer.rekey_sessions($1)";

/// Records how the state stands after a reconciliation.
pub const SETTLE_HOST: &str = "
    UPDATE observer.host SET certain = $3, caught_up = $4, last_commit_at = pg_catalog.now()
    WHERE host_no = $1 AND generation = $2 AND backend_pid = pg_catalog.pg_backend_pid()";

/// Compares the event of a number with the journal's entry of that number. No row: the event was dropped. A gap that stands for
/// an entry that was refused has only the time and the boot of that entry.
pub const SAME_EVENT: &str = "
    SELECT (e.at, e.boot_id) IS NOT DISTINCT FROM ($4::timestamptz, $6::uuid)
        AND ((e.kind = 'gap' AND e.detail ->> 'reason' = 'rejected') IS TRUE
            OR (e.kind, e.pid, e.start_boottime_ns) IS NOT DISTINCT FROM ($5::text, $7::integer, $8::bigint))
    FROM observer.event e
    WHERE e.host_no = $1 AND e.stream_id = $2 AND e.seq = $3
    LIMIT 1";

/// Makes the cursor of a stream, and ends rows that the map does not know: host, token, stream, known keys. Null: the connection
/// is not the host's writer.
pub const BEGIN_RECONCILIATION: &str = "SELECT observer.begin_reconciliation($1, $2, $3, $4)";

/// Writes a part of the map in a reconciliation: host, token, keys, bodies, deaths. False: the connection is not the host's writer.
pub const RECONCILE_SESSIONS: &str = "SELECT observer.reconcile_sessions($1, $2, $3, $4, $5)";

/// Marks a row that could not be written as not certain: host, token, key. False: the connection is not the host's writer.
pub const DOUBT_SESSION: &str = "SELECT observer.doubt_session($1, $2, $3)";

/// Writes one batch by the function for it. A connection that is not the host's writer any more, or not at that point of
/// the stream, writes nothing. Returns how many rows of host and cursor were found. The parameters are those of [`super::columns`].
pub fn deliver() -> String {
    format!("SELECT hosts, cursors FROM observer.deliver({})", all_parameters())
}

/// Makes the partitions of the next days, and drops those of days that are long over.
pub const MAINTAIN: &str = "SELECT observer.maintain()";

/// Marks the state as not caught up, since a batch cannot be written. Whoever holds up the batch may hold up this too, so it
/// does not wait for long.
pub const MARK_BEHIND: &str = "
    UPDATE observer.host SET caught_up = false
    FROM (SELECT pg_catalog.set_config('lock_timeout', '250ms', true) AS it) AS wait
    WHERE wait.it IS NOT NULL AND host_no = $1 AND generation = $2 AND backend_pid = pg_catalog.pg_backend_pid()";

/// Reads the host's generation, after a batch that wrote nothing; no row: the host was removed.
pub const GENERATION: &str = "SELECT generation FROM observer.host WHERE host_no = $1";

/// Sends the hint.
pub const NOTIFY: &str = "SELECT pg_catalog.pg_notify($1, $2)";
