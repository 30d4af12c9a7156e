-- The mirror's schema. Tables have singular names and are the daemons' own; what is to be read are the views.

CREATE SCHEMA observer;
COMMENT ON SCHEMA observer IS 'Which process stands for which session, on every host, as the hosts'' kernels say. Read the views sessions, live, deaths, events and hosts.';

-- Roles are the cluster's: another database may have made them, at this very moment.
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
COMMENT ON TABLE observer.migration IS 'Versions of this schema, as they were applied.';
COMMENT ON COLUMN observer.migration.version IS 'From 1 by 1; the highest is what the schema is at.';
COMMENT ON COLUMN observer.migration.applied_at IS 'When.';
COMMENT ON COLUMN observer.migration.applied_by IS 'By which login.';

CREATE TABLE observer.setting (
    only_row       boolean  PRIMARY KEY DEFAULT true CHECK (only_row),
    keep_events    interval NOT NULL DEFAULT '90 days' CHECK (keep_events >= '1 day')
);
COMMENT ON TABLE observer.setting IS 'What the owner of the database may choose: one row.';
COMMENT ON COLUMN observer.setting.only_row IS 'There is one row.';
COMMENT ON COLUMN observer.setting.keep_events IS 'Events are dropped by whole days, when a day has been over for this long.';
INSERT INTO observer.setting DEFAULT VALUES;

CREATE TABLE observer.writers (
    login   name NOT NULL,
    host_id uuid NOT NULL,
    PRIMARY KEY (login, host_id)
);
COMMENT ON TABLE observer.writers IS 'Which login may write which host''s rows. A superuser, or the owner of the schema, may write all.';
COMMENT ON COLUMN observer.writers.login IS 'Name of the role with which the host''s daemon logs in; member of observer_writer.';
COMMENT ON COLUMN observer.writers.host_id IS 'The host, as `observer status` on it says.';

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
COMMENT ON TABLE observer.host IS 'A host and its one writer.';
COMMENT ON COLUMN observer.host.instance_id IS 'The state directory of its daemon: a clone of the machine, or a second daemon, has another.';
COMMENT ON COLUMN observer.host.backend_pid IS 'Server process of the writer''s connection; the host is present while that one holds the presence lock.';
COMMENT ON COLUMN observer.host.login IS 'Role of the writer''s connection: a number of a server process comes again, and then it may be anybody''s.';

