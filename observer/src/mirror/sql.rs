//! The statements. Names of tables and columns are those of the schema's migrations; whoever changes one changes the other.

/// First key of the presence lock; the second is the host's number.
pub const LOCK_CLASS: i32 = 1_868_723_062;

/// The channel of hints.
pub const CHANNEL: &str = "observer";

/// The host's row: number, instance, generation, backend.
pub const FIND_HOST: &str = "SELECT host_no, instance_id::text, generation, backend_pid FROM observer.host WHERE host_id = $1::text::uuid";

/// A host that is new here.
pub const INSERT_HOST: &str =
    "INSERT INTO observer.host (host_id, host) VALUES ($1::text::uuid, $2) ON CONFLICT (host_id) DO NOTHING";

/// Before the lock is taken: a process number that comes again must not make a former connection's state look present.
pub const DISOWN: &str = "UPDATE observer.host SET backend_pid = NULL WHERE host_no = $1 AND backend_pid = pg_catalog.pg_backend_pid()";

/// Takes the presence lock, or does not.
pub const TRY_LOCK: &str = "SELECT pg_catalog.pg_try_advisory_lock($1, $2)";

/// Who holds it: process, whether it is of our role, and which role.
pub const LOCK_HOLDER: &str = "
    SELECT l.pid, a.usesysid IS NOT DISTINCT FROM r.oid, a.usename::text
    FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database()
    JOIN pg_catalog.pg_roles r ON r.rolname = current_user
    LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.classid = $1::int8::oid AND l.objid = $2::int8::oid AND l.objsubid = 2 AND l.granted
    LIMIT 1";

/// Ends a server process of our own role.
pub const END_BACKEND: &str = "SELECT pg_catalog.pg_terminate_backend($1)";

/// This daemon writes from here on, and nobody else: earlier generations find no row. With it the host is present.
pub const BEGIN_GENERATION: &str = "
    UPDATE observer.host SET generation = generation + 1, backend_pid = pg_catalog.pg_backend_pid(), login = session_user,
        host = $2, boot_id = $3::text::uuid, instance_id = $4::text::uuid, version = $5
    WHERE host_no = $1
    RETURNING generation";

/// How the state stands after a reconcile.
pub const SETTLE_HOST: &str = "
    UPDATE observer.host SET certain = $3, caught_up = $4, last_commit_at = pg_catalog.now()
    WHERE host_no = $1 AND generation = $2 AND backend_pid = pg_catalog.pg_backend_pid()";

/// The cursor of a stream, which is made if it is not there.
pub const CURSOR: &str = "
    INSERT INTO observer.stream (host_no, stream_id, last_seq) VALUES ($1, $2::text::uuid, 0)
    ON CONFLICT (host_no, stream_id) DO NOTHING";

/// See [`CURSOR`].
pub const READ_CURSOR: &str =
    "SELECT last_seq FROM observer.stream WHERE host_no = $1 AND stream_id = $2::text::uuid";

/// Whether the event of a number is the journal's entry of that number. No row: the event was dropped. A gap stands for one
/// that was refused.
pub const SAME_EVENT: &str = "
    SELECT (e.kind = 'gap' AND e.detail ->> 'reason' = 'rejected') IS TRUE OR (e.at, e.kind, e.boot_id, e.pid, e.start_boottime_ns)
        IS NOT DISTINCT FROM ($4::timestamptz, $5::text, nullif($6::text, '')::uuid, $7::integer, $8::bigint)
    FROM observer.event e
    WHERE e.host_no = $1 AND e.stream_id = $2::text::uuid AND e.seq = $3
    LIMIT 1";

