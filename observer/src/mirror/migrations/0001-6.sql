-- Version 1, revision 6. Daemons write by functions, and readers recognize their connections by a name. Daemons of every
-- revision of version 1 can write to it, at the same time: they use their rights on the tables, which `observer schema restrict`
-- takes away when no host needs them.

ALTER TABLE observer.host ADD COLUMN named_generation bigint;
COMMENT ON COLUMN observer.host.named_generation IS 'The generation whose connection has the application_name `observer HOST_NO GENERATION`. The writer of another generation is a daemon of a revision before 6, and is recognized by the presence lock.';
GRANT UPDATE (named_generation) ON observer.host TO observer_writer;

-- Either name may be longer than a btree allows, and a host's login chooses it.
CREATE INDEX session_name ON observer.session USING hash (name);
CREATE INDEX host_name ON observer.host USING hash (host);

-- The functions that writers call run with the rights of the owner. Each writes the rows of one host, and only where generation,
-- server process and login are those of the host's writer, and `writers` maps the login to the host. They call the next two,
-- which take their search_path from them: setting it once more would cost each change time.

CREATE FUNCTION observer.is_writer(number integer, token bigint) RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
    -- The lock makes the next writer wait for the end of this transaction.
    PERFORM FROM observer.host h
    WHERE h.host_no = number AND h.generation = token AND h.backend_pid = pg_backend_pid() AND h.login = session_user
        AND (EXISTS (SELECT FROM observer.writers w WHERE w.login = session_user AND w.host_id = h.host_id)
            OR pg_has_role(session_user, current_user, 'USAGE'))
    FOR NO KEY UPDATE;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION observer.is_writer(integer, bigint) IS 'Whether this connection is the writer of the host with this fencing token. The functions for writers call it, with the rights of the owner.';

