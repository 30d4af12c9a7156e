-- Version 1, revision 2. No table that daemons write changes, and the new columns of the views are computed from the JSON.

ALTER TABLE observer.setting
    ADD COLUMN restart_loop_starts integer NOT NULL DEFAULT 3 CHECK (restart_loop_starts > 1),
    ADD COLUMN restart_loop_span interval NOT NULL DEFAULT '10 minutes' CHECK (restart_loop_span > interval '0');
COMMENT ON COLUMN observer.setting.restart_loop_starts IS 'How many starts within restart_loop_span make a row of the view restart_loops.';
COMMENT ON COLUMN observer.setting.restart_loop_span IS 'The time, up to now, in which restart_loops counts starts.';

-- What a host wrote is read by all, so text that is no moment must not make a view fail.
CREATE FUNCTION observer.moment(text text) RETURNS timestamptz
LANGUAGE plpgsql STABLE STRICT
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- Not what else is a moment to Postgres: now, infinity, or a date in an order of one's own.
    IF text ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?Z$' THEN
        RETURN text::timestamptz;
    END IF;
    RETURN NULL;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION observer.moment(text) IS 'The moment that the text is, as RFC 3339 in UTC; null if it is none. Whoever reads the view deaths executes it.';

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
    d.polite_signal -> 'sender' ->> 'comm' AS polite_sender_comm
FROM observer.event e
JOIN observer.host h USING (host_no)
CROSS JOIN LATERAL pg_catalog.jsonb_to_record(e.detail -> 'death') AS d(kind text, code integer, signal integer,
    signal_name text, core_dumped boolean, raw_status integer, sender jsonb, at timestamptz, lifetime_ms bigint, "between" jsonb,
    polite_signal jsonb)
WHERE e.kind IN ('session_ended', 'process_ended') AND pg_catalog.jsonb_typeof(e.detail -> 'death') = 'object'
    -- A process that moved to another home was the primary in both: its death is listed for the home to which it moved.
    AND (e.detail ->> 'moved_to' IS NULL OR NOT EXISTS (
        SELECT FROM observer.event o
        WHERE o.host_no = e.host_no AND o.at = e.at AND o.pid = e.pid AND o.start_boottime_ns = e.start_boottime_ns
            AND o.boot_id = e.boot_id AND o.kind IN ('session_ended', 'process_ended')
            AND (o.detail ->> 'moved_to' IS NULL, o.stream_id, o.seq) > (false, e.stream_id, e.seq)));

CREATE VIEW observer.kills AS
SELECT host, host_id, boot_id, home, name, pid, start_boottime_ns, comm, kind, signal, signal_name, started_at, ended_at, lifetime_ms,
    sender_pid, sender_comm, sender_uid, sender_kind, sender_by,
    polite_signal, polite_at, polite_sender_pid, polite_sender_comm, ended_at - polite_at AS polite_wait,
    certificate, received_at, stream_id, seq
FROM observer.deaths
WHERE kind IN ('signaled', 'oom_killed');
COMMENT ON VIEW observer.kills IS 'The deaths that a signal caused: by whom, and after which polite signal.';

CREATE VIEW observer.ignored_sigterm AS
SELECT * FROM observer.kills WHERE signal = 9 AND polite_signal = 15;
COMMENT ON VIEW observer.ignored_sigterm IS 'Processes that did not end on SIGTERM and were killed: polite_wait is how long they were given.';

CREATE VIEW observer.restart_loops AS
SELECT h.host, h.host_id, s.home, s.name, s.uid,
    CASE WHEN h.present THEN s.state ELSE 'unknown' END AS state,
    r.starts, r.first_start_at, r.last_start_at,
    s.last_death_at, s.last_death_kind, s.last_death_signal, s.last_death_code
FROM observer.session s
JOIN observer.hosts h USING (host_no)
CROSS JOIN observer.setting o
CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*)::integer AS starts, pg_catalog.min(start) AS first_start_at, pg_catalog.max(start) AS last_start_at
    FROM pg_catalog.unnest(s.starts) AS start
    WHERE start > pg_catalog.now() - o.restart_loop_span) r
WHERE r.starts >= o.restart_loop_starts;
COMMENT ON VIEW observer.restart_loops IS 'Sessions that start again and again: setting.restart_loop_starts times or more within setting.restart_loop_span up to now. Of more than 64 starts, the last 64 are counted.';