/// Rows whose home the map does not know: no session is there any more. `$3`: history that is still to come tells how it
/// ended; else, where it was of another boot, nobody saw its process go, and that is not dated: any death that arrives is
/// newer. A process of this boot may live on as no session.
pub const END_UNKNOWN: &str = "
    UPDATE observer.session s SET state = 'ended', since = pg_catalog.now(), certain = true, roots = 0, wrapper_pid = NULL,
        last_death_at = CASE WHEN e.unseen THEN NULL ELSE last_death_at END,
        last_death_kind = CASE WHEN e.unseen THEN 'unobserved' ELSE last_death_kind END,
        last_death_signal = CASE WHEN e.unseen THEN NULL ELSE last_death_signal END,
        last_death_code = CASE WHEN e.unseen THEN NULL ELSE last_death_code END,
        detail = detail || pg_catalog.jsonb_build_object('state', 'ended', 'since', pg_catalog.now(), 'roots', 0, 'wrapper_pid', NULL)
    FROM (SELECT o.home_id, NOT $3 AND o.boot_id IS DISTINCT FROM h.boot_id AS unseen
        FROM observer.session o JOIN observer.host h USING (host_no)
        WHERE o.host_no = $1 AND o.state <> 'ended' AND o.home_id <> ALL ($2::bytea[])) AS e
    WHERE s.host_no = $1 AND s.home_id = e.home_id";

/// Columns of a session that stand in its JSON under the same name, with their types there.
const COLUMNS: [(&str, &str); 22] = [
    ("home", "text"),
    ("home_mnt_ns", "bigint"),
    ("name", "text"),
    ("boot_id", "uuid"),
    ("pid", "integer"),
    ("start_boottime_ns", "bigint"),
    ("started_at", "timestamptz"),
    ("exec_at", "timestamptz"),
    ("tty", "text"),
    ("pane", "text"),
    ("mux", "text"),
    ("mux_socket", "text"),
    ("cwd", "text"),
    ("comm", "text"),
    ("argv", "text[]"),
    ("username", "text"),
    ("uid", "bigint"),
    ("state", "text"),
    ("since", "timestamptz"),
    ("roots", "integer"),
    ("wrapper_pid", "integer"),
    ("starts", "timestamptz[]"),
];

/// Columns of the last death: beside the name in the row the name in its JSON.
const DEATH: [(&str, &str, &str); 4] = [
    ("last_death_at", "at", "timestamptz"),
    ("last_death_kind", "kind", "text"),
    ("last_death_signal", "signal", "integer"),
    ("last_death_code", "code", "integer"),
];

/// Inserts rows of the state out of `r(home_id, row, death)`, or updates what differs. `from` gives `host_no` and `r`.
fn upsert(from: &str) -> String {
    let names = COLUMNS.map(|(name, _)| name).join(", ");
    let values = COLUMNS.map(|(name, _)| format!("x.{name}")).join(", ");
    let types = COLUMNS.map(|(name, kind)| format!("{name} {kind}")).join(", ");
    let updates = COLUMNS.map(|(name, _)| format!("{name} = excluded.{name}")).join(", ");
    let deaths = DEATH.map(|(name, ..)| name).join(", ");
    let death_values = DEATH.map(|(_, field, _)| format!("d.{field}")).join(", ");
    let death_types = DEATH.map(|(_, field, kind)| format!("{field} {kind}")).join(", ");
    // A death stays told when the home lives again. One that comes with the state is the last, whatever the clocks say.
    let told = "excluded.last_death_at IS NOT NULL";
    let death_updates =
        DEATH.map(|(name, ..)| format!("{name} = CASE WHEN {told} THEN excluded.{name} ELSE s.{name} END"));
    let differ = |names: &[&str]| {
        let row_of =
            |row: &str| names.iter().map(|name| format!("{row}.{name}")).collect::<Vec<_>>().join(", ");
        format!("({}) IS DISTINCT FROM ({})", row_of("s"), row_of("excluded"))
    };
    let differs = differ(&DEATH.map(|(name, ..)| name));
    // Somebody may have edited a column and not the JSON that it was taken from.
    let edited = differ(&COLUMNS.map(|(name, _)| name));
    format!(
        "INSERT INTO observer.session AS s (host_no, home_id, certain, detail, {names}, {deaths})
         SELECT h.host_no, r.home_id, true, r.body::jsonb, {values}, {death_values}
         FROM {from}
         CROSS JOIN LATERAL pg_catalog.jsonb_to_record(r.body::jsonb) AS x({types})
         CROSS JOIN LATERAL pg_catalog.jsonb_to_record(coalesce(r.death, '{{}}')::jsonb) AS d({death_types})
         WHERE r.body IS NOT NULL
         ON CONFLICT (host_no, home_id) DO UPDATE SET certain = true, detail = excluded.detail, {updates}, {}
         WHERE s.detail IS DISTINCT FROM excluded.detail OR NOT s.certain OR {edited} OR ({told} AND {differs})",
        death_updates.join(", ")
    )
}

