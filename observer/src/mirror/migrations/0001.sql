-- The mirror's schema. The tables have singular names and belong to the daemons; readers use the views.

CREATE SCHEMA observer;
COMMENT ON SCHEMA observer IS 'Maps each terminal session to its process, on every host, as reported by the hosts'' kernels. Read the views sessions, live, deaths, events and hosts.';

-- Roles belong to the cluster: another database may have created them, or be creating them at this moment.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['observer_reader', 'observer_writer'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role) THEN
            BEGIN
                EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', role);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;
END
$$;

CREATE TABLE observer.migration (
    version    integer     PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    applied_by text        NOT NULL DEFAULT session_user
);
COMMENT ON TABLE observer.migration IS 'Versions of this schema that were applied.';
COMMENT ON COLUMN observer.migration.version IS 'Counts from 1; the highest is the version of the schema.';
COMMENT ON COLUMN observer.migration.applied_at IS 'When the version was applied.';
COMMENT ON COLUMN observer.migration.applied_by IS 'The login that applied the version.';

CREATE TABLE observer.setting (
    only_row       boolean  PRIMARY KEY DEFAULT true CHECK (only_row),
    keep_events    interval NOT NULL DEFAULT '90 days' CHECK (keep_events >= '1 day')
);
COMMENT ON TABLE observer.setting IS 'The settings of the owner of the database, in one row.';
COMMENT ON COLUMN observer.setting.only_row IS 'Always true: it limits the table to one row.';
COMMENT ON COLUMN observer.setting.keep_events IS 'Retention of events. They are dropped by whole days: a day is dropped when it ended this long ago.';
INSERT INTO observer.setting DEFAULT VALUES;

CREATE TABLE observer.writers (
    login   name NOT NULL,
    host_id uuid NOT NULL,
    PRIMARY KEY (login, host_id)
);
COMMENT ON TABLE observer.writers IS 'Which login may write the rows of which host. A superuser and the owner of the schema may write all rows.';
COMMENT ON COLUMN observer.writers.login IS 'Name of the role with which the host''s daemon logs in; it is a member of observer_writer.';
COMMENT ON COLUMN observer.writers.host_id IS 'Id of the host, as `observer status` prints it on that host.';

CREATE TABLE observer.host (
    host_no        integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY CHECK (host_no > 0),
    host_id        uuid        NOT NULL UNIQUE,
    host           text        NOT NULL,
    boot_id        uuid,
    instance_id    uuid,
    generation     bigint      NOT NULL DEFAULT 0,
    backend_pid    integer,
    login          name        NOT NULL DEFAULT session_user,
    version        text,
    certain        boolean     NOT NULL DEFAULT false,
    caught_up      boolean     NOT NULL DEFAULT false,
    last_commit_at timestamptz,
    first_seen_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CHECK (pg_catalog.isfinite(last_commit_at))
) WITH (fillfactor = 50);
COMMENT ON TABLE observer.host IS 'A host and its writer, of which there is one.';
COMMENT ON COLUMN observer.host.instance_id IS 'Id of the state directory of the host''s daemon. A clone of the machine, or a second daemon, has another one.';
COMMENT ON COLUMN observer.host.backend_pid IS 'Process id of the server process of the writer''s connection. The host is present while that process holds the presence lock.';
COMMENT ON COLUMN observer.host.login IS 'Role of the writer''s connection. The server reuses process ids, so backend_pid alone does not identify the connection.';

