-- Version 1, revision 4. No table changes, and the new columns of the views are computed from the JSON.

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
    observer.count_of(d."left" -> 'processes') AS left_processes, observer.count_of(d."left" -> 'rss_bytes') AS left_rss_bytes
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

COMMENT ON COLUMN observer.deaths.left_processes IS 'Processes that were born in the session and outlived it; null where that is not known, and of what daemons before revision 4 wrote.';
COMMENT ON COLUMN observer.deaths.left_rss_bytes IS 'The memory that they had when it ended, bytes; what several share counts for each. Null where it is not known.';

CREATE VIEW observer.leftovers AS
SELECT d.host, d.host_id, d.boot_id, d.home, d.name, d.pid, d.start_boottime_ns, d.comm, d.ended_at,
    d.left_processes, d.left_rss_bytes, d.certificate -> 'left' -> 'keys' AS keys,
    (h.boot_id = d.boot_id) AS is_same_boot, d.received_at, d.stream_id, d.seq
FROM observer.deaths d JOIN observer.host h USING (host_id)
WHERE d.left_processes > 0;
COMMENT ON VIEW observer.leftovers IS 'What sessions left when they ended: processes that were born in them and outlived them. What of it still runs, the host alone knows: observer leftovers.';

DO $$
DECLARE
    comments constant jsonb := '{
        "host": "Name of the host when its daemon last connected; names may repeat.",
        "host_id": "The host.",
        "boot_id": "The boot in which it happened. Only together with it do pid and start_boottime_ns identify a process.",
        "home": "The directory of the session.",
        "name": "Name of the session.",
        "pid": "The primary of the session, which ended.",
        "start_boottime_ns": "When that was started, in ns of the boot''s clock.",
        "comm": "The name of that process.",
        "ended_at": "When it ended.",
        "left_processes": "Processes that were born in the session and outlived it.",
        "left_rss_bytes": "The memory that they had when it ended, bytes; what several share counts for each. Null where it is not known.",
        "keys": "The keys of these processes, at most 64, as observer leftovers shows them.",
        "is_same_boot": "Whether the host was still in that boot when its daemon last connected: else nothing of it runs.",
        "received_at": "When the event arrived, by the server''s clock.",
        "stream_id": "The journal file of the event.",
        "seq": "Its number there."
    }';
    col text;
BEGIN
    FOR col IN SELECT pg_catalog.jsonb_object_keys(comments) LOOP
        EXECUTE pg_catalog.format('COMMENT ON COLUMN observer.leftovers.%I IS %L', col, comments ->> col);
    END LOOP;
END
$$;
GRANT SELECT ON observer.leftovers TO observer_reader;

INSERT INTO observer.migration (version, revision) VALUES (1, 4);