/// A part of the map, in a reconcile: host, home ids, rows, deaths.
pub fn reconcile_rows() -> String {
    upsert(
        "(SELECT $1::integer AS host_no) AS h
         CROSS JOIN unnest($2::bytea[], $3::text[], $4::text[]) AS r(home_id, body, death)",
    )
}

/// A row that could not be written is not sure.
pub const DOUBT: &str =
    "UPDATE observer.session SET certain = false WHERE host_no = $1 AND home_id = $2 AND certain";

/// Makes the days that come, drops those that are over for long.
pub const MAINTAIN: &str = "SELECT observer.maintain()";

/// One batch, in one statement: whoever is no longer the writer, or not at that point of the stream, writes nothing. Gives
/// how many rows of host and cursor were found. Parameters: [`super::write`].
pub fn batch() -> String {
    let upsert = upsert("cursor AS h CROSS JOIN state AS r");
    let deaths = DEATH.map(|(name, field, _)| format!("{name} = d.{field}")).join(", ");
    let death_types = DEATH.map(|(_, field, kind)| format!("{field} {kind}")).join(", ");
    format!(
        "WITH host AS (
            UPDATE observer.host SET certain = coalesce($3, certain), caught_up = $4,
                last_commit_at = CASE WHEN $4 THEN pg_catalog.now() ELSE last_commit_at END
            WHERE host_no = $1 AND generation = $2 AND backend_pid = pg_catalog.pg_backend_pid()
            RETURNING host_no),
        cursor AS (
            UPDATE observer.stream AS s SET last_seq = $7 FROM host
            WHERE s.host_no = host.host_no AND s.stream_id = $5::text::uuid AND s.last_seq = $6
            RETURNING s.host_no),
        state AS (
            SELECT * FROM unnest($18::bytea[], $19::text[], $20::text[], $21::boolean[])
                AS r(home_id, body, death, is_last)),
        events AS (
            INSERT INTO observer.event (host_no, stream_id, seq, at, boot_id, kind, home_id, home, name, pid,
                start_boottime_ns, detail)
            SELECT cursor.host_no, $5::text::uuid, e.seq, e.at, nullif(e.boot_id, '')::uuid, e.kind, e.home_id, e.home,
                e.name, e.pid, e.start_boottime_ns, e.detail::jsonb
            FROM cursor CROSS JOIN unnest($8::bigint[], $9::timestamptz[], $10::text[], $11::text[],
                $12::bytea[], $13::text[], $14::text[], $15::integer[], $16::bigint[], $17::text[])
                AS e(seq, at, boot_id, kind, home_id, home, name, pid, start_boottime_ns, detail)),
        rows AS ({upsert}),
        deaths AS (
            UPDATE observer.session AS s SET {deaths}
            FROM cursor CROSS JOIN state AS r
            CROSS JOIN LATERAL pg_catalog.jsonb_to_record(r.death::jsonb) AS d({death_types})
            WHERE s.host_no = cursor.host_no AND s.home_id = r.home_id AND r.body IS NULL
                AND r.death IS NOT NULL AND (r.is_last OR d.at > coalesce(s.last_death_at, '-infinity'))),
        doubts AS (
            UPDATE observer.session AS s SET certain = false FROM cursor
            WHERE s.host_no = cursor.host_no AND s.home_id = ANY ($22::bytea[]))
        SELECT (SELECT pg_catalog.count(*) FROM host), (SELECT pg_catalog.count(*) FROM cursor)"
    )
}

/// A batch does not get through: the state is no longer the map's. Whoever holds that batch up may hold up this too: not for long.
pub const FALL_BEHIND: &str = "
    UPDATE observer.host SET caught_up = false
    FROM (SELECT pg_catalog.set_config('lock_timeout', '250ms', true) AS it) AS wait
    WHERE wait.it IS NOT NULL AND host_no = $1 AND generation = $2 AND backend_pid = pg_catalog.pg_backend_pid()";

/// Which generation the host is at, if it is still there: after a batch that wrote nothing.
pub const GENERATION: &str = "SELECT generation FROM observer.host WHERE host_no = $1";

/// The hint.
pub const NOTIFY: &str = "SELECT pg_catalog.pg_notify($1, $2)";
