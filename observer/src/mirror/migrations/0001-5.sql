-- Version 1, revision 5. No table changes. What a session left is counted a moment after its end, and has an event of its own,
-- of kind session_left. A query that asks for these columns of deaths looks for that event; none other pays for it.

CREATE OR REPLACE VIEW observer.deaths AS
SELECT h.host, h.host_id, e.boot_id, e.home, e.name, e.pid, e.start_boottime_ns, e.detail ->> 'comm' AS comm,
    d.kind, d.code, d.signal, d.signal_name, d.core_dumped, d.raw_status,
    (d.sender ->> 'pid')::integer AS sender_pid, d.sender ->> 'comm' AS sender_comm,
    (d.sender ->> 'uid')::bigint AS sender_uid, d.sender ->> 'kind' AS sender_kind,
    (e.detail ->> 'started_at')::timestamptz AS started_at, d.at AS ended_at, d.lifetime_ms,
    (d."between" ->> 0)::timestamptz AS after_at, e.detail -> 'death' AS certificate,
    e.received_at, e.stream_id, e.seq,
    d.sender ->> 'by' AS sender_by,
    CASE WHEN d.polite_signal -> 'signal' BETWEEN '1'::jsonb AND '64'::jsonb
        THEN (d.polite_signal -> 'signal')::integer END AS polite_signal,
    observer.moment(d.polite_signal ->> 'at') AS polite_at,
    CASE WHEN d.polite_signal -> 'sender' -> 'pid' BETWEEN '1'::jsonb AND '2147483647'::jsonb
        THEN (d.polite_signal -> 'sender' -> 'pid')::integer END AS polite_sender_pid,
    d.polite_signal -> 'sender' ->> 'comm' AS polite_sender_comm,
    d.oom ->> 'scope' AS oom_scope, d.oom ->> 'cgroup' AS oom_cgroup,
    observer.count_of(d.cost -> 'cpu_ms') AS cpu_ms, observer.count_of(d.cost -> 'cpu_children_ms') AS cpu_children_ms,
    observer.count_of(d.cost -> 'max_rss_bytes') AS max_rss_bytes, observer.count_of(d.cost -> 'processes') AS processes,
    coalesce(observer.count_of(d."left" -> 'processes'), (
        SELECT observer.count_of(l.detail -> 'left' -> 'processes')
        FROM observer.event l
        WHERE l.kind = 'session_left' AND l.host_no = e.host_no AND l.at >= e.at AND l.at < e.at + interval '1 minute'
            AND l.pid = e.pid AND l.start_boottime_ns = e.start_boottime_ns AND l.boot_id = e.boot_id
        LIMIT 1)) AS left_processes,
    coalesce(observer.count_of(d."left" -> 'rss_bytes'), (
        SELECT observer.count_of(l.detail -> 'left' -> 'rss_bytes')
        FROM observer.event l
        WHERE l.kind = 'session_left' AND l.host_no = e.host_no AND l.at >= e.at AND l.at < e.at + interval '1 minute'
            AND l.pid = e.pid AND l.start_boottime_ns = e.start_boottime_ns AND l.boot_id = e.boot_id
        LIMIT 1)) AS left_rss_bytes
FROM observer.event e
JOIN observer.host h USING (host_no)
CROSS JOIN LATERAL pg_catalog.jsonb_to_record(e.detail -> 'death') AS d(kind text, code integer, signal integer,
    signal_name text, core_dumped boolean, raw_status integer, sender jsonb, at timestamptz, lifetime_ms bigint, "between" jsonb,
    polite_signal jsonb, oom jsonb, cost jsonb, "left" jsonb)
WHERE e.kind IN ('session_ended', 'process_ended') AND pg_catalog.jsonb_typeof(e.detail -> 'death') = 'object'
    -- A process that moved to another home was the primary in both: its death is listed for the home to which it moved.
    AND (e.detail ->> 'moved_to' IS NULL OR NOT EXISTS (
        SELECT FROM observer.event o
        WHERE o.host_no = e.host_no AND o.at = e.at AND o.pid = e.pid AND o.start_boottime_ns = e.start_boottime_ns
            AND o.boot_id = e.boot_id AND o.kind IN ('session_ended', 'process_ended')
            AND (o.detail ->> 'moved_to' IS NULL, o.stream_id, o.seq) > (false, e.stream_id, e.seq)));

COMMENT ON COLUMN observer.deaths.left_processes IS 'Processes that were born in the session and lived half a second after its end. Null where it is not known, where all of them had ended by then, and of what daemons before revision 4 wrote.';
COMMENT ON COLUMN observer.deaths.left_rss_bytes IS 'The memory that they had then, bytes; what several share counts for each. Null where it is not known.';

CREATE OR REPLACE VIEW observer.leftovers AS
SELECT h.host, h.host_id, e.boot_id, e.home, e.name, e.pid, e.start_boottime_ns, e.detail ->> 'comm' AS comm,
    observer.moment(e.detail ->> 'ended_at') AS ended_at,
    l.processes AS left_processes, observer.count_of(e.detail -> 'left' -> 'rss_bytes') AS left_rss_bytes,
    e.detail -> 'left' -> 'keys' AS keys,
    (h.boot_id = e.boot_id) AS is_same_boot, e.received_at, e.stream_id, e.seq
FROM observer.event e
JOIN observer.host h USING (host_no)
CROSS JOIN LATERAL (SELECT observer.count_of(e.detail -> 'left' -> 'processes') AS processes) AS l
WHERE e.kind = 'session_left' AND l.processes > 0
UNION ALL
-- What daemons wrote before, which counted at the end itself.
SELECT h.host, h.host_id, e.boot_id, e.home, e.name, e.pid, e.start_boottime_ns, e.detail ->> 'comm' AS comm,
    observer.moment(e.detail -> 'death' ->> 'at') AS ended_at,
    l.processes AS left_processes, observer.count_of(e.detail -> 'death' -> 'left' -> 'rss_bytes') AS left_rss_bytes,
    e.detail -> 'death' -> 'left' -> 'keys' AS keys,
    (h.boot_id = e.boot_id) AS is_same_boot, e.received_at, e.stream_id, e.seq
FROM observer.event e
JOIN observer.host h USING (host_no)
CROSS JOIN LATERAL (SELECT observer.count_of(e.detail -> 'death' -> 'left' -> 'processes') AS processes) AS l
WHERE e.kind IN ('session_ended', 'process_ended') AND l.processes > 0;
COMMENT ON VIEW observer.leftovers IS 'What sessions left: processes that were born in them and lived half a second after their ends. What of it still runs, the host alone knows: observer leftovers.';
COMMENT ON COLUMN observer.leftovers.left_processes IS 'Processes that were born in the session and lived half a second after its end.';
COMMENT ON COLUMN observer.leftovers.left_rss_bytes IS 'The memory that they had then, bytes; what several share counts for each. Null where it is not known.';
COMMENT ON COLUMN observer.events.kind IS 'As in observer watch --json: session_started, session_changed, session_ended, process_ended (the primary died, and the session continues with another one), session_left (what outlived a session that had ended), gap_opened, gap_closed; or gap: numbers are missing, and detail gives the reason.';

INSERT INTO observer.migration (version, revision) VALUES (1, 5);
