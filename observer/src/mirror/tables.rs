//! The statements of a writer that write to the tables themselves, for schemas without functions for that
//! ([`super::schema::WITH_FUNCTIONS`]).

use super::columns::{EVENT_COLUMNS, parameter};

/// Makes the cursor of a stream if there is none.
pub const INSERT_CURSOR: &str = "
    INSERT INTO observer.stream (host_no, stream_id, last_seq) VALUES ($1, $2, 0)
    ON CONFLICT (host_no, stream_id) DO NOTHING";

/// Reads the cursor of a stream.
pub const READ_CURSOR: &str = "SELECT last_seq FROM observer.stream WHERE host_no = $1 AND stream_id = $2";

/// Ends rows that the map does not know: there is no such session. `$3`: entries that are still to come report how it
/// ended. Otherwise, where the row is of another boot, nobody observed the end of its process. That death has no date, so any
/// death that arrives is newer. A process of this boot may live on without being a session.
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

/// Columns of a session that have the name of their field in its JSON, with their types.
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

/// Columns of the last death, with their field in its JSON and their types.
const DEATH: [(&str, &str, &str); 4] = [
    ("last_death_at", "at", "timestamptz"),
    ("last_death_kind", "kind", "text"),
    ("last_death_signal", "signal", "integer"),
    ("last_death_code", "code", "integer"),
];

/// Inserts rows of the state from `r(home_id, body, death)`, or updates what differs. `from` supplies `h.host_no` and `r`.
fn upsert(from: &str) -> String {
    let names = COLUMNS.map(|(name, _)| name).join(", ");
    let values = COLUMNS.map(|(name, _)| format!("x.{name}")).join(", ");
    let types = COLUMNS.map(|(name, kind)| format!("{name} {kind}")).join(", ");
    let updates = COLUMNS.map(|(name, _)| format!("{name} = excluded.{name}")).join(", ");
    let deaths = DEATH.map(|(name, ..)| name).join(", ");
    let death_values = DEATH.map(|(_, field, _)| format!("d.{field}")).join(", ");
    let death_types = DEATH.map(|(_, field, kind)| format!("{field} {kind}")).join(", ");
    // The last death stays in the row when the home lives again. A death that comes with the state is the last, whatever the
    // clocks say.
    let has_death = "excluded.last_death_at IS NOT NULL";
    let death_updates = DEATH
        .map(|(name, ..)| format!("{name} = CASE WHEN {has_death} THEN excluded.{name} ELSE s.{name} END"));
    let differ = |names: &[&str]| {
        let row_of =
            |row: &str| names.iter().map(|name| format!("{row}.{name}")).collect::<Vec<_>>().join(", ");
        format!("({}) IS DISTINCT FROM ({})", row_of("s"), row_of("excluded"))
    };
    let differs = differ(&DEATH.map(|(name, ..)| name));
    // Somebody may have edited a column, and not the JSON from which it was taken.
    let edited = differ(&COLUMNS.map(|(name, _)| name));
    format!(
        "INSERT INTO observer.session AS s (host_no, home_id, certain, detail, {names}, {deaths})
         SELECT h.host_no, r.home_id, true, r.body::jsonb, {values}, {death_values}
         FROM {from}
         CROSS JOIN LATERAL pg_catalog.jsonb_to_record(r.body::jsonb) AS x({types})
         CROSS JOIN LATERAL pg_catalog.jsonb_to_record(coalesce(r.death, '{{}}')::jsonb) AS d({death_types})
         WHERE r.body IS NOT NULL
         ON CONFLICT (host_no, home_id) DO UPDATE SET certain = true, detail = excluded.detail, {updates}, {}
         WHERE s.detail IS DISTINCT FROM excluded.detail OR NOT s.certain OR {edited} OR ({has_death} AND {differs})",
        death_updates.join(", ")
    )
}

/// Writes a part of the map in a reconciliation: host, home ids, bodies, deaths.
pub fn reconcile_rows() -> String {
    upsert(
        "(SELECT $1::integer AS host_no) AS h
         CROSS JOIN unnest($2::bytea[], $3::text[], $4::text[]) AS r(home_id, body, death)",
    )
}

