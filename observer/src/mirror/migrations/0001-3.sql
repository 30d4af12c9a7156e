-- Version 1, revision 3. No table changes, and the new columns of the views are computed from the JSON.

-- What a host wrote is read by all, so a value that is no count must not make a view fail.
CREATE FUNCTION observer.count_of(value jsonb) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN value BETWEEN '0'::jsonb AND '9223372036854775807'::jsonb THEN pg_catalog.trunc(value::numeric)::bigint END
$$;
COMMENT ON FUNCTION observer.count_of(jsonb) IS 'The JSON number as a count; null if it is none. Whoever reads the view deaths executes it.';

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
    observer.count_of(d.cost -> 'max_rss_bytes') AS max_rss_bytes, observer.count_of(d.cost -> 'processes') AS processes
FROM observer.event e
JOIN observer.host h USING (host_no)
CROSS JOIN LATERAL pg_catalog.jsonb_to_record(e.detail -> 'death') AS d(kind text, code integer, signal integer,
    signal_name text, core_dumped boolean, raw_status integer, sender jsonb, at timestamptz, lifetime_ms bigint, "between" jsonb,
    polite_signal jsonb, oom jsonb, cost jsonb)
WHERE e.kind IN ('session_ended', 'process_ended') AND pg_catalog.jsonb_typeof(e.detail -> 'death') = 'object'
    -- A process that moved to another home was the primary in both: its death is listed for the home to which it moved.
    AND (e.detail ->> 'moved_to' IS NULL OR NOT EXISTS (
        SELECT FROM observer.event o
        WHERE o.host_no = e.host_no AND o.at = e.at AND o.pid = e.pid AND o.start_boottime_ns = e.start_boottime_ns
            AND o.boot_id = e.boot_id AND o.kind IN ('session_ended', 'process_ended')
            AND (o.detail ->> 'moved_to' IS NULL, o.stream_id, o.seq) > (false, e.stream_id, e.seq)));

CREATE OR REPLACE VIEW observer.kills AS
SELECT host, host_id, boot_id, home, name, pid, start_boottime_ns, comm, kind, signal, signal_name, started_at, ended_at, lifetime_ms,
    sender_pid, sender_comm, sender_uid, sender_kind, sender_by,
    polite_signal, polite_at, polite_sender_pid, polite_sender_comm, ended_at - polite_at AS polite_wait,
    certificate, received_at, stream_id, seq, oom_scope, oom_cgroup
FROM observer.deaths
WHERE kind IN ('signaled', 'oom_killed');

CREATE OR REPLACE VIEW observer.ignored_sigterm AS
SELECT * FROM observer.kills WHERE signal = 9 AND polite_signal = 15;

DO $$
DECLARE
    comments constant jsonb := '{
        "oom_scope": "Of a process that the kernel killed for lack of memory: what had none left, global, cgroup or unknown; else null.",
        "oom_cgroup": "The cgroup that had no memory left; null where it is not known."
    }';
    view text;
    col text;
BEGIN
    FOREACH view IN ARRAY ARRAY['deaths', 'kills', 'ignored_sigterm'] LOOP
        FOR col IN SELECT pg_catalog.jsonb_object_keys(comments) LOOP
            EXECUTE pg_catalog.format('COMMENT ON COLUMN observer.%I.%I IS %L', view, col, comments ->> col);
        END LOOP;
    END LOOP;
END
$$;

COMMENT ON COLUMN observer.deaths.cpu_ms IS 'CPU time of the process, ms.';
COMMENT ON COLUMN observer.deaths.cpu_children_ms IS 'CPU time of its descendants that had ended, whether anybody waited for them or not, ms.';
COMMENT ON COLUMN observer.deaths.max_rss_bytes IS 'The most memory that one of these processes had at a time.';
COMMENT ON COLUMN observer.deaths.processes IS 'Descendants that were born; null where births may have been missed.';

CREATE OR REPLACE VIEW observer.sessions AS
SELECT h.host, h.host_id, s.boot_id, s.home, s.name, s.pid, s.start_boottime_ns, s.started_at, s.exec_at,
    s.tty, s.pane, s.mux, s.mux_socket, s.cwd, s.comm, s.argv, s.username, s.uid,
    CASE WHEN h.present THEN s.state ELSE 'unknown' END AS state,
    s.state AS recorded_state,
    (h.present AND h.certain AND s.certain) AS certain,
    s.since, s.roots,
    (SELECT pg_catalog.count(*) FROM pg_catalog.unnest(s.starts) AS start
        WHERE start > pg_catalog.now() - interval '24 hours')::integer AS starts_24h,
    s.last_death_at, s.last_death_kind, s.last_death_signal, s.last_death_code,
    CASE WHEN h.present AND h.caught_up THEN pg_catalog.now() ELSE h.last_commit_at END AS as_of,
    s.wrapper_pid, s.home_mnt_ns, s.detail,
    s.detail ->> 'program' AS program,
    CASE WHEN pg_catalog.jsonb_typeof(s.detail -> 'others') = 'array' THEN s.detail -> 'others' END AS others,
    s.detail ->> 'tty_dev' AS tty_dev,
    CASE WHEN pg_catalog.jsonb_typeof(s.detail -> 'pane_stale') = 'boolean'
        THEN (s.detail -> 'pane_stale')::boolean END AS pane_stale,
    CASE WHEN s.detail -> 'owner' BETWEEN '0'::jsonb AND '4294967295'::jsonb
        THEN (s.detail -> 'owner')::bigint END AS owner,
    CASE WHEN pg_catalog.jsonb_typeof(s.detail -> 'foreign') = 'boolean'
        THEN (s.detail -> 'foreign')::boolean END AS is_foreign,
    CASE WHEN s.detail -> 'instance' BETWEEN '0'::jsonb AND '4294967295'::jsonb
        THEN (s.detail -> 'instance')::bigint END AS instance,
    CASE WHEN pg_catalog.jsonb_typeof(s.detail -> 'labels') = 'object' THEN s.detail -> 'labels' END AS labels
FROM observer.session s JOIN observer.hosts h USING (host_no);

CREATE OR REPLACE VIEW observer.live AS
SELECT * FROM observer.sessions WHERE state IN ('live', 'detached');

COMMENT ON COLUMN observer.sessions.labels IS 'What variables in the environment of the session''s processes say, by the names that the configuration gives them. Processes choose their environment: a hint. Null in what daemons before revision 3 write.';
COMMENT ON COLUMN observer.live.labels IS 'What variables in the environment of the session''s processes say, by the names that the configuration gives them. Processes choose their environment: a hint. Null in what daemons before revision 3 write.';

INSERT INTO observer.migration (version, revision) VALUES (1, 3);