CREATE TABLE observer.stream (
    host_no   integer NOT NULL REFERENCES observer.host ON DELETE CASCADE,
    stream_id uuid    NOT NULL,
    last_seq  bigint  NOT NULL,
    PRIMARY KEY (host_no, stream_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE observer.stream IS 'A journal file of a host, and how much of it is here. Moved in the transaction that writes the events: that is what keeps each from being written twice.';
COMMENT ON COLUMN observer.stream.stream_id IS 'The journal file''s name for itself.';
COMMENT ON COLUMN observer.stream.last_seq IS 'Events up to this number are here.';

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
COMMENT ON TABLE observer.session IS 'The state: one row a home. Its columns are those of the view sessions.';
COMMENT ON COLUMN observer.session.detail IS 'The whole session, as `observer list --json` has it.';

-- One row that cannot be read as one would take the view deaths, or a query for gaps, from all hosts: it is refused when it
-- arrives. Moments are in ISO's form: every other is read as the reader's DateStyle likes.
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
COMMENT ON FUNCTION observer.is_legible(text, jsonb) IS 'Whether the views, and whoever counts what is missing, can read an event''s detail.';

-- Days are of arrival by the server's clock: whatever a host's clock says, there is a partition. A key that holds over all
-- of them would have to be without the day; each number comes once because the stream's cursor moves with it.
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
-- Tiny, and enough for who follows what arrives.
CREATE INDEX event_received ON observer.event USING brin (received_at);
CREATE INDEX event_death ON observer.event (at) WHERE kind IN ('session_ended', 'process_ended');
COMMENT ON TABLE observer.event IS 'History, by day of arrival.';

-- Run by every daemon when it connects and then each hour; does nothing where there is nothing to do.
CREATE FUNCTION observer.maintain(days_ahead integer DEFAULT 7) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
-- Whoever waits to drop a day makes everybody else wait behind it: not for long. The next hour tries again.
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
        -- One at a time; whoever waited finds it made. A lock that nobody but the owner can take.
        PERFORM set_config('lock_timeout', '0', true);
        LOCK TABLE observer.setting IN SHARE UPDATE EXCLUSIVE MODE;
        PERFORM set_config('lock_timeout', '250ms', true);
        CONTINUE WHEN to_regclass('observer.' || part) IS NOT NULL;
        -- Made apart and attached: that does not hold up who reads or writes the others.
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
COMMENT ON FUNCTION observer.maintain(integer) IS 'Makes the days of event that come, and drops those older than setting.keep_events. Returns without having dropped what somebody reads at that moment.';
SELECT observer.maintain();

CREATE FUNCTION observer.own_host_ids() RETURNS uuid[]
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(array_agg(w.host_id), '{}') FROM observer.writers w WHERE w.login = session_user $$;
COMMENT ON FUNCTION observer.own_host_ids() IS 'Hosts that the login may write.';

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

-- A host is present while its writer's own connection holds its lock. Anybody may take an advisory lock, and who connects
-- often enough gets any process number; nobody else has that connection's role. On a standby locks of the primary cannot
-- be seen.
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
COMMENT ON VIEW observer.hosts IS 'Every host that ever mirrored here.';
COMMENT ON COLUMN observer.hosts.present IS 'Its daemon is connected now and alive: what sessions says of it holds. False within 15 s of whatever happens to it; always false on a standby.';

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
COMMENT ON VIEW observer.sessions IS 'One row a home: the live map of every host, with what has ended there.';

CREATE VIEW observer.live AS
SELECT * FROM observer.sessions WHERE state IN ('live', 'detached');
COMMENT ON VIEW observer.live IS 'Sessions that run: those of sessions whose state is live or detached now.';

CREATE VIEW observer.events AS
SELECT h.host_id, e.stream_id, e.seq, e.boot_id, e.at, e.received_at, e.kind, e.home, e.name, e.pid, e.start_boottime_ns,
    e.detail, h.host
FROM observer.event e JOIN observer.host h USING (host_no);
COMMENT ON VIEW observer.events IS 'What happened, for as long as setting.keep_events. Numbers of a stream go from 1 by 1; where one is missing a row of kind gap says why.';

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
    -- Who left its home for another stood for both: its death is told where it went.
    AND (e.detail ->> 'moved_to' IS NULL OR NOT EXISTS (
        SELECT FROM observer.event o
        WHERE o.host_no = e.host_no AND o.at = e.at AND o.pid = e.pid AND o.start_boottime_ns = e.start_boottime_ns
            AND o.boot_id = e.boot_id AND o.kind IN ('session_ended', 'process_ended')
            AND (o.detail ->> 'moved_to' IS NULL, o.stream_id, o.seq) > (false, e.stream_id, e.seq)));
COMMENT ON VIEW observer.deaths IS 'One row for each certificate of death of a session''s process.';

-- The same words wherever the same thing is told; a table's own are its view's too.
DO $$
DECLARE
    said constant jsonb := '{
        "host_no": "The host''s short number here: second key of its presence lock, payload of NOTIFY observer.",
        "host.host": "Its name when its daemon last connected. Names may repeat; host_id does not.",
        "host.host_id": "Who it is: made from the machine-id, which itself is not told.",
        "host.boot_id": "The boot in which its daemon last connected.",
        "host.certain": "False from a loss of kernel events there until its kernel was read again.",
        "caught_up": "Nothing that happened there was missing here at its last commit.",
        "version": "Version of its daemon.",
        "last_commit_at": "When the state was last known to be right here, by the server''s clock.",
        "first_seen_at": "When its first daemon connected.",
        "generation": "How often a daemon of it became the writer; those before the last write nothing any more.",
        "host": "Name of the host when its daemon last connected.",
        "host_id": "The host: made from its machine-id, which itself is not told.",
        "boot_id": "The boot that it happened in, or in which the process runs. pid and start_boottime_ns mean something beside it only.",
        "home_id": "SHA-256 of the home''s mount namespace and raw path: a path may be longer than an index takes.",
        "home": "The directory that identifies the session, from its mount namespace''s root. Bytes that are no UTF-8 are escaped: docs/json.md.",
        "home_mnt_ns": "Inode number of the home''s mount namespace; null for the host''s own.",
        "name": "Of the session; several homes may share it.",
        "pid": "tgid of the process that stands for the session (of a dead one: stood), in the host''s initial pid namespace.",
        "start_boottime_ns": "CLOCK_BOOTTIME in ns when it was started: with pid and boot_id it is this process and no other.",
        "started_at": "The same on the wall clock.",
        "exec_at": "Its last exec, if it was observed.",
        "tty": "Controlling terminal, such as pts/3; null: none.",
        "pane": "TMUX_PANE, under screen WINDOW, from its environment at exec: a hint.",
        "mux": "tmux or screen, by its environment at exec.",
        "mux_socket": "tmux: the socket''s path; screen: STY.",
        "cwd": "Working directory, with the kernel''s '' (deleted)''; null while it is not known.",
        "comm": "The process''s name, at most 15 bytes, which it may set itself.",
        "argv": "Arguments of the last exec: the first alone, unless the host''s mirror_argv is set.",
        "username": "Name of uid, as the host has it.",
        "uid": "Real user id, in the initial user namespace.",
        "state": "live: the process runs in its home. detached: its terminal is gone. left: it went elsewhere. ended: it ended. unknown: the host is not present, so nobody can say.",
        "recorded_state": "The state that was last written, whatever became of the host.",
        "certain": "True only where the host is present and has lost nothing that was not read again.",
        "since": "When the recorded state was entered.",
        "roots": "Processes of the session''s program in this home that are no children of one another; more than 1 deserves a look.",
        "wrapper_pid": "The wrapper (sudo, env, script...) that the process runs under.",
        "starts": "Starts in this home, oldest first, at most 64.",
        "starts_24h": "How often a session began here in the last 24 hours; counts up to 64.",
        "last_death_at": "When a process that stood for this session last died; null beside a kind: it is gone, and nobody knows since when.",
        "last_death_kind": "exited, signaled, oom_killed or unobserved (it is gone, and nobody saw it go).",
        "last_death_signal": "The signal, if one killed it.",
        "last_death_code": "The exit code, if it exited.",
        "as_of": "The moment for which the row holds: now, while the host is present and caught up; else its last commit.",
        "detail": "Everything, as observer''s own JSON has it: docs/json.md.",
        "stream_id": "The journal file of the host that numbered it.",
        "seq": "Its number in that stream. (host_id, stream_id, seq) comes once.",
        "at": "When it happened, by the host''s clock.",
        "received_at": "When it was written here, by the server''s clock.",
        "kind": "As in observer watch --json: session_started, session_changed, session_ended, process_ended (of one that stood for a session which goes on), gap_opened, gap_closed; or gap: numbers that are missing, with the reason in detail.",
        "death.kind": "exited, signaled, oom_killed or unobserved.",
        "code": "Exit code; null unless exited.",
        "signal": "Number of the signal; null unless signaled.",
        "signal_name": "Its name.",
        "core_dumped": "The kernel''s core flag; null unless signaled.",
        "raw_status": "What wait(2) returned; null if unobserved.",
        "sender_pid": "Who sent the fatal signal; null: not known.",
        "sender_comm": "Its name.",
        "sender_uid": "Its real user id.",
        "sender_kind": "user or kernel.",
        "ended_at": "When it died; of an unobserved death, when it was first known to be gone.",
        "lifetime_ms": "From start to end; null if unobserved.",
        "after_at": "Of an unobserved death: when it was last known to live.",
        "certificate": "The whole certificate: docs/json.md."
    }';
    col record;
BEGIN
    FOR col IN
        SELECT c.relname, c.oid, a.attnum, a.attname,
            coalesce(said ->> (pg_catalog.rtrim(c.relname::text, 's') || '.' || a.attname), said ->> a.attname::text) AS words
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'observer'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND c.relispartition = false
            AND a.attnum > 0 AND NOT a.attisdropped
    LOOP
        IF pg_catalog.col_description(col.oid, col.attnum) IS NULL AND col.words IS NOT NULL THEN
            EXECUTE pg_catalog.format('COMMENT ON COLUMN observer.%I.%I IS %L', col.relname, col.attname, col.words);
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
-- By column throughout: who may write a table as a whole may lock it, and hold up every host and reader. Not host_no: it is
-- the key of the host's lock.
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
-- Not received_at: readers follow it, and it is the server's.
GRANT INSERT (host_no, stream_id, seq, at, boot_id, kind, home_id, home, name, pid, start_boottime_ns, detail)
    ON observer.event TO observer_writer;
GRANT EXECUTE ON FUNCTION observer.maintain(integer), observer.own_host_ids(), observer.own_hosts(), observer.is_legible(text, jsonb)
    TO observer_writer;

INSERT INTO observer.migration (version) VALUES (1);
