-- Version 1, revision 1. Daemons of every revision of version 1 can write to it, at the same time: no table that they write
-- changes, and the new columns of the views are computed from the JSON.

ALTER TABLE observer.migration
    ADD COLUMN revision integer NOT NULL DEFAULT 0,
    DROP CONSTRAINT migration_pkey,
    ADD PRIMARY KEY (version, revision);
COMMENT ON TABLE observer.migration IS 'Versions and revisions of this schema that were applied.';
COMMENT ON COLUMN observer.migration.version IS 'Counts from 1; the highest is the version of the schema. A daemon writes to the version that it knows, and to no other.';
COMMENT ON COLUMN observer.migration.revision IS 'Counts from 0 within a version. A revision adds to the schema, and a daemon of the version can write to every revision of it.';

COMMENT ON TABLE observer.session IS 'The state of each session: one row for each home, user and instance. The view sessions explains the columns.';
COMMENT ON COLUMN observer.session.home_id IS 'SHA-256 of the home''s mount namespace and raw path, since a path may be longer than an index allows, the uid in 4 bytes, and of another instance than the first its number in 4 bytes. The uid is missing where it is not known, and in what daemons before revision 1 write.';
COMMENT ON COLUMN observer.event.home_id IS 'As in the table session.';

-- A daemon calls this function when it becomes the writer of its host, because the one before it may have been of an
-- earlier version. Where both keys exist, the row without the uid is the newer one: an earlier version wrote it after the
-- host was downgraded. A writer can neither delete a row nor change its key, so this runs with the rights of the owner, and
-- serves the writer of that host only.
CREATE FUNCTION observer.rekey_sessions(number integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM observer.host h
        WHERE h.host_no = number AND h.backend_pid = pg_backend_pid() AND h.login = session_user)
    THEN
        RAISE insufficient_privilege USING MESSAGE = 'only the writer of a host changes the keys of its sessions';
    END IF;
    UPDATE observer.session o SET last_death_at = s.last_death_at, last_death_kind = s.last_death_kind,
        last_death_signal = s.last_death_signal, last_death_code = s.last_death_code
    FROM observer.session s
    WHERE o.host_no = number AND octet_length(o.home_id) = 32 AND o.uid BETWEEN 0 AND 4294967295
        AND s.host_no = number AND s.home_id = o.home_id || substr(int8send(o.uid), 5) AND o.last_death_kind IS NULL;
    DELETE FROM observer.session s USING observer.session o
    WHERE o.host_no = number AND octet_length(o.home_id) = 32 AND o.uid BETWEEN 0 AND 4294967295
        AND s.host_no = number AND s.home_id = o.home_id || substr(int8send(o.uid), 5);
    UPDATE observer.session s SET home_id = s.home_id || substr(int8send(s.uid), 5)
    WHERE s.host_no = number AND octet_length(s.home_id) = 32 AND s.uid BETWEEN 0 AND 4294967295;
END
$$;
COMMENT ON FUNCTION observer.rekey_sessions(integer) IS 'Adds the uid to the keys of a host''s sessions that an earlier version wrote. Every daemon calls it when it becomes the writer of its host.';
REVOKE ALL ON FUNCTION observer.rekey_sessions(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION observer.rekey_sessions(integer) TO observer_writer;

-- A cast that fails would make the view fail for all hosts. So a value is cast only where it was compared before: of JSON
-- values, numbers alone lie between two numbers.
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
        THEN (s.detail -> 'instance')::bigint END AS instance
FROM observer.session s JOIN observer.hosts h USING (host_no);
COMMENT ON VIEW observer.sessions IS 'One row for each home, user and instance of each host: the live map, and the sessions that have ended.';

CREATE OR REPLACE VIEW observer.live AS
SELECT * FROM observer.sessions WHERE state IN ('live', 'detached');

CREATE OR REPLACE VIEW observer.events AS
SELECT h.host_id, e.stream_id, e.seq, e.boot_id, e.at, e.received_at, e.kind, e.home, e.name, e.pid, e.start_boottime_ns,
    e.detail, h.host,
    CASE WHEN pg_catalog.jsonb_typeof(e.detail -> 'changed') = 'object' THEN e.detail -> 'changed' END AS changed
FROM observer.event e JOIN observer.host h USING (host_no);
COMMENT ON COLUMN observer.events.changed IS 'Of a session_changed: the fields that differ, each with its value before and after. Null where these are not known.';

DO $$
DECLARE
    comments constant jsonb := '{
        "program": "What a person would call the program; null where that is not known. A process can choose it.",
        "others": "The other processes that could be the primary of this home, the oldest first, at most 16, as JSON.",
        "tty_dev": "Device number of the controlling terminal: major:minor.",
        "pane_stale": "Whether the environment names a pane that is not known to be that of the terminal. pane, mux and mux_socket are then null.",
        "owner": "User id that owns the home''s directory; null where that is not known.",
        "is_foreign": "Whether the user is neither root nor the owner of the home; null where the owner is not known.",
        "instance": "Number of the session among those of the user in this home, from 1; null in what daemons before revision 1 write."
    }';
    view text;
    col text;
BEGIN
    FOREACH view IN ARRAY ARRAY['sessions', 'live'] LOOP
        FOR col IN SELECT pg_catalog.jsonb_object_keys(comments) LOOP
            EXECUTE pg_catalog.format('COMMENT ON COLUMN observer.%I.%I IS %L', view, col, comments ->> col);
        END LOOP;
    END LOOP;
END
$$;

INSERT INTO observer.migration (version, revision) VALUES (1, 1);
