-- Version 1, revision 7. History that is fast and small: indexes by which deaths and gaps are found, and rows of history that
-- share what the changes of a session have in common. Daemons of every revision of version 1 can write to it, at the same time.

-- Days of history stand in a schema of their own, where readers do not see them.
DO $$
BEGIN
    -- What is left of a schema observer that was dropped is an empty schema of the same owner.
    IF pg_catalog.to_regnamespace('observer_days') IS NULL THEN
        CREATE SCHEMA observer_days;
    ELSIF EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = 'observer_days'::pg_catalog.regnamespace)
        OR (SELECT d.nspowner FROM pg_catalog.pg_namespace d WHERE d.nspname = 'observer_days')
            NOT IN (SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = 'observer.host'::pg_catalog.regclass)
    THEN
        RAISE EXCEPTION 'the database has a schema named observer_days that is not observer''s: rename it (ALTER SCHEMA observer_days RENAME TO ...)';
    END IF;
END
$$;
COMMENT ON SCHEMA observer_days IS 'The days of observer.event: one partition for each day of arrival (UTC).';
DO $$
DECLARE
    part name;
BEGIN
    FOR part IN
        SELECT c.relname FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'observer.event'::regclass AND c.relnamespace = 'observer'::regnamespace
    LOOP
        EXECUTE pg_catalog.format('ALTER TABLE observer.%I SET SCHEMA observer_days', part);
    END LOOP;
END
$$;

-- Deaths are found by when they were, and those by a signal by that too. Postgres takes the reading of a text as a moment for
-- dependent on settings. It is not, because the constraint `legible` of event lets only moments with a time zone pass.
CREATE FUNCTION observer.death_at(detail jsonb) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN (detail -> 'death' ->> 'at')::timestamptz;
END
$$;
COMMENT ON FUNCTION observer.death_at(jsonb) IS 'When the death was that the detail of an event reports; null if it reports none. Whoever reads the view deaths executes it.';

-- It takes moments in UTC alone, so no setting changes what it returns. It stays unsafe in parallel: it catches errors, which takes
-- a subtransaction.
ALTER FUNCTION observer.moment(text) IMMUTABLE;

