-- Locks every view and table of the schema before a migration changes any of them, so that it waits for nobody afterwards. Readers
-- and writers hold some of them and wait for others, so to wait for one after another would end in a deadlock, whose victim could
-- be anybody. The locks are given back after less time than the server lets pass before it looks for a deadlock, and tried again.
DO $$
DECLARE
    give_up_at constant timestamptz := clock_timestamp() + interval '20 s';
    wait_ms constant integer := least(200, greatest(1, (SELECT s.setting::integer / 2 FROM pg_catalog.pg_settings s WHERE s.name = 'deadlock_timeout')));
    lock_views text;
    lock_tables text;
BEGIN
    -- LOCK TABLE would lock what a view reads as well, also in pg_catalog. To give it the owner that it has changes nothing.
    SELECT pg_catalog.string_agg(pg_catalog.format('ALTER VIEW %s OWNER TO %I', c.oid::pg_catalog.regclass, pg_catalog.pg_get_userbyid(c.relowner)), '; ')
    INTO lock_views FROM pg_catalog.pg_class c
    WHERE c.relnamespace = 'observer'::pg_catalog.regnamespace AND c.relkind = 'v';
    SELECT 'LOCK TABLE ' || pg_catalog.string_agg(c.oid::pg_catalog.regclass::text, ', ') || ' IN ACCESS EXCLUSIVE MODE'
    INTO lock_tables FROM pg_catalog.pg_class c
    WHERE c.relnamespace = 'observer'::pg_catalog.regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition;
    LOOP
        BEGIN
            PERFORM pg_catalog.set_config('lock_timeout', wait_ms || 'ms', true);
            EXECUTE lock_views;
            EXECUTE lock_tables;
            EXIT;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            IF clock_timestamp() > give_up_at THEN
                RAISE;
            END IF;
            PERFORM pg_catalog.pg_sleep(random() * 0.2);
        END;
    END LOOP;
    PERFORM pg_catalog.set_config('lock_timeout', '20s', true);
END
$$;