/// Marks a row that could not be written as not certain.
pub const DOUBT: &str =
    "UPDATE observer.session SET certain = false WHERE host_no = $1 AND home_id = $2 AND certain";

/// Writes one batch in one statement: the same as [`super::sql::deliver`].
pub fn batch() -> String {
    let upsert = upsert("cursor AS h CROSS JOIN state AS r");
    let deaths = DEATH.map(|(name, field, _)| format!("{name} = d.{field}")).join(", ");
    let death_types = DEATH.map(|(_, field, kind)| format!("{field} {kind}")).join(", ");
    let p = parameter;
    let stream_id = p("stream_id");
    let events = EVENT_COLUMNS.join(", ");
    let event_arrays = EVENT_COLUMNS.map(parameter).join(", ");
    let event_values = EVENT_COLUMNS.map(|name| match name {
        "detail" => "e.detail::jsonb".to_owned(),
        _ => format!("e.{name}"),
    });
    format!(
        "WITH host AS (
            UPDATE observer.host SET certain = coalesce({certain}, certain), caught_up = {caught_up},
                last_commit_at = CASE WHEN {caught_up} THEN pg_catalog.now() ELSE last_commit_at END
            WHERE host_no = {host_no} AND generation = {generation} AND backend_pid = pg_catalog.pg_backend_pid()
            RETURNING host_no),
        cursor AS (
            UPDATE observer.stream AS s SET last_seq = {last_seq} FROM host
            WHERE s.host_no = host.host_no AND s.stream_id = {stream_id} AND s.last_seq = {after}
            RETURNING s.host_no),
        state AS (
            SELECT * FROM unnest({row_homes}, {row_bodies}, {row_deaths}, {rows_are_last})
                AS r(home_id, body, death, is_last)),
        events AS (
            INSERT INTO observer.event (host_no, stream_id, {events})
            SELECT cursor.host_no, {stream_id}, {event_values}
            FROM cursor CROSS JOIN unnest({event_arrays}) AS e({events})),
        rows AS ({upsert}),
        deaths AS (
            UPDATE observer.session AS s SET {deaths}
            FROM cursor CROSS JOIN state AS r
            CROSS JOIN LATERAL pg_catalog.jsonb_to_record(r.death::jsonb) AS d({death_types})
            WHERE s.host_no = cursor.host_no AND s.home_id = r.home_id AND r.body IS NULL
                AND r.death IS NOT NULL AND (r.is_last OR d.at > coalesce(s.last_death_at, '-infinity'))),
        doubts AS (
            UPDATE observer.session AS s SET certain = false FROM cursor
            WHERE s.host_no = cursor.host_no AND s.home_id = ANY ({doubtful}))
        SELECT (SELECT pg_catalog.count(*) FROM host), (SELECT pg_catalog.count(*) FROM cursor)",
        certain = p("certain"),
        caught_up = p("caught_up"),
        host_no = p("host_no"),
        generation = p("generation"),
        last_seq = p("last_seq"),
        after = p("after"),
        row_homes = p("row_homes"),
        row_bodies = p("row_bodies"),
        row_deaths = p("row_deaths"),
        rows_are_last = p("rows_are_last"),
        doubtful = p("doubtful"),
        event_values = event_values.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::schema::last_with_functions;

    #[test]
    fn the_functions_write_the_columns_that_the_statements_write() {
        let script = last_with_functions().split_whitespace().collect::<Vec<_>>().join(" ");
        let joined =
            |of: &dyn Fn(&str, &str) -> String| COLUMNS.map(|(name, kind)| of(name, kind)).join(", ");
        for (text, times) in [
            (joined(&|name, kind| format!("{name} {kind}")), 2),
            (joined(&|name, _| format!("{name} = x.{name}")), 1),
            (joined(&|name, _| format!("s.{name}")), 1),
            (joined(&|name, _| format!("x.{name}")), 2),
            (joined(&|name, _| name.to_owned()), 1),
            (DEATH.map(|(_, field, kind)| format!("{field} {kind}")).join(", "), 1),
            (EVENT_COLUMNS.join(", "), 3),
        ] {
            assert_eq!(script.matches(&text).count(), times, "{text}");
        }
    }
}