-- Reads the views, with the rights of whoever calls it.
CREATE FUNCTION observer.is_same(host text, key text) RETURNS boolean
LANGUAGE sql STABLE
AS $$
    WITH life AS (
        SELECT p[1] AS boot, p[2]::bigint AS pid, ('x' || pg_catalog.lpad(p[3], 16, '0'))::bit(64)::bigint AS start_boottime_ns
        FROM pg_catalog.regexp_match($2, '^([0-9a-f]{8})-([0-9]{1,10})-([0-9a-f]{1,16})$') AS p
        WHERE p IS NOT NULL
    ), named AS (
        SELECT h.host_id, h.present AND h.caught_up AND h.certain AS is_known FROM observer.hosts h
        WHERE h.host = $1 OR h.host_id::text = $1
    ), found AS (
        SELECT pg_catalog.bool_or(s.certain AND named.is_known) AS certain
        FROM observer.sessions s JOIN named USING (host_id) JOIN life USING (pid, start_boottime_ns)
        WHERE s.recorded_state <> 'ended' AND pg_catalog.left(s.boot_id::text, 8) = life.boot
    )
    SELECT CASE
        WHEN NOT EXISTS (SELECT FROM life) OR NOT EXISTS (SELECT FROM named) THEN NULL
        WHEN (SELECT found.certain FROM found) THEN true
        WHEN (SELECT found.certain FROM found) IS NULL AND (SELECT pg_catalog.bool_and(named.is_known) FROM named) THEN false
    END
$$;
COMMENT ON FUNCTION observer.is_same(text, text) IS 'Whether the process with this key (key in observer list --json) is the primary of a session on this host, given by name or id. Null where nobody can know: the host is not present, caught up and certain, there is no such host, or the text is no key.';
REVOKE ALL ON FUNCTION observer.is_same(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION observer.is_same(text, text) TO observer_reader;

DO $$
DECLARE
    comments constant jsonb := '{
        "sender_by": "How the fatal signal was sent: kill, tgkill or sigqueue; of the kernel: caused, fault, timer or kernel.",
        "polite_signal": "Number of the last signal before the end that asked the process to end and did not end it: 1, 2, 3 or 15; null if none is known.",
        "polite_at": "When that was sent, by the host''s clock.",
        "polite_sender_pid": "pid of the process that sent it; null if it is not known, or was the kernel itself.",
        "polite_sender_comm": "Name of that process.",
        "polite_wait": "Time from the polite signal to the end.",
        "starts": "Starts within setting.restart_loop_span up to now.",
        "first_start_at": "The first of these starts, by the host''s clock.",
        "last_start_at": "The last of them.",
        "uid": "Real user id of the primary.",
        "state": "live, detached, left or ended; unknown where the host is not present."
    }';
    col record;
BEGIN
    FOR col IN
        SELECT c.oid, c.relname, a.attnum, a.attname,
            coalesce(pg_catalog.col_description('observer.deaths'::regclass, d.attnum),
                pg_catalog.col_description('observer.sessions'::regclass, s.attnum)) AS known
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_catalog.pg_attribute d ON d.attrelid = 'observer.deaths'::regclass AND d.attname = a.attname
        LEFT JOIN pg_catalog.pg_attribute s ON s.attrelid = 'observer.sessions'::regclass AND s.attname = a.attname
        WHERE c.relnamespace = 'observer'::regnamespace
            AND c.relname IN ('deaths', 'kills', 'ignored_sigterm', 'restart_loops') AND a.attnum > 0 AND NOT a.attisdropped
    LOOP
        IF pg_catalog.col_description(col.oid, col.attnum) IS NULL THEN
            EXECUTE pg_catalog.format('COMMENT ON COLUMN observer.%I.%I IS %L', col.relname, col.attname,
                coalesce(comments ->> col.attname::text, col.known));
        END IF;
    END LOOP;
END
$$;

REVOKE ALL ON observer.kills, observer.ignored_sigterm, observer.restart_loops FROM PUBLIC;
GRANT SELECT ON observer.kills, observer.ignored_sigterm, observer.restart_loops TO observer_reader;

INSERT INTO observer.migration (version, revision) VALUES (1, 2);