CREATE TABLE observer.stream (
    host_no   integer NOT NULL REFERENCES observer.host ON DELETE CASCADE,
    stream_id uuid    NOT NULL,
    last_seq  bigint  NOT NULL,
    PRIMARY KEY (host_no, stream_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE observer.stream IS 'A journal file of a host, and the cursor of its replication. The transaction that writes events also moves the cursor, so no event is written twice.';
COMMENT ON COLUMN observer.stream.stream_id IS 'Id of the journal file.';
COMMENT ON COLUMN observer.stream.last_seq IS 'The events up to this number have been written.';

CREATE TABLE observer.session (
    host_no           integer NOT NULL REFERENCES observer.host ON DELETE CASCADE,
    home_id           bytea   NOT NULL,
    home              text    NOT NULL,
    home_mnt_ns       bigint,
    name              text,
    boot_id           uuid,
    pid               integer,
    start_boottime_ns bigint,
    started_at        timestamptz,
    exec_at           timestamptz,
    tty               text,
    pane              text,
    mux               text,
    mux_socket        text,
    cwd               text,
    comm              text,
    argv              text[],
    username          text,
    uid               bigint,
    state             text    NOT NULL CHECK (state IN ('live', 'detached', 'left', 'ended')),
    since             timestamptz,
    roots             integer,
    wrapper_pid       integer,
    starts            timestamptz[],
    certain           boolean NOT NULL,
    last_death_at     timestamptz,
    last_death_kind   text,
    last_death_signal integer,
    last_death_code   integer,
    detail            jsonb   NOT NULL,
    PRIMARY KEY (host_no, home_id),
    CHECK (pg_catalog.isfinite(since) AND pg_catalog.isfinite(started_at) AND pg_catalog.isfinite(exec_at)
        AND pg_catalog.isfinite(last_death_at))
) WITH (fillfactor = 70);
COMMENT ON TABLE observer.session IS 'The state of each session: one row for each home. The view sessions explains the columns.';
COMMENT ON COLUMN observer.session.detail IS 'The whole session as JSON, as `observer list --json` prints it.';

-- A single row whose values cannot be cast makes the view deaths, or a query for gaps, fail for all hosts: such a row is
-- refused when it arrives. Timestamps must be in ISO format, because the reader's DateStyle decides how others are read.
CREATE FUNCTION observer.is_legible(kind text, detail jsonb) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    death constant jsonb := CASE WHEN kind <> 'gap' AND jsonb_typeof(detail -> 'death') = 'object' THEN detail -> 'death' END;
    moments constant text[] := ARRAY[detail ->> 'started_at', death ->> 'at', death -> 'between' ->> 0];
BEGIN
    IF kind = 'gap' THEN
        PERFORM (detail ->> 'from_seq')::bigint, (detail ->> 'to_seq')::bigint, (detail ->> 'count')::bigint;
    ELSIF death IS NOT NULL THEN
        PERFORM (d.sender ->> 'pid')::integer, (d.sender ->> 'uid')::bigint, moments::timestamptz[]
        FROM jsonb_to_record(death) AS d(code integer, signal integer, core_dumped boolean, raw_status integer,
            sender jsonb, lifetime_ms bigint);
        RETURN (SELECT bool_and(moment ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$') IS NOT FALSE
            FROM unnest(moments) AS moment);
    END IF;
    RETURN true;
EXCEPTION WHEN data_exception THEN
    RETURN false;
END
$$;
COMMENT ON FUNCTION observer.is_legible(text, jsonb) IS 'Whether the views, and queries that count missing events, can read the detail of an event.';

-- Partitioned by the day of arrival on the server's clock, so that a partition exists whatever a host's clock shows. A unique
-- key must include the day, so it does not make numbers unique over all days. The cursor of the stream does: the transaction
-- that writes an event moves it.
CREATE TABLE observer.event (
    host_no           integer     NOT NULL,
    stream_id         uuid        NOT NULL,
    seq               bigint      NOT NULL,
    received_at       timestamptz NOT NULL DEFAULT pg_catalog.now(),
    at                timestamptz NOT NULL,
    boot_id           uuid,
    kind              text        NOT NULL,
    home_id           bytea,
    home              text,
    name              text,
    pid               integer,
    start_boottime_ns bigint,
    detail            jsonb       NOT NULL,
    PRIMARY KEY (host_no, stream_id, seq, received_at),
    CONSTRAINT legible CHECK (kind NOT IN ('session_ended', 'process_ended', 'gap') OR observer.is_legible(kind, detail)),
    CHECK (pg_catalog.isfinite(at))
) PARTITION BY RANGE (received_at);
CREATE INDEX event_of_host ON observer.event (host_no, at);
-- This index is small, and enough for readers that follow arrivals.
CREATE INDEX event_received ON observer.event USING brin (received_at);
CREATE INDEX event_death ON observer.event (at) WHERE kind IN ('session_ended', 'process_ended');
COMMENT ON TABLE observer.event IS 'History: one row for each event, partitioned by the day of arrival.';

-- Every daemon calls this function when it connects and then once an hour. It does nothing where nothing is due.
CREATE FUNCTION observer.maintain(days_ahead integer DEFAULT 7) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
-- A statement that waits to drop a day blocks all later ones, so it waits for a short time only. The next call tries again.
SET lock_timeout = '250ms'
AS $$
DECLARE
    first_day constant date := current_date - 1;
    day date;
    part text;
BEGIN
    FOR day IN SELECT pg_catalog.generate_series(first_day, current_date + least(greatest(days_ahead, 1), 30), '1 day')::date
    LOOP
        part := 'event_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('observer.' || part) IS NOT NULL;
        -- One caller at a time creates a partition; a caller that waited finds it. Only the owner can take this lock.
        PERFORM set_config('lock_timeout', '0', true);
        LOCK TABLE observer.setting IN SHARE UPDATE EXCLUSIVE MODE;
        PERFORM set_config('lock_timeout', '250ms', true);
        CONTINUE WHEN to_regclass('observer.' || part) IS NOT NULL;
        -- Creating the table apart and attaching it does not block readers and writers of the other partitions.
        EXECUTE format('CREATE TABLE observer.%I (LIKE observer.event INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)', part);
        EXECUTE format('COMMENT ON TABLE observer.%I IS %L', part, 'Events that arrived on ' || day || ' (UTC).');
        EXECUTE format('ALTER TABLE observer.event ATTACH PARTITION observer.%I FOR VALUES FROM (%L) TO (%L)', part,
            day::timestamptz, (day + 1)::timestamptz);
    END LOOP;
    FOR part IN
        SELECT c.relname FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid, observer.setting s
        WHERE i.inhparent = 'observer.event'::regclass AND c.relname ~ '^event_[0-9]{8}$'
            AND (to_date(substr(c.relname, 7), 'YYYYMMDD') + 1)::timestamptz <= now() - s.keep_events
        ORDER BY c.relname
    LOOP
        BEGIN
            LOCK TABLE observer.setting IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;
            EXECUTE format('DROP TABLE IF EXISTS observer.%I', part);
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            RETURN;
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION observer.maintain(integer) IS 'Creates the partitions of event for the next days, and drops those older than setting.keep_events. A partition that is being read is not waited for: a later call drops it.';
SELECT observer.maintain();

CREATE FUNCTION observer.own_host_ids() RETURNS uuid[]
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(array_agg(w.host_id), '{}') FROM observer.writers w WHERE w.login = session_user $$;
COMMENT ON FUNCTION observer.own_host_ids() IS 'Ids of the hosts that the login may write.';

CREATE FUNCTION observer.own_hosts() RETURNS integer[]
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(h.host_no), '{}')
    FROM observer.host h JOIN observer.writers w USING (host_id)
    WHERE w.login = session_user
$$;
COMMENT ON FUNCTION observer.own_hosts() IS 'Numbers of the hosts that the login may write.';

ALTER TABLE observer.host ENABLE ROW LEVEL SECURITY;
ALTER TABLE observer.stream ENABLE ROW LEVEL SECURITY;
ALTER TABLE observer.session ENABLE ROW LEVEL SECURITY;
ALTER TABLE observer.event ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON observer.host TO observer_writer
    USING (host_id = ANY ((SELECT observer.own_host_ids())::uuid[]))
    WITH CHECK (host_id = ANY ((SELECT observer.own_host_ids())::uuid[]));
CREATE POLICY own_rows ON observer.stream TO observer_writer
    USING (host_no = ANY ((SELECT observer.own_hosts())::integer[]))
    WITH CHECK (host_no = ANY ((SELECT observer.own_hosts())::integer[]));
CREATE POLICY own_rows ON observer.session TO observer_writer
    USING (host_no = ANY ((SELECT observer.own_hosts())::integer[]))
    WITH CHECK (host_no = ANY ((SELECT observer.own_hosts())::integer[]));
CREATE POLICY own_rows ON observer.event TO observer_writer
    USING (host_no = ANY ((SELECT observer.own_hosts())::integer[]))
    WITH CHECK (host_no = ANY ((SELECT observer.own_hosts())::integer[]));

-- A host is present while the connection of its writer holds the host's lock. Anybody may take an advisory lock, and a client
-- that connects often enough gets any process id, but no connection of another client has the writer's role. A standby does
-- not show the locks of its primary.
CREATE VIEW observer.hosts AS
SELECT h.host, h.host_id,
    (l.pid IS NOT NULL AND NOT pg_catalog.pg_is_in_recovery()) AS present,
    h.caught_up, h.certain, h.boot_id, h.version, h.last_commit_at, h.first_seen_at, h.generation, h.host_no
FROM observer.host h
LEFT JOIN (
    SELECT DISTINCT k.objid::bigint AS host_no, k.pid, a.usename AS login
    FROM pg_catalog.pg_locks k JOIN pg_catalog.pg_stat_activity a ON a.pid = k.pid
    WHERE k.locktype = 'advisory' AND k.granted AND k.classid = 1868723062 AND k.objsubid = 2
        AND k.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
) l ON l.host_no = h.host_no AND l.pid = h.backend_pid AND l.login = h.login;
COMMENT ON VIEW observer.hosts IS 'Every host that was ever mirrored to this database.';
COMMENT ON COLUMN observer.hosts.present IS 'Whether the host''s daemon is connected and alive, so that the view sessions is right about the host. Turns false within 15 s of any failure; always false on a standby.';

CREATE VIEW observer.sessions AS
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
    s.wrapper_pid, s.home_mnt_ns, s.detail
FROM observer.session s JOIN observer.hosts h USING (host_no);
COMMENT ON VIEW observer.sessions IS 'One row for each home of each host: the live map, and the sessions that have ended.';

CREATE VIEW observer.live AS
SELECT * FROM observer.sessions WHERE state IN ('live', 'detached');
COMMENT ON VIEW observer.live IS 'The sessions that run: rows of the view sessions whose state is live or detached.';

CREATE VIEW observer.events AS
SELECT h.host_id, e.stream_id, e.seq, e.boot_id, e.at, e.received_at, e.kind, e.home, e.name, e.pid, e.start_boottime_ns,
    e.detail, h.host
FROM observer.event e JOIN observer.host h USING (host_no);
COMMENT ON VIEW observer.events IS 'What happened, for as long as setting.keep_events. The numbers of a stream count from 1; where numbers are missing, a row of kind gap gives the reason.';

CREATE VIEW observer.deaths AS
SELECT h.host, h.host_id, e.boot_id, e.home, e.name, e.pid, e.start_boottime_ns, e.detail ->> 'comm' AS comm,
    d.kind, d.code, d.signal, d.signal_name, d.core_dumped, d.raw_status,
    (d.sender ->> 'pid')::integer AS sender_pid, d.sender ->> 'comm' AS sender_comm,
    (d.sender ->> 'uid')::bigint AS sender_uid, d.sender ->> 'kind' AS sender_kind,
    (e.detail ->> 'started_at')::timestamptz AS started_at, d.at AS ended_at, d.lifetime_ms,
    (d."between" ->> 0)::timestamptz AS after_at, e.detail -> 'death' AS certificate,
    e.received_at, e.stream_id, e.seq
FROM observer.event e
JOIN observer.host h USING (host_no)
CROSS JOIN LATERAL pg_catalog.jsonb_to_record(e.detail -> 'death') AS d(kind text, code integer, signal integer,
    signal_name text, core_dumped boolean, raw_status integer, sender jsonb, at timestamptz, lifetime_ms bigint, "between" jsonb)
WHERE e.kind IN ('session_ended', 'process_ended') AND pg_catalog.jsonb_typeof(e.detail -> 'death') = 'object'
    -- A process that moved to another home was the primary in both: its death is listed for the home to which it moved.
    AND (e.detail ->> 'moved_to' IS NULL OR NOT EXISTS (
        SELECT FROM observer.event o
        WHERE o.host_no = e.host_no AND o.at = e.at AND o.pid = e.pid AND o.start_boottime_ns = e.start_boottime_ns
            AND o.boot_id = e.boot_id AND o.kind IN ('session_ended', 'process_ended')
            AND (o.detail ->> 'moved_to' IS NULL, o.stream_id, o.seq) > (false, e.stream_id, e.seq)));
COMMENT ON VIEW observer.deaths IS 'One row for each death certificate of the process of a session.';

-- Columns of the same name have the same comment in all tables and views, unless the key below names the relation.
DO $$
DECLARE
    comments constant jsonb := '{
        "host_no": "The host''s number in this database: the second key of its presence lock, and the payload of NOTIFY observer.",
        "host.host": "Name of the host when its daemon last connected. Names may repeat; host_id does not.",
        "host.host_id": "Identity of the host, derived from its machine-id, which is not stored.",
        "host.boot_id": "The boot in which the daemon last connected.",
        "host.certain": "False from a loss of kernel events on the host until its kernel was read again.",
        "caught_up": "Whether the database had everything at the host''s last commit.",
        "version": "Version of the host''s daemon.",
        "last_commit_at": "When the rows of the host were last known to be right, by the server''s clock.",
        "first_seen_at": "When a daemon of the host first connected.",
        "generation": "The fencing token of the host''s writer: how often a daemon of the host became the writer. Writes with an older token have no effect.",
        "host": "Name of the host when its daemon last connected.",
        "host_id": "Identity of the host, derived from its machine-id, which is not stored.",
        "boot_id": "The boot in which it happened, or in which the process runs. Only together with it do pid and start_boottime_ns identify a process.",
        "home_id": "SHA-256 of the home''s mount namespace and raw path: a path may be longer than an index allows.",
        "home": "The directory that identifies the session, as a path from the root of its mount namespace. Bytes that are not UTF-8 are escaped (docs/json.md).",
        "home_mnt_ns": "Inode number of the home''s mount namespace; null for the host''s own.",
        "name": "Name of the session; several homes may share it.",
        "pid": "tgid of the session''s primary process, or of the process that was primary until it died, in the host''s initial pid namespace.",
        "start_boottime_ns": "When the process was started, by CLOCK_BOOTTIME, in ns. Together with pid and boot_id it identifies the process.",
        "started_at": "When the process was started, by the host''s wall clock.",
        "exec_at": "When the process last called exec, if that was observed.",
        "tty": "Controlling terminal, such as pts/3; null if there is none.",
        "pane": "TMUX_PANE (tmux) or WINDOW (screen), from the environment at exec: a hint, which the process can forge.",
        "mux": "tmux or screen, according to the environment at exec.",
        "mux_socket": "tmux: the path of the socket; screen: STY.",
        "cwd": "Working directory, with the kernel''s suffix '' (deleted)'' if it was removed; null while it is not known.",
        "comm": "Name of the process, at most 15 bytes; the process can set it.",
        "argv": "Arguments of the last exec: the first one alone, unless mirror_argv is set on the host.",
        "username": "Name of the user uid, according to the host.",
        "uid": "Real user id, in the initial user namespace.",
        "state": "live: the primary runs in its home. detached: it has lost its terminal. left: its working directory is outside its home. ended: the session ended. unknown: the host is not present, so the state is not known.",
        "recorded_state": "The state that was last written, whether or not the host is present.",
        "certain": "True if the host is present and no loss of kernel events there waits to be healed.",
        "since": "When the recorded state was entered.",
        "roots": "Number of admitted processes in this home that do not descend from one another; more than 1 deserves a look.",
        "wrapper_pid": "tgid of the wrapper (sudo, env, script...) under which the process runs.",
        "starts": "Times of the starts in this home, the oldest first, at most 64.",
        "starts_24h": "Number of starts in this home in the last 24 hours, up to 64.",
        "last_death_at": "When a process of this session last died. Null beside a last_death_kind: the process is gone, and the time of its death is not known.",
        "last_death_kind": "exited, signaled, oom_killed, or unobserved (the process is gone, and its death was not observed).",
        "last_death_signal": "Number of the signal that killed the process, if one did.",
        "last_death_code": "Exit code of the process, if it exited.",
        "as_of": "The moment for which the row is right: now, while the host is present and caught up; otherwise the host''s last commit.",
        "detail": "All fields as JSON (docs/json.md).",
        "stream_id": "Id of the host''s journal file, in which the event has its number.",
        "seq": "Number of the event in its stream. (host_id, stream_id, seq) is unique.",
        "at": "When it happened, by the host''s clock.",
        "received_at": "When it was written to this database, by the server''s clock.",
        "kind": "As in observer watch --json: session_started, session_changed, session_ended, process_ended (the primary died, and the session continues with another one), gap_opened, gap_closed; or gap: numbers are missing, and detail gives the reason.",
        "death.kind": "exited, signaled, oom_killed or unobserved.",
        "code": "Exit code; null unless exited.",
        "signal": "Number of the signal; null unless signaled.",
        "signal_name": "Name of the signal.",
        "core_dumped": "The kernel''s core flag; null unless signaled.",
        "raw_status": "The status that wait(2) returned; null if unobserved.",
        "sender_pid": "pid of the process that sent the fatal signal; null if it is not known.",
        "sender_comm": "Name of that process.",
        "sender_uid": "Real user id of that process.",
        "sender_kind": "user or kernel.",
        "ended_at": "When the process died. Of an unobserved death: when the process was first known to be gone.",
        "lifetime_ms": "Time from the start to the end; null if unobserved.",
        "after_at": "Of an unobserved death: when the process was last known to be alive.",
        "certificate": "The whole death certificate as JSON (docs/json.md)."
    }';
    col record;
BEGIN
    FOR col IN
        SELECT c.relname, c.oid, a.attnum, a.attname,
            coalesce(comments ->> (pg_catalog.rtrim(c.relname::text, 's') || '.' || a.attname), comments ->> a.attname::text) AS comment
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'observer'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND c.relispartition = false
            AND a.attnum > 0 AND NOT a.attisdropped
    LOOP
        IF pg_catalog.col_description(col.oid, col.attnum) IS NULL AND col.comment IS NOT NULL THEN
            EXECUTE pg_catalog.format('COMMENT ON COLUMN observer.%I.%I IS %L', col.relname, col.attname, col.comment);
        END IF;
    END LOOP;
END
$$;

REVOKE ALL ON ALL TABLES IN SCHEMA observer FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA observer FROM PUBLIC;
GRANT USAGE ON SCHEMA observer TO observer_reader, observer_writer;
GRANT SELECT ON observer.sessions, observer.live, observer.deaths, observer.events, observer.hosts TO observer_reader;
GRANT SELECT ON observer.migration TO observer_reader, observer_writer;
GRANT SELECT ON observer.host, observer.stream, observer.session, observer.event TO observer_writer;
-- All rights are granted by column: a role that may write a whole table may also lock it, and block every host and reader.
-- host_no is left out, because it is the key of the host's lock.
GRANT INSERT (host_id, host),
    UPDATE (host, boot_id, instance_id, generation, backend_pid, login, version, certain, caught_up, last_commit_at)
    ON observer.host TO observer_writer;
GRANT INSERT (host_no, stream_id, last_seq), UPDATE (last_seq) ON observer.stream TO observer_writer;
GRANT INSERT (host_no, home_id, home, home_mnt_ns, name, boot_id, pid, start_boottime_ns, started_at, exec_at, tty, pane, mux,
        mux_socket, cwd, comm, argv, username, uid, state, since, roots, wrapper_pid, starts, certain, last_death_at,
        last_death_kind, last_death_signal, last_death_code, detail),
    UPDATE (home, home_mnt_ns, name, boot_id, pid, start_boottime_ns, started_at, exec_at, tty, pane, mux,
        mux_socket, cwd, comm, argv, username, uid, state, since, roots, wrapper_pid, starts, certain, last_death_at,
        last_death_kind, last_death_signal, last_death_code, detail)
    ON observer.session TO observer_writer;
-- received_at is left out: the server sets it, and readers follow it.
GRANT INSERT (host_no, stream_id, seq, at, boot_id, kind, home_id, home, name, pid, start_boottime_ns, detail)
    ON observer.event TO observer_writer;
GRANT EXECUTE ON FUNCTION observer.maintain(integer), observer.own_host_ids(), observer.own_hosts(), observer.is_legible(text, jsonb)
    TO observer_writer;

INSERT INTO observer.migration (version) VALUES (1);