CREATE INDEX event_ended ON observer.event (observer.death_at(detail)) WHERE kind IN ('session_ended', 'process_ended');
CREATE INDEX event_killed ON observer.event (((detail #>> '{death,signal}')::integer), observer.death_at(detail))
    WHERE kind IN ('session_ended', 'process_ended') AND ((detail #>> '{death,signal}')::integer) IS NOT NULL;
CREATE INDEX event_left ON observer.event (observer.moment(detail ->> 'ended_at')) WHERE kind = 'session_left';
CREATE INDEX event_gap ON observer.event (at) WHERE kind IN ('gap', 'gap_opened', 'gap_closed');

-- What the changes of a session have in common within a day is there once. Its key is computed from what it is.
CREATE TABLE observer.event_base (
    host_no integer NOT NULL REFERENCES observer.host ON DELETE CASCADE,
    day     date    NOT NULL,
    id      bigint  NOT NULL,
    detail  jsonb   NOT NULL,
    PRIMARY KEY (host_no, day, id)
);
COMMENT ON TABLE observer.event_base IS 'What the details of several events of a host have in common: event.base_id names it. The view events puts both together.';
COMMENT ON COLUMN observer.event_base.host_no IS 'The host.';
COMMENT ON COLUMN observer.event_base.day IS 'The day (UTC) on which the events arrived. It is removed with them.';
COMMENT ON COLUMN observer.event_base.id IS 'A hash of detail.';
COMMENT ON COLUMN observer.event_base.detail IS 'Fields of a session as JSON.';
ALTER TABLE observer.event ADD COLUMN base_id bigint;
COMMENT ON COLUMN observer.event.base_id IS 'Where it is not null, detail has what differs from the row of event_base of that host, day of arrival and id. What columns and changed say is left out too.';

-- How daemons write moments.
CREATE FUNCTION observer.shown(at timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
COMMENT ON FUNCTION observer.shown(timestamptz) IS 'The moment as daemons write it: RFC 3339 in UTC with milliseconds. Whoever reads the views events and sessions executes it.';

-- The next functions divide the JSON of a session. A field that neither names stands in both parts, so what is put together is
-- what came. What an end alone changes is taken back in its base, so that it is that of the changes before.
CREATE FUNCTION observer.event_base_of(kind text, detail jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN kind IN ('session_started', 'session_changed') AND jsonb_typeof(detail) = 'object' AND detail ?& '{at,kind,as_of,comm,cwd,cwd_ino,since}'
    THEN detail - '{at,kind,boottime_ns,found_at,changed,restarts,since,comm,cwd,cwd_ino,as_of}'::text[]
    WHEN kind = 'session_ended' AND jsonb_typeof(detail) = 'object'
        AND detail ?& '{at,kind,as_of,comm,cwd,cwd_ino,since,state,roots,others,death,end_reason,moved_to,stands_in_for,wrapper_pid,stopped}'
    THEN (detail - '{at,kind,boottime_ns,found_at,changed,restarts,since,comm,cwd,cwd_ino,as_of}'::text[])
        || '{"state": "live", "roots": 1, "others": [], "death": null, "end_reason": null, "moved_to": null,
            "stands_in_for": null, "wrapper_pid": null, "stopped": false}'::jsonb
END;
COMMENT ON FUNCTION observer.event_base_of(text, jsonb) IS 'What the detail of an event shares with those of other events of its session; null where nothing is shared. The functions for writers call it.';

CREATE FUNCTION observer.event_rest_of(kind text, at timestamptz, detail jsonb) RETURNS jsonb
LANGUAGE sql STABLE
RETURN detail
    - '{name,home,home_mnt_ns,instance,home_deleted,home_dir,owner,foreign,starts,labels,label_variables,tty_input_at,tty_output_at,
            cost,pid,ppid,ancestor_pid,start_boottime_ns,key,exec_at,program,exe,exe_deleted,argv,argv_truncated,argv_source,cwd_dev,
            cwd_deleted,cwd_truncated,cwd_unreachable,mnt_ns,tty,tty_dev,foreground,uid,euid,suid,sid,pgid,cgroup,unit,container,pane,
            pane_stale,mux,mux_socket,certain,boot_id,username}'::text[]
    -- The view deaths reads started_at and the fields of a death from here.
    - CASE WHEN kind = 'session_ended' THEN '{}'::text[]
        ELSE '{started_at,state,roots,others,death,end_reason,moved_to,stands_in_for,wrapper_pid,stopped}'::text[] END
    -- What the columns say.
    - CASE
        WHEN (detail ->> 'kind', detail ->> 'at') IS DISTINCT FROM (kind, observer.shown(at)) THEN '{}'::text[]
        WHEN detail -> 'as_of' = jsonb_build_object('cwd', detail -> 'at') THEN '{at,kind,as_of}'::text[]
        ELSE '{at,kind}'::text[]
    END
    -- What `changed` says: [before, after].
    - CASE WHEN kind = 'session_changed' THEN ARRAY[
        CASE WHEN detail -> 'comm' = detail #> '{changed,comm,1}' THEN 'comm' END,
        CASE WHEN detail -> 'cwd' = detail #> '{changed,cwd,1}' THEN 'cwd' END,
        CASE WHEN detail -> 'cwd_ino' = detail #> '{changed,cwd_ino,1}' THEN 'cwd_ino' END,
        CASE WHEN detail -> 'since' = detail #> '{changed,since,1}' THEN 'since' END] ELSE '{}'::text[] END;
COMMENT ON FUNCTION observer.event_rest_of(text, timestamptz, jsonb) IS 'What the detail of an event has beside what event_base_of returns. The functions for writers call it.';

CREATE OR REPLACE FUNCTION observer.deliver(number integer, token bigint, is_certain boolean, is_caught_up boolean, journal uuid,
    after_seq bigint, through_seq bigint, seqs bigint[], ats timestamptz[], boot_ids uuid[], kinds text[], home_ids bytea[],
    homes text[], names text[], pids integer[], starts bigint[], details text[], row_homes bytea[], row_bodies text[],
    row_deaths text[], rows_are_last boolean[], doubtful bytea[], OUT hosts bigint, OUT cursors bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    today constant date := (now() AT TIME ZONE 'UTC')::date;
    body jsonb;
    base jsonb;
    base_no bigint;
    is_same boolean;
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
    -- Most changes come alone, and unnest() costs them more than the row. A base that is there under the same hash and is another
    -- one is not used.
    IF cardinality(seqs) = 1 THEN
        body := details[1]::jsonb;
        base := observer.event_base_of(kinds[1], body);
        IF base IS NOT NULL THEN
            base_no := jsonb_hash_extended(base, 0);
            SELECT b.detail = base INTO is_same FROM observer.event_base b
            WHERE b.host_no = number AND b.day = today AND b.id = base_no;
            IF NOT FOUND THEN
                INSERT INTO observer.event_base (host_no, day, id, detail) VALUES (number, today, base_no, base);
                is_same := true;
            END IF;
            IF is_same THEN
                body := observer.event_rest_of(kinds[1], ats[1], body);
            ELSE
                base_no := NULL;
            END IF;
        END IF;
        INSERT INTO observer.event (host_no, stream_id, seq, at, boot_id, kind, home_id, home, name, pid, start_boottime_ns, detail, base_id)
        VALUES (number, journal, seqs[1], ats[1], boot_ids[1], kinds[1], CASE WHEN base ? 'username' THEN NULL ELSE home_ids[1] END, homes[1], names[1], pids[1], starts[1],
            body, base_no);
    ELSE
        INSERT INTO observer.event_base (host_no, day, id, detail)
        SELECT number, today, jsonb_hash_extended(k.base, 0), k.base
        FROM unnest(kinds, details) AS e(kind, detail)
        CROSS JOIN LATERAL (SELECT observer.event_base_of(e.kind, e.detail::jsonb) AS base OFFSET 0) AS k
        WHERE k.base IS NOT NULL
        ON CONFLICT (host_no, day, id) DO NOTHING;
        INSERT INTO observer.event (host_no, stream_id, seq, at, boot_id, kind, home_id, home, name, pid, start_boottime_ns, detail, base_id)
        SELECT number, journal, e.seq, e.at, e.boot_id, e.kind, CASE WHEN c.base ? 'username' THEN NULL ELSE e.home_id END, e.home, e.name, e.pid, e.start_boottime_ns,
            CASE WHEN b.id IS NULL THEN k.detail ELSE observer.event_rest_of(e.kind, e.at, k.detail) END, b.id
        FROM unnest(seqs, ats, boot_ids, kinds, home_ids, homes, names, pids, starts, details)
            AS e(seq, at, boot_id, kind, home_id, home, name, pid, start_boottime_ns, detail)
        CROSS JOIN LATERAL (SELECT e.detail::jsonb AS detail OFFSET 0) AS k
        CROSS JOIN LATERAL (SELECT observer.event_base_of(e.kind, k.detail) AS base OFFSET 0) AS c
        LEFT JOIN LATERAL (
            SELECT f.id FROM observer.event_base f
            WHERE f.host_no = number AND f.day = today AND f.id = jsonb_hash_extended(c.base, 0) AND f.detail = c.base
            OFFSET 0) AS b ON true;
    END IF;
    IF cardinality(row_homes) > 0 THEN
        PERFORM observer.write_sessions(number, row_homes, row_bodies, row_deaths, rows_are_last);
    END IF;
    IF cardinality(doubtful) > 0 THEN
        UPDATE observer.session AS s SET certain = false WHERE s.host_no = number AND s.home_id = ANY (doubtful);
    END IF;
END
$$;

-- What stands in columns is not repeated in the JSON of a row of the state; the view sessions puts it together.
CREATE OR REPLACE FUNCTION observer.write_sessions(number integer, homes bytea[], bodies text[], deaths text[], are_last boolean[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    columns constant text[] := '{home,home_mnt_ns,name,boot_id,pid,start_boottime_ns,started_at,exec_at,tty,pane,mux,mux_socket,cwd,comm,argv,username,uid,
        state,since,roots,wrapper_pid,starts}';
    body jsonb;
    rest jsonb;
    death_at timestamptz;
    death_kind text;
    death_signal integer;
    death_code integer;
BEGIN
    FOR place IN 1 .. cardinality(homes) LOOP
        body := bodies[place];
        rest := CASE WHEN body ?& columns THEN body - columns ELSE body END;
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
            UPDATE observer.session AS s SET certain = true, detail = rest,
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
                AND (s.detail IS DISTINCT FROM rest OR NOT s.certain
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
                SELECT number, homes[place], true, rest,
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

CREATE OR REPLACE FUNCTION observer.begin_reconciliation(number integer, token bigint, journal uuid, known bytea[]) RETURNS bigint
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
        detail = CASE WHEN s.detail ? 'home' THEN s.detail
            || jsonb_build_object('state', 'ended', 'since', now(), 'roots', 0, 'wrapper_pid', NULL) ELSE s.detail END
    FROM (SELECT o.home_id, reached = 0 AND o.boot_id IS DISTINCT FROM h.boot_id AS unseen
        FROM observer.session o JOIN observer.host h USING (host_no)
        WHERE o.host_no = number AND o.state <> 'ended' AND o.home_id <> ALL (known)) AS e
    WHERE s.host_no = number AND s.home_id = e.home_id;
    RETURN reached;
END
$$;

-- When hosts were present. A connection that becomes the writer of its host raises the generation, whatever its version.
CREATE TABLE observer.presence (
    host_no      integer     NOT NULL REFERENCES observer.host ON DELETE CASCADE,
    generation   bigint      NOT NULL,
    began_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    seen_at      timestamptz,
    ended_after  timestamptz,
    ended_before timestamptz,
    boot_id      uuid,
    version      text,
    PRIMARY KEY (host_no, generation)
);
CREATE INDEX presence_began ON observer.presence (began_at);
COMMENT ON TABLE observer.presence IS 'When each host was present. The view presences shows it.';
COMMENT ON COLUMN observer.presence.host_no IS 'The host.';
COMMENT ON COLUMN observer.presence.generation IS 'The fencing token of the connection.';
COMMENT ON COLUMN observer.presence.began_at IS 'When the connection became the writer of the host, by the server''s clock.';
COMMENT ON COLUMN observer.presence.seen_at IS 'When it last called maintain(), which it does each hour.';
COMMENT ON COLUMN observer.presence.ended_after IS 'Presence was there until then at least; null while it has no successor.';
COMMENT ON COLUMN observer.presence.ended_before IS 'Presence was over by then; null: nobody has noticed an end.';
COMMENT ON COLUMN observer.presence.boot_id IS 'The boot of the host.';
COMMENT ON COLUMN observer.presence.version IS 'Version of the daemon.';

CREATE FUNCTION observer.note_presence() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE observer.presence p SET ended_before = coalesce(p.ended_before, now()),
        ended_after = least(greatest(p.began_at, p.seen_at, OLD.last_commit_at), coalesce(p.ended_before, now()))
    WHERE p.host_no = OLD.host_no AND p.generation IN (
        -- Whoever holds a row, in a call of maintain() that does not end, keeps no host from becoming present. The next claim notes it.
        SELECT o.generation FROM observer.presence o WHERE o.host_no = OLD.host_no AND o.ended_after IS NULL FOR UPDATE SKIP LOCKED);
    INSERT INTO observer.presence (host_no, generation, boot_id, version)
    VALUES (NEW.host_no, NEW.generation, NEW.boot_id, NEW.version)
    ON CONFLICT (host_no, generation) DO NOTHING;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION observer.note_presence() IS 'Notes that the presence of a host begins, and that the one before is over.';
CREATE TRIGGER note_presence AFTER UPDATE OF generation ON observer.host
    FOR EACH ROW WHEN (NEW.generation IS DISTINCT FROM OLD.generation) EXECUTE FUNCTION observer.note_presence();
-- Of a host that is connected while this is applied, when that began is not known.
INSERT INTO observer.presence (host_no, generation, boot_id, version)
SELECT h.host_no, h.generation, h.boot_id, h.version FROM observer.hosts h WHERE h.present;

ALTER TABLE observer.host
    ADD COLUMN clock_ahead interval CHECK (clock_ahead BETWEEN interval '-36500 days' AND interval '36500 days'),
    ADD COLUMN refused_sessions bigint NOT NULL DEFAULT 0,
    ADD COLUMN last_refused_at timestamptz;
COMMENT ON COLUMN observer.host.clock_ahead IS 'How far the host''s clock was ahead of the server''s when its daemon last connected; negative: behind. Null: a daemon before revision 7, which does not measure it.';
COMMENT ON COLUMN observer.host.refused_sessions IS 'How often a row for another session was refused, because a user had setting.sessions_max of them and none had ended.';
COMMENT ON COLUMN observer.host.last_refused_at IS 'When that last happened, by the server''s clock.';
GRANT UPDATE (clock_ahead) ON observer.host TO observer_writer;

ALTER TABLE observer.setting
    ADD COLUMN keep_ended interval NOT NULL DEFAULT '30 days' CHECK (keep_ended >= interval '1 day'),
    ADD COLUMN sessions_max integer NOT NULL DEFAULT 10000 CHECK (sessions_max >= 100);
COMMENT ON COLUMN observer.setting.keep_ended IS 'Retention of the rows of sessions that have ended: a row is removed when it ended this long ago.';
COMMENT ON COLUMN observer.setting.sessions_max IS 'Sessions of one user of one host that have a row. Beyond it, those that ended first give way; where none has ended, a further session has no row, and the host''s refused_sessions counts it.';

-- A user may have any number of homes, one after the other. This holds for daemons of every revision.
CREATE INDEX session_of_user ON observer.session (host_no, uid);
CREATE FUNCTION observer.limit_sessions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most constant integer := (SELECT s.sessions_max FROM observer.setting s);
BEGIN
    -- Triggers come before the policies of the table, which refuse a row of another host.
    IF NOT (NEW.host_no = ANY (observer.own_hosts()) OR pg_has_role(session_user, current_user, 'USAGE')) THEN
        RETURN NEW;
    END IF;
    -- A row that is there is updated, whether by ON CONFLICT or not at all.
    IF EXISTS (SELECT FROM observer.session s WHERE s.host_no = NEW.host_no AND s.home_id = NEW.home_id)
        OR (SELECT count(*) FROM (
            SELECT FROM observer.session s
            WHERE s.host_no = NEW.host_no AND (s.uid = NEW.uid OR (NEW.uid IS NULL AND s.uid IS NULL)) LIMIT most) AS found) < most
    THEN
        RETURN NEW;
    END IF;
    -- Several at a time, so that not each start has to look for one.
    DELETE FROM observer.session s USING (
        SELECT o.home_id FROM observer.session o
        WHERE o.host_no = NEW.host_no AND (o.uid = NEW.uid OR (NEW.uid IS NULL AND o.uid IS NULL)) AND o.state = 'ended'
        ORDER BY o.since NULLS FIRST LIMIT greatest(most / 16, 1)) AS ended
    WHERE s.host_no = NEW.host_no AND s.home_id = ended.home_id;
    IF FOUND THEN
        RETURN NEW;
    END IF;
    UPDATE observer.host h SET refused_sessions = h.refused_sessions + 1, last_refused_at = now() WHERE h.host_no = NEW.host_no;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION observer.limit_sessions() IS 'Keeps a user of a host to setting.sessions_max rows of the state.';
CREATE TRIGGER limit_sessions BEFORE INSERT ON observer.session FOR EACH ROW EXECUTE FUNCTION observer.limit_sessions();

CREATE TABLE observer.upkeep (
    only_row boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    done_at  timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO observer.upkeep DEFAULT VALUES;
COMMENT ON TABLE observer.upkeep IS 'When maintain() last removed rows. All hosts call it, and one of them in ten minutes does that.';
COMMENT ON COLUMN observer.upkeep.only_row IS 'Always true: it limits the table to one row.';
COMMENT ON COLUMN observer.upkeep.done_at IS 'When rows were last removed.';

CREATE FUNCTION observer.remove_expired() RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    -- What one call removes of each kind: a statement of a daemon may take 20 s.
    most constant integer := 20000;
    oldest date;
BEGIN
    PERFORM FROM observer.upkeep u WHERE u.done_at < now() - interval '10 minutes' FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE observer.upkeep SET done_at = now();
    UPDATE observer.presence p SET ended_before = now()
    FROM (
        SELECT o.host_no, o.generation FROM observer.presence o JOIN observer.hosts h USING (host_no)
        WHERE o.ended_before IS NULL AND NOT (h.present AND h.generation = o.generation)
        LIMIT most FOR UPDATE OF o SKIP LOCKED) AS gone
    WHERE p.host_no = gone.host_no AND p.generation = gone.generation;
    DELETE FROM observer.session s USING (
        SELECT o.host_no, o.home_id FROM observer.session o, observer.setting c
        WHERE o.state = 'ended' AND o.since < now() - c.keep_ended LIMIT most FOR UPDATE OF o SKIP LOCKED) AS ended
    WHERE s.host_no = ended.host_no AND s.home_id = ended.home_id;
    SELECT min(to_date(substr(c.relname, 7), 'YYYYMMDD')) INTO oldest
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'observer.event'::regclass AND c.relname ~ '^event_[0-9]{8}$';
    DELETE FROM observer.event_base b USING (
        SELECT o.host_no, o.day, o.id FROM observer.host h
        JOIN observer.event_base o ON o.host_no = h.host_no AND o.day < oldest LIMIT most) AS old
    WHERE b.host_no = old.host_no AND b.day = old.day AND b.id = old.id;
    DELETE FROM observer.presence p USING (
        SELECT o.host_no, o.generation FROM observer.presence o, observer.setting c
        WHERE o.ended_before < now() - c.keep_events LIMIT most FOR UPDATE OF o SKIP LOCKED) AS old
    WHERE p.host_no = old.host_no AND p.generation = old.generation;
END
$$;
COMMENT ON FUNCTION observer.remove_expired() IS 'Removes rows whose time is over, and notes which hosts are not present any more, at most every ten minutes. maintain() calls it, with the rights of the owner.';

CREATE FUNCTION observer.has_day(part text) RETURNS boolean
LANGUAGE sql STABLE
AS $$
    -- Whatever schema it is in: a call that began before this revision makes it in the schema observer.
    SELECT EXISTS (SELECT FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'observer.event'::pg_catalog.regclass AND c.relname = part)
$$;
COMMENT ON FUNCTION observer.has_day(text) IS 'Whether there is a partition of this name. maintain() calls it, with the rights of the owner.';

CREATE OR REPLACE FUNCTION observer.maintain(days_ahead integer DEFAULT 7) RETURNS void
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
        CONTINUE WHEN observer.has_day(part);
        -- One caller at a time creates a partition; a caller that waited finds it. Only the owner can take this lock.
        PERFORM set_config('lock_timeout', '0', true);
        LOCK TABLE observer.setting IN SHARE UPDATE EXCLUSIVE MODE;
        PERFORM set_config('lock_timeout', '250ms', true);
        CONTINUE WHEN observer.has_day(part);
        -- Creating the table apart and attaching it does not block readers and writers of the other partitions.
        EXECUTE format('CREATE TABLE observer_days.%I (LIKE observer.event INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)', part);
        EXECUTE format('COMMENT ON TABLE observer_days.%I IS %L', part, 'Events that arrived on ' || day || ' (UTC).');
        EXECUTE format('ALTER TABLE observer.event ATTACH PARTITION observer_days.%I FOR VALUES FROM (%L) TO (%L)', part,
            day::timestamptz, (day + 1)::timestamptz);
    END LOOP;
    UPDATE observer.presence p SET seen_at = now() FROM observer.host h
    WHERE h.backend_pid = pg_backend_pid() AND h.login = session_user AND p.host_no = h.host_no AND p.generation = h.generation;
    BEGIN
        PERFORM observer.remove_expired();
    EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
        -- Somebody holds a row for long. The days stay made, and a later call removes what is due.
        NULL;
    END;
    FOR part IN
        SELECT c.oid::regclass::text FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid, observer.setting s
        WHERE i.inhparent = 'observer.event'::regclass AND c.relname ~ '^event_[0-9]{8}$'
            AND (to_date(substr(c.relname, 7), 'YYYYMMDD') + 1)::timestamptz <= now() - s.keep_events
        ORDER BY c.relname
    LOOP
        BEGIN
            LOCK TABLE observer.setting IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;
            EXECUTE format('DROP TABLE IF EXISTS %s', part);
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            RETURN;
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION observer.maintain(integer) IS 'Creates the partitions of event for the next days, drops those older than setting.keep_events, and removes what remove_expired() does. A partition that is being read is not waited for: a later call drops it.';

CREATE OR REPLACE VIEW observer.hosts AS
SELECT h.host, h.host_id, p.present, h.caught_up, h.certain, h.boot_id, h.version, h.last_commit_at, h.first_seen_at, h.generation,
    h.host_no, h.clock_ahead, h.refused_sessions, h.last_refused_at
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

CREATE OR REPLACE VIEW observer.sessions AS
SELECT h.host, h.host_id, s.boot_id, s.home, s.name, s.pid, s.start_boottime_ns, s.started_at, s.exec_at,
    s.tty, s.pane, s.mux, s.mux_socket, s.cwd, s.comm, s.argv, s.username, s.uid,
    CASE WHEN h.present THEN s.state ELSE 'unknown' END AS state,
    s.state AS recorded_state,
    (h.present AND h.certain AND s.certain) AS certain,
    s.since, s.roots,
    (SELECT pg_catalog.count(*) FROM pg_catalog.unnest(s.starts) AS start
        WHERE start > pg_catalog.now() + coalesce(h.clock_ahead, interval '0') - interval '24 hours')::integer AS starts_24h,
    s.last_death_at, s.last_death_kind, s.last_death_signal, s.last_death_code,
    CASE WHEN h.present AND h.caught_up THEN pg_catalog.now() ELSE h.last_commit_at END AS as_of,
    s.wrapper_pid, s.home_mnt_ns,
    -- What stands in columns is not in the JSON of what daemons write by functions from revision 7 on.
    CASE WHEN pg_catalog.jsonb_typeof(s.detail) <> 'object' OR s.detail ? 'home' THEN s.detail
        ELSE s.detail || pg_catalog.jsonb_build_object('home', s.home, 'home_mnt_ns', s.home_mnt_ns, 'name', s.name,
            'boot_id', s.boot_id, 'pid', s.pid, 'start_boottime_ns', s.start_boottime_ns::text,
            'started_at', observer.shown(s.started_at), 'exec_at', observer.shown(s.exec_at), 'tty', s.tty, 'pane', s.pane,
            'mux', s.mux, 'mux_socket', s.mux_socket, 'cwd', s.cwd, 'comm', s.comm, 'argv', s.argv, 'username', s.username,
            'uid', s.uid, 'state', s.state, 'since', observer.shown(s.since), 'roots', s.roots, 'wrapper_pid', s.wrapper_pid,
            'starts', (SELECT pg_catalog.array_agg(observer.shown(start)) FROM pg_catalog.unnest(s.starts) AS start))
    END AS detail,
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
    CASE WHEN pg_catalog.jsonb_typeof(s.detail -> 'labels') = 'object' THEN s.detail -> 'labels' END AS labels,
    s.detail ->> 'unit' AS unit, s.detail ->> 'container' AS container
FROM observer.session s JOIN observer.hosts h USING (host_no);

CREATE OR REPLACE VIEW observer.live AS
SELECT * FROM observer.sessions WHERE state IN ('live', 'detached');

CREATE OR REPLACE VIEW observer.restart_loops AS
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
    WHERE start > pg_catalog.now() + coalesce(h.clock_ahead, interval '0') - o.restart_loop_span) r
WHERE r.starts >= o.restart_loop_starts;

-- A query that asks for detail, uid or username looks for the base; none other pays for it.
CREATE OR REPLACE VIEW observer.events AS
SELECT h.host_id, e.stream_id, e.seq, e.boot_id, e.at, e.received_at, e.kind, e.home, e.name, e.pid, e.start_boottime_ns,
    CASE WHEN e.base_id IS NULL THEN e.detail
        ELSE coalesce((SELECT b.detail FROM observer.event_base b
                WHERE b.host_no = e.host_no AND b.day = (e.received_at AT TIME ZONE 'UTC')::date AND b.id = e.base_id), '{}')
            || (pg_catalog.jsonb_build_object('at', observer.shown(e.at), 'kind', e.kind,
                    'as_of', pg_catalog.jsonb_build_object('cwd', observer.shown(e.at)))
                || CASE WHEN e.detail #> '{changed,cwd,1}' IS NULL THEN '{}'
                    ELSE pg_catalog.jsonb_build_object('cwd', e.detail #> '{changed,cwd,1}') END
                || CASE WHEN e.detail #> '{changed,cwd_ino,1}' IS NULL THEN '{}'
                    ELSE pg_catalog.jsonb_build_object('cwd_ino', e.detail #> '{changed,cwd_ino,1}') END
                || CASE WHEN e.detail #> '{changed,comm,1}' IS NULL THEN '{}'
                    ELSE pg_catalog.jsonb_build_object('comm', e.detail #> '{changed,comm,1}') END
                || CASE WHEN e.detail #> '{changed,since,1}' IS NULL THEN '{}'
                    ELSE pg_catalog.jsonb_build_object('since', e.detail #> '{changed,since,1}') END
                || e.detail)
    END AS detail,
    h.host,
    CASE WHEN pg_catalog.jsonb_typeof(e.detail -> 'changed') = 'object' THEN e.detail -> 'changed' END AS changed,
    (SELECT CASE WHEN u.uid BETWEEN '0'::jsonb AND '4294967295'::jsonb THEN u.uid::bigint END
        FROM (SELECT coalesce(e.detail -> 'uid', (SELECT b.detail -> 'uid' FROM observer.event_base b
            WHERE b.host_no = e.host_no AND b.day = (e.received_at AT TIME ZONE 'UTC')::date AND b.id = e.base_id)) AS uid) AS u) AS uid,
    coalesce(e.detail ->> 'username',
        (SELECT b.detail ->> 'username' FROM observer.event_base b
            WHERE b.host_no = e.host_no AND b.day = (e.received_at AT TIME ZONE 'UTC')::date AND b.id = e.base_id),
        -- Daemons before revision 7 write it to the row of the state alone.
        (SELECT s.username FROM observer.session s WHERE s.host_no = e.host_no AND s.home_id = e.home_id)) AS username,
    observer.moment(coalesce(e.detail ->> 'started_at',
        (SELECT b.detail ->> 'started_at' FROM observer.event_base b
            WHERE b.host_no = e.host_no AND b.day = (e.received_at AT TIME ZONE 'UTC')::date AND b.id = e.base_id))) AS started_at
FROM observer.event e JOIN observer.host h USING (host_no);
COMMENT ON COLUMN observer.events.uid IS 'Real user id of the session''s primary; null where that is not known.';
COMMENT ON COLUMN observer.events.username IS 'Name of that user, according to the host at that time. Of what daemons before revision 7 wrote: the name in the session''s row, while it has one.';
COMMENT ON COLUMN observer.events.started_at IS 'When the session''s primary was started, by the host''s wall clock.';

-- As a part of the view, it would be planned for each pair of days.
CREATE FUNCTION observer.has_died_elsewhere(number integer, died_at timestamptz, boot uuid, process integer, start_ns bigint,
    journal uuid, entry bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM observer.event o
        WHERE o.host_no = number AND o.at = died_at AND o.pid = process AND o.start_boottime_ns = start_ns
            AND o.boot_id = boot AND o.kind IN ('session_ended', 'process_ended')
            AND (o.detail ->> 'moved_to' IS NULL, o.stream_id, o.seq) > (false, journal, entry));
END
$$;
COMMENT ON FUNCTION observer.has_died_elsewhere(integer, timestamptz, uuid, integer, bigint, uuid, bigint) IS 'Whether the death of a process that moved is listed by another event than this one. Whoever reads the view deaths executes it.';

CREATE OR REPLACE VIEW observer.deaths AS
SELECT h.host, h.host_id, e.boot_id, e.home, e.name, e.pid, e.start_boottime_ns, e.detail ->> 'comm' AS comm,
    d.kind, d.code, (e.detail #>> '{death,signal}')::integer AS signal, d.signal_name, d.core_dumped, d.raw_status,
    (d.sender ->> 'pid')::integer AS sender_pid, d.sender ->> 'comm' AS sender_comm,
    (d.sender ->> 'uid')::bigint AS sender_uid, d.sender ->> 'kind' AS sender_kind,
    (e.detail ->> 'started_at')::timestamptz AS started_at, observer.death_at(e.detail) AS ended_at, d.lifetime_ms,
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
    AND (e.detail ->> 'moved_to' IS NULL
        OR NOT observer.has_died_elsewhere(e.host_no, e.at, e.boot_id, e.pid, e.start_boottime_ns, e.stream_id, e.seq));

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
    observer.death_at(e.detail) AS ended_at,
    l.processes AS left_processes, observer.count_of(e.detail -> 'death' -> 'left' -> 'rss_bytes') AS left_rss_bytes,
    e.detail -> 'death' -> 'left' -> 'keys' AS keys,
    (h.boot_id = e.boot_id) AS is_same_boot, e.received_at, e.stream_id, e.seq
FROM observer.event e
JOIN observer.host h USING (host_no)
CROSS JOIN LATERAL (SELECT observer.count_of(e.detail -> 'death' -> 'left' -> 'processes') AS processes) AS l
WHERE e.kind IN ('session_ended', 'process_ended') AND l.processes > 0;

CREATE VIEW observer.presences AS
SELECT h.host, h.host_id, p.generation, p.began_at,
    CASE WHEN NOT c.is_present
        THEN coalesce(p.ended_after, least(greatest(p.began_at, p.seen_at, h.last_commit_at), coalesce(p.ended_before, pg_catalog.now())))
    END AS ended_after,
    CASE WHEN NOT c.is_present THEN coalesce(p.ended_before, pg_catalog.now()) END AS ended_before,
    c.is_present, p.boot_id, p.version
FROM observer.presence p JOIN observer.hosts h USING (host_no)
CROSS JOIN LATERAL (SELECT h.present AND h.generation = p.generation AS is_present) AS c;
COMMENT ON VIEW observer.presences IS 'When the daemon of each host was connected, by the server''s clock, for as long as setting.keep_events. The end of a connection is not recorded when it happens: it lies between ended_after and ended_before.';

-- The next functions read the views, with the rights of whoever calls them.
CREATE FUNCTION observer.lives(since timestamptz, until timestamptz)
RETURNS TABLE (host text, host_id uuid, boot_id uuid, home text, name text, uid bigint, username text, pid integer,
    start_boottime_ns bigint, started_at timestamptz, ended_at timestamptz, known_until timestamptz)
LANGUAGE sql STABLE
BEGIN ATOMIC
    -- Until it ended in its home, or moved to another one; there it is a life of its own, which begins with the process too.
    SELECT e.host, e.host_id, e.boot_id, e.home, e.name, e.uid, e.username, e.pid, e.start_boottime_ns, e.started_at, e.at, e.at
    FROM observer.events e
    WHERE e.kind IN ('session_ended', 'process_ended') AND e.at > lives.since AND e.started_at <= lives.until
    UNION ALL
    SELECT s.host, s.host_id, s.boot_id, s.home, s.name, s.uid, s.username, s.pid, s.start_boottime_ns, s.started_at, NULL, s.as_of
    FROM observer.sessions s
    WHERE s.recorded_state <> 'ended' AND s.started_at <= lives.until AND s.as_of >= lives.since;
END;
COMMENT ON FUNCTION observer.lives(timestamptz, timestamptz) IS 'The processes that stood for sessions between two moments, by the hosts'' clocks: each with its start, its end (null: it runs, or its host is not present) and up to when it is known to have run. It reads the ends since then, as far as history goes back.';

CREATE FUNCTION observer.live_at(moment timestamptz)
RETURNS TABLE (host text, host_id uuid, boot_id uuid, home text, name text, uid bigint, username text, pid integer,
    start_boottime_ns bigint, started_at timestamptz, ended_at timestamptz)
LANGUAGE sql STABLE
BEGIN ATOMIC
    -- A process that moved later stood for the session that it left first.
    SELECT DISTINCT ON (l.host_id, l.boot_id, l.pid, l.start_boottime_ns)
        l.host, l.host_id, l.boot_id, l.home, l.name, l.uid, l.username, l.pid, l.start_boottime_ns, l.started_at, l.ended_at
    FROM observer.lives(live_at.moment, live_at.moment) AS l
    ORDER BY l.host_id, l.boot_id, l.pid, l.start_boottime_ns, l.ended_at NULLS LAST;
END;
COMMENT ON FUNCTION observer.live_at(timestamptz) IS 'The processes that stood for sessions at that moment, by the hosts'' clocks, and when they ended since. A session that a process entered after it was started counts from that start on.';

CREATE FUNCTION observer.availability(since timestamptz, until timestamptz)
RETURNS TABLE (day date, host text, host_id uuid, home text, name text, uid bigint, up interval, share double precision)
LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH l AS MATERIALIZED (
        SELECT v.host, v.host_id, v.home, v.name, v.uid, v.started_at, v.known_until FROM observer.lives(availability.since, availability.until) AS v
        WHERE v.started_at < v.known_until)
    SELECT c.day, c.host, c.host_id, c.home, c.name, c.uid, u.up,
        (extract(epoch FROM u.up) / extract(epoch FROM c.until - c.since))::double precision
    FROM (
        SELECT d.day::date AS day, d.since, d.until, l.host, l.host_id, l.home, max(l.name) AS name, l.uid,
            range_agg(tstzrange(greatest(l.started_at, d.since), least(l.known_until, d.until))) AS lived
        FROM (SELECT g AS day, greatest(g AT TIME ZONE 'UTC', availability.since) AS since,
                least((g + interval '1 day') AT TIME ZONE 'UTC', availability.until, now()) AS until
            FROM generate_series(date_trunc('day', availability.since AT TIME ZONE 'UTC'), availability.until AT TIME ZONE 'UTC', interval '1 day') AS g) AS d
        JOIN l ON l.started_at < d.until AND l.known_until > d.since
        WHERE d.since < d.until
        GROUP BY d.day, d.since, d.until, l.host, l.host_id, l.home, l.uid) AS c
    CROSS JOIN LATERAL (SELECT sum(upper(r) - lower(r)) AS up FROM unnest(c.lived) AS r) AS u;
END;
COMMENT ON FUNCTION observer.availability(timestamptz, timestamptz) IS 'For how long each session had a process on each day (UTC) between two moments, and which share of the day, or of its part between them, that is. Days without one have no row.';

DO $$
DECLARE
    comments constant jsonb := '{
        "hosts.clock_ahead": "How far the host''s clock was ahead of the server''s when its daemon last connected; negative: behind. Null: not measured, by a daemon before revision 7.",
        "hosts.refused_sessions": "How often a row for another session was refused, because a user had setting.sessions_max of them and none had ended.",
        "hosts.last_refused_at": "When that last happened, by the server''s clock.",
        "sessions.unit": "The innermost systemd unit in the path of the cgroup; null: in none that is known, or written by a daemon before revision 7.",
        "sessions.container": "The innermost container in the path of the cgroup: its id, or the name where the runtime has names; null: in none that is known, or written by a daemon before revision 7.",
        "live.unit": "The innermost systemd unit in the path of the cgroup; null: in none that is known, or written by a daemon before revision 7.",
        "live.container": "The innermost container in the path of the cgroup: its id, or the name where the runtime has names; null: in none that is known, or written by a daemon before revision 7.",
        "presences.host": "Name of the host when its daemon last connected.",
        "presences.host_id": "The host.",
        "presences.generation": "The fencing token of the connection.",
        "presences.began_at": "When the connection became the writer of the host; of one that was there when revision 7 was applied, the time of that.",
        "presences.ended_after": "The last moment at which the host is known to have been present. Null: it is.",
        "presences.ended_before": "The first moment at which it is known not to have been. Null: it is present.",
        "presences.is_present": "Whether this presence lasts.",
        "presences.boot_id": "The boot of the host.",
        "presences.version": "Version of the daemon."
    }';
    place text;
BEGIN
    FOR place IN SELECT pg_catalog.jsonb_object_keys(comments) LOOP
        EXECUTE pg_catalog.format('COMMENT ON COLUMN observer.%I.%I IS %L', pg_catalog.split_part(place, '.', 1),
            pg_catalog.split_part(place, '.', 2), comments ->> place);
    END LOOP;
END
$$;

REVOKE ALL ON observer.event_base, observer.presence, observer.upkeep, observer.presences FROM PUBLIC;
REVOKE ALL ON FUNCTION observer.event_base_of, observer.event_rest_of, observer.note_presence, observer.limit_sessions,
    observer.remove_expired, observer.has_day, observer.lives, observer.live_at, observer.availability FROM PUBLIC;
GRANT SELECT ON observer.presences TO observer_reader;
GRANT EXECUTE ON FUNCTION observer.lives, observer.live_at, observer.availability TO observer_reader;
-- Views, and indexes that daemons before revision 6 write to, run these with the rights of whoever reads or writes.
GRANT EXECUTE ON FUNCTION observer.shown, observer.death_at, observer.moment, observer.has_died_elsewhere TO PUBLIC;

-- Whoever applies this may be another role than the owner of the tables, whose rights are the ones that the functions need.
DO $$
DECLARE
    owner constant name := (SELECT pg_catalog.pg_get_userbyid(c.relowner) FROM pg_catalog.pg_class c
        WHERE c.oid = 'observer.host'::regclass);
    function regprocedure;
    relation regclass;
BEGIN
    FOR function IN
        SELECT p.oid FROM pg_catalog.pg_proc p
        WHERE p.pronamespace = 'observer'::regnamespace AND pg_catalog.pg_get_userbyid(p.proowner) <> owner
    LOOP
        EXECUTE pg_catalog.format('ALTER FUNCTION %s OWNER TO %I', function, owner);
    END LOOP;
    FOR relation IN
        SELECT c.oid FROM pg_catalog.pg_class c
        WHERE c.relnamespace = 'observer'::regnamespace AND c.relkind IN ('r', 'v') AND pg_catalog.pg_get_userbyid(c.relowner) <> owner
    LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s OWNER TO %I', relation, owner);
    END LOOP;
    IF owner <> current_user THEN
        EXECUTE pg_catalog.format('ALTER SCHEMA observer_days OWNER TO %I', owner);
    END IF;
END
$$;

INSERT INTO observer.migration (version, revision) VALUES (1, 7);
