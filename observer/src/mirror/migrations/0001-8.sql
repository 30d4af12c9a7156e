-- Version 1, revision 8. No table changes: the views that name a process have its key, as a text.

-- A start is beyond 2^53 ns from 104 days after the boot on, and readers that take numbers for floating point round it.
CREATE FUNCTION observer.key_of(boot_id uuid, pid integer, start_boottime_ns bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- Of nothing that depends on settings, so that it becomes a part of the query that calls it.
RETURN left(boot_id::text, 8) || '-' || pid::text || '-' || to_hex(start_boottime_ns);
COMMENT ON FUNCTION observer.key_of(uuid, integer, bigint) IS 'The key of a process: boot, pid and start as one word, as in observer list --json. is_same takes it. Whoever reads the views executes it.';
REVOKE ALL ON FUNCTION observer.key_of(uuid, integer, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION observer.key_of(uuid, integer, bigint) TO PUBLIC;

-- Each view is what it was, and one column. The planner sees no view more than before.
DO $$
DECLARE
    outer_path constant text := pg_catalog.current_setting('search_path');
    view text;
BEGIN
    -- The text of a view leaves out the schemas that this names.
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog', true);
    FOREACH view IN ARRAY '{sessions,live,deaths,kills,ignored_sigterm,leftovers,events}'::text[] LOOP
        EXECUTE format('CREATE OR REPLACE VIEW observer.%I AS SELECT v.*, observer.key_of(v.boot_id, v.pid, v.start_boottime_ns) AS key FROM (%s) AS v',
            view, rtrim(pg_get_viewdef(format('observer.%I', view)::regclass), ';'));
        EXECUTE format('COMMENT ON COLUMN observer.%I.key IS %L', view,
            'boot_id, pid and start_boottime_ns as one word, which no reader rounds. The function is_same takes it.');
    END LOOP;
    PERFORM set_config('search_path', outer_path, true);
END
$$;

-- Whoever applies this may be another role than the owner of the tables.
DO $$
DECLARE
    owner constant name := (SELECT pg_catalog.pg_get_userbyid(c.relowner) FROM pg_catalog.pg_class c
        WHERE c.oid = 'observer.host'::regclass);
BEGIN
    IF owner <> current_user THEN
        EXECUTE pg_catalog.format('ALTER FUNCTION observer.key_of(uuid, integer, bigint) OWNER TO %I', owner);
    END IF;
END
$$;

INSERT INTO observer.migration (version, revision) VALUES (1, 8);