CREATE FUNCTION observer.write_sessions(number integer, homes bytea[], bodies text[], deaths text[], are_last boolean[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    body jsonb;
    death_at timestamptz;
    death_kind text;
    death_signal integer;
    death_code integer;
BEGIN
    FOR place IN 1 .. cardinality(homes) LOOP
        body := bodies[place];
        death_at := NULL;
        death_kind := NULL;
        death_signal := NULL;
        death_code := NULL;
        IF deaths[place] IS NOT NULL THEN
            SELECT d.at, d.kind, d.signal, d.code INTO death_at, death_kind, death_signal, death_code
            FROM jsonb_to_record(deaths[place]::jsonb) AS d(at timestamptz, kind text, signal integer, code integer);
        END IF;
        IF body IS NOT NULL THEN
            -- The last death stays in the row when the home lives again. A death that comes with the state is the last, whatever
            -- the clocks say. Somebody may have edited a column, and not the JSON from which it was taken.
            UPDATE observer.session AS s SET certain = true, detail = body,
                home = x.home, home_mnt_ns = x.home_mnt_ns, name = x.name, boot_id = x.boot_id, pid = x.pid,
                start_boottime_ns = x.start_boottime_ns, started_at = x.started_at, exec_at = x.exec_at, tty = x.tty,
                pane = x.pane, mux = x.mux, mux_socket = x.mux_socket, cwd = x.cwd, comm = x.comm, argv = x.argv,
                username = x.username, uid = x.uid, state = x.state, since = x.since, roots = x.roots,
                wrapper_pid = x.wrapper_pid, starts = x.starts,
                last_death_at = CASE WHEN death_at IS NULL THEN s.last_death_at ELSE death_at END,
                last_death_kind = CASE WHEN death_at IS NULL THEN s.last_death_kind ELSE death_kind END,
                last_death_signal = CASE WHEN death_at IS NULL THEN s.last_death_signal ELSE death_signal END,
                last_death_code = CASE WHEN death_at IS NULL THEN s.last_death_code ELSE death_code END
            FROM jsonb_to_record(body) AS x(home text, home_mnt_ns bigint, name text, boot_id uuid, pid integer, start_boottime_ns bigint,
                    started_at timestamptz, exec_at timestamptz, tty text, pane text, mux text, mux_socket text, cwd text,
                    comm text, argv text[], username text, uid bigint, state text, since timestamptz, roots integer,
                    wrapper_pid integer, starts timestamptz[])
            WHERE s.host_no = number AND s.home_id = homes[place]
                AND (s.detail IS DISTINCT FROM body OR NOT s.certain
                    OR (s.home, s.home_mnt_ns, s.name, s.boot_id, s.pid, s.start_boottime_ns, s.started_at, s.exec_at, s.tty,
                        s.pane, s.mux, s.mux_socket, s.cwd, s.comm, s.argv, s.username, s.uid, s.state, s.since, s.roots,
                        s.wrapper_pid, s.starts)
                        IS DISTINCT FROM
                        (x.home, x.home_mnt_ns, x.name, x.boot_id, x.pid, x.start_boottime_ns, x.started_at, x.exec_at, x.tty,
                        x.pane, x.mux, x.mux_socket, x.cwd, x.comm, x.argv, x.username, x.uid, x.state, x.since, x.roots,
                        x.wrapper_pid, x.starts)
                    OR (death_at IS NOT NULL
                        AND (s.last_death_at, s.last_death_kind, s.last_death_signal, s.last_death_code)
                            IS DISTINCT FROM (death_at, death_kind, death_signal, death_code)));
            IF NOT FOUND THEN
                -- There is no such row, or it is equal.
                INSERT INTO observer.session (host_no, home_id, certain, detail,
                    home, home_mnt_ns, name, boot_id, pid, start_boottime_ns, started_at, exec_at, tty, pane, mux, mux_socket,
                    cwd, comm, argv, username, uid, state, since, roots, wrapper_pid, starts,
                    last_death_at, last_death_kind, last_death_signal, last_death_code)
                SELECT number, homes[place], true, body,
                    x.home, x.home_mnt_ns, x.name, x.boot_id, x.pid, x.start_boottime_ns, x.started_at, x.exec_at, x.tty,
                    x.pane, x.mux, x.mux_socket, x.cwd, x.comm, x.argv, x.username, x.uid, x.state, x.since, x.roots,
                    x.wrapper_pid, x.starts,
                    death_at, death_kind, death_signal, death_code
                FROM jsonb_to_record(body) AS x(home text, home_mnt_ns bigint, name text, boot_id uuid, pid integer, start_boottime_ns bigint,
                    started_at timestamptz, exec_at timestamptz, tty text, pane text, mux text, mux_socket text, cwd text,
                    comm text, argv text[], username text, uid bigint, state text, since timestamptz, roots integer,
                    wrapper_pid integer, starts timestamptz[])
                ON CONFLICT (host_no, home_id) DO NOTHING;
            END IF;
        ELSIF deaths[place] IS NOT NULL THEN
            UPDATE observer.session AS s SET last_death_at = death_at, last_death_kind = death_kind,
                last_death_signal = death_signal, last_death_code = death_code
            WHERE s.host_no = number AND s.home_id = homes[place]
                AND (are_last[place] OR death_at > coalesce(s.last_death_at, '-infinity'));
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION observer.write_sessions(integer, bytea[], text[], text[], boolean[]) IS 'Writes what differs of a host''s rows of the state: keys, rows and deaths as JSON, and whether a death is the last one whatever its time. Where the row is null, only the death is written. The functions for writers call it, with the rights of the owner.';

CREATE FUNCTION observer.deliver(number integer, token bigint, is_certain boolean, is_caught_up boolean, journal uuid,
    after_seq bigint, through_seq bigint, seqs bigint[], ats timestamptz[], boot_ids uuid[], kinds text[], home_ids bytea[],
    homes text[], names text[], pids integer[], starts bigint[], details text[], row_homes bytea[], row_bodies text[],
    row_deaths text[], rows_are_last boolean[], doubtful bytea[], OUT hosts bigint, OUT cursors bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    cursors := 0;
    -- The condition is that of is_writer().
    UPDATE observer.host AS h SET certain = coalesce(is_certain, h.certain), caught_up = is_caught_up,
        last_commit_at = CASE WHEN is_caught_up THEN now() ELSE h.last_commit_at END
    WHERE h.host_no = number AND h.generation = token AND h.backend_pid = pg_backend_pid() AND h.login = session_user
        AND (EXISTS (SELECT FROM observer.writers w WHERE w.login = session_user AND w.host_id = h.host_id)
            OR pg_has_role(session_user, current_user, 'USAGE'));
    GET DIAGNOSTICS hosts = ROW_COUNT;
    IF hosts = 0 THEN
        RETURN;
    END IF;
    UPDATE observer.stream AS s SET last_seq = through_seq
    WHERE s.host_no = number AND s.stream_id = journal AND s.last_seq = after_seq;
    GET DIAGNOSTICS cursors = ROW_COUNT;
    IF cursors = 0 THEN
        RETURN;
    END IF;
    -- Most changes come alone, and unnest() costs them more than the row.
    IF cardinality(seqs) = 1 THEN
        INSERT INTO observer.event (host_no, stream_id, seq, at, boot_id, kind, home_id, home, name, pid, start_boottime_ns, detail)
        VALUES (number, journal, seqs[1], ats[1], boot_ids[1], kinds[1], home_ids[1], homes[1], names[1], pids[1], starts[1],
            details[1]::jsonb);
    ELSE
        INSERT INTO observer.event (host_no, stream_id, seq, at, boot_id, kind, home_id, home, name, pid, start_boottime_ns, detail)
        SELECT number, journal, e.seq, e.at, e.boot_id, e.kind, e.home_id, e.home, e.name, e.pid, e.start_boottime_ns,
            e.detail::jsonb
        FROM unnest(seqs, ats, boot_ids, kinds, home_ids, homes, names, pids, starts, details)
            AS e(seq, at, boot_id, kind, home_id, home, name, pid, start_boottime_ns, detail);
    END IF;
    IF cardinality(row_homes) > 0 THEN
        PERFORM observer.write_sessions(number, row_homes, row_bodies, row_deaths, rows_are_last);
    END IF;
    IF cardinality(doubtful) > 0 THEN
        UPDATE observer.session AS s SET certain = false WHERE s.host_no = number AND s.home_id = ANY (doubtful);
    END IF;
END
$$;
COMMENT ON FUNCTION observer.deliver(integer, bigint, boolean, boolean, uuid, bigint, bigint, bigint[], timestamptz[], uuid[], text[], bytea[], text[], text[], integer[], bigint[], text[], bytea[], text[], text[], boolean[], bytea[]) IS 'Writes a batch of a host: moves the cursor, adds the events, and writes the rows of the state. Returns how many rows of the host and of the cursor were found: with 0 hosts, this connection is not the host''s writer with this fencing token; with 0 cursors, the cursor is elsewhere. Then no event and no row of the state was written.';

CREATE FUNCTION observer.begin_reconciliation(number integer, token bigint, journal uuid, known bytea[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    reached bigint := 0;
BEGIN
    IF NOT observer.is_writer(number, token) THEN
        RETURN NULL;
    END IF;
    IF journal IS NOT NULL THEN
        INSERT INTO observer.stream (host_no, stream_id, last_seq) VALUES (number, journal, 0)
        ON CONFLICT (host_no, stream_id) DO NOTHING;
        SELECT s.last_seq INTO reached FROM observer.stream s WHERE s.host_no = number AND s.stream_id = journal;
    END IF;
    -- A stream that is known here reports every end, and how. A stream that is new here begins after the ends of what the map does
    -- not know: where the row is of another boot, nobody observed the end of its process. That death has no date, so any death that
    -- arrives is newer. A process of this boot may live on without being a session.
    UPDATE observer.session s SET state = 'ended', since = now(), certain = true, roots = 0, wrapper_pid = NULL,
        last_death_at = CASE WHEN e.unseen THEN NULL ELSE s.last_death_at END,
        last_death_kind = CASE WHEN e.unseen THEN 'unobserved' ELSE s.last_death_kind END,
        last_death_signal = CASE WHEN e.unseen THEN NULL ELSE s.last_death_signal END,
        last_death_code = CASE WHEN e.unseen THEN NULL ELSE s.last_death_code END,
        detail = s.detail || jsonb_build_object('state', 'ended', 'since', now(), 'roots', 0, 'wrapper_pid', NULL)
    FROM (SELECT o.home_id, reached = 0 AND o.boot_id IS DISTINCT FROM h.boot_id AS unseen
        FROM observer.session o JOIN observer.host h USING (host_no)
        WHERE o.host_no = number AND o.state <> 'ended' AND o.home_id <> ALL (known)) AS e
    WHERE s.host_no = number AND s.home_id = e.home_id;
    RETURN reached;
END
$$;
COMMENT ON FUNCTION observer.begin_reconciliation(integer, bigint, uuid, bytea[]) IS 'Makes the cursor of a journal if there is none, and ends the host''s sessions that are not among the known ones. Returns the number that the cursor has reached, 0 without a journal; null: this connection is not the host''s writer with this fencing token, and nothing was written.';

CREATE FUNCTION observer.reconcile_sessions(number integer, token bigint, homes bytea[], bodies text[], deaths text[]) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT observer.is_writer(number, token) THEN
        RETURN false;
    END IF;
    PERFORM observer.write_sessions(number, homes, bodies, deaths, array_fill(true, ARRAY[cardinality(homes)]));
    RETURN true;
END
$$;
COMMENT ON FUNCTION observer.reconcile_sessions(integer, bigint, bytea[], text[], text[]) IS 'Writes what differs of the host''s rows of the state: keys, rows and last deaths as JSON. False: this connection is not the host''s writer with this fencing token, and nothing was written.';

CREATE FUNCTION observer.doubt_session(number integer, token bigint, home bytea) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT observer.is_writer(number, token) THEN
        RETURN false;
    END IF;
    UPDATE observer.session AS s SET certain = false WHERE s.host_no = number AND s.home_id = doubt_session.home AND s.certain;
    RETURN true;
END
$$;
COMMENT ON FUNCTION observer.doubt_session(integer, bigint, bytea) IS 'Marks the host''s row with this key as not certain, since a newer one was refused. False: this connection is not the host''s writer with this fencing token, and nothing was written.';

-- A host is present while the connection of its writer is alive. Readers recognize that by process, role, database and name, and
-- hosts of daemons before this revision by the lock. Any role may give its connection any name and take any advisory lock, and a
-- client that connects often enough gets any process id, but no connection of another client has the writer's role.
-- Whoever reads the view hosts, or another one that shows states, executes the next three functions.

CREATE FUNCTION observer.is_connected(pid integer, name text, login name) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM pg_stat_get_activity($1) AS a
        WHERE a.pid = $1 AND a.application_name = $2 AND pg_get_userbyid(a.usesysid) = $3
            AND a.datid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()));
END
$$;
COMMENT ON FUNCTION observer.is_connected(integer, text, name) IS 'Whether this server process serves a connection of this name and login to this database.';

CREATE FUNCTION observer.connections() RETURNS TABLE (pid integer, name text, login name)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 100
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT a.pid, a.application_name, pg_get_userbyid(a.usesysid)
        FROM pg_stat_get_activity(NULL) AS a
        WHERE a.datid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
END
$$;
COMMENT ON FUNCTION observer.connections() IS 'The connections to this database: server process, name and login.';

CREATE FUNCTION observer.lock_holders() RETURNS TABLE (host_no bigint, pid integer, login name)
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED ROWS 100
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT k.objid::bigint, k.pid, a.usename
        FROM pg_locks k JOIN pg_stat_activity a ON a.pid = k.pid
        WHERE k.locktype = 'advisory' AND k.granted AND k.classid = 1868723062 AND k.objsubid = 2
            AND k.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
END
$$;
COMMENT ON FUNCTION observer.lock_holders() IS 'The holders of presence locks: number of the host, server process and login.';

-- To look for one server process takes time in proportion to the connections (18 µs with 1,000), and to look at all of them as
-- much as for 70 of these. How many hosts a query reads is not known in advance. So each host is looked up alone for 1 ms, and then
-- all connections are read once. The locks are read if a host that the query reads needs them.
-- Within a transaction, Postgres shows connections as they were when it was first asked: the first condition makes it look again.
CREATE OR REPLACE VIEW observer.hosts AS
SELECT h.host, h.host_id, p.present, h.caught_up, h.certain, h.boot_id, h.version, h.last_commit_at, h.first_seen_at, h.generation,
    h.host_no
FROM observer.host h
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN (SELECT pg_catalog.pg_is_in_recovery() OR pg_catalog.pg_stat_clear_snapshot()::text IS NULL) THEN false
        WHEN h.named_generation IS DISTINCT FROM h.generation THEN coalesce(
            (h.host_no, h.backend_pid, h.login) IN (SELECT k.host_no, k.pid, k.login FROM observer.lock_holders() AS k), false)
        WHEN pg_catalog.clock_timestamp() < (SELECT pg_catalog.clock_timestamp() + interval '1 ms')
            THEN observer.is_connected(h.backend_pid, 'observer ' || h.host_no || ' ' || h.generation, h.login)
        ELSE coalesce((h.backend_pid, 'observer ' || h.host_no || ' ' || h.generation, h.login)
            IN (SELECT c.pid, c.name, c.login FROM observer.connections() AS c), false)
    END AS present
    -- Keeps this an expression that is computed once a host.
    OFFSET 0) AS p;

REVOKE ALL ON FUNCTION observer.is_writer, observer.write_sessions, observer.deliver, observer.begin_reconciliation,
    observer.reconcile_sessions, observer.doubt_session FROM PUBLIC;
GRANT EXECUTE ON FUNCTION observer.deliver, observer.begin_reconciliation, observer.reconcile_sessions, observer.doubt_session
    TO observer_writer;
-- Views run these with the rights of whoever reads, also where the database takes them from PUBLIC by default.
GRANT EXECUTE ON FUNCTION observer.is_connected, observer.connections, observer.lock_holders TO PUBLIC;

-- Whoever applies this may be another role than the owner of the tables, whose rights are the ones that the functions need.
DO $$
DECLARE
    owner constant name := (SELECT pg_catalog.pg_get_userbyid(c.relowner) FROM pg_catalog.pg_class c
        WHERE c.oid = 'observer.host'::regclass);
    function regprocedure;
BEGIN
    FOR function IN
        SELECT p.oid FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'observer'::regnamespace AND pg_catalog.pg_get_userbyid(p.proowner) <> owner
    LOOP
        EXECUTE pg_catalog.format('ALTER FUNCTION %s OWNER TO %I', function, owner);
    END LOOP;
END
$$;

INSERT INTO observer.migration (version, revision) VALUES (1, 6);
