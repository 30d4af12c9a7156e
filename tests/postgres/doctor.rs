//! `observer doctor` on the way to the database: each thing that can be wrong has its verdict and the next step.

use observer::api::check::{Check, Verdict};
use observer::mirror::target::DatabaseUrl;
use uuid::Uuid;

use crate::schema::{applied, present, server};

const HOST: &str = "6f9619ff-8b86-5d11-b42d-00cf4fc964ff";

fn doctor(url: &str) -> Vec<Check> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let host_id = Uuid::parse_str(HOST).expect("an id");
    runtime.block_on(observer::mirror::doctor::doctor(&DatabaseUrl::Text(url.into()), Some(host_id)))
}

/// The verdict and the detail of one check.
#[track_caller]
fn of(checks: &[Check], name: &str) -> (Verdict, String) {
    let found = checks.iter().find(|check| check.name == format!("mirror: {name}"));
    let check = found.unwrap_or_else(|| panic!("{name} was checked: {checks:#?}"));
    (check.verdict, check.detail.clone())
}

#[test]
fn a_database_that_is_ready_is_fine_step_by_step_and_nothing_is_written() {
    let database = applied();
    let checks = doctor(&server().url(&database));
    for (name, words) in [("login", "Postgres "), ("clock", "the server's clock"), ("schema", "version 1.")] {
        let (verdict, detail) = of(&checks, name);
        assert!(verdict == Verdict::Fine && detail.contains(words), "{name}: {detail}");
    }
    assert_eq!(of(&checks, "presence"), (Verdict::Limited, "this host has never been present".into()));
    assert_eq!(server().psql(&database, "SELECT count(*) FROM observer.host"), "0");
}

#[test]
fn a_database_without_the_schema_or_with_an_older_one_is_named_with_the_command() {
    let database = server().database();
    let checks = doctor(&server().url(&database));
    let (verdict, detail) = of(&checks, "schema");
    assert!(verdict == Verdict::Fails && detail.contains("observer schema apply"), "{detail}");
    let older = observer::mirror::schema::MIGRATIONS.first().expect("the first").script;
    server().psql(&database, older);
    let checks = doctor(&server().url(&database));
    let (verdict, detail) = of(&checks, "schema");
    assert!(verdict == Verdict::Limited && detail.contains("version 1.0"), "{detail}");
}

#[test]
fn a_server_that_is_not_there_is_said_by_its_address() {
    let checks = doctor("host=127.0.0.1 port=1 user=nobody dbname=none");
    let (verdict, detail) = of(&checks, "127.0.0.1 port 1");
    assert!(verdict == Verdict::Limited && detail.contains("refuses"), "{detail}");
    assert_eq!(of(&checks, "login").0, Verdict::Fails);
    let checks = doctor("host=");
    assert!(checks.iter().any(|check| check.verdict == Verdict::Fails), "{checks:#?}");
}

#[test]
fn a_login_that_may_not_write_is_a_problem_and_one_that_may_is_named() {
    let database = applied();
    let login = format!("login_{database}");
    server().psql(&database, &format!("CREATE ROLE {login} LOGIN"));
    let url = format!("host=127.0.0.1 port={} user={login} dbname={database}", server().port());
    let checks = doctor(&url);
    let problem = checks.iter().find(|check| check.verdict == Verdict::Fails).expect("it may not even read");
    assert!(problem.detail.contains("Roles") || problem.detail.contains("permission"), "{problem:?}");
    server().psql(&database, &format!("GRANT observer_writer TO {login}"));
    let (verdict, detail) = of(&doctor(&url), "rights");
    assert!(verdict == Verdict::Limited && detail.contains("observer.writers"), "{detail}");
    server().psql(
        &database,
        &format!(
            "INSERT INTO observer.writers VALUES ('{login}', '{HOST}');
             INSERT INTO observer.host (host_id, host) VALUES ('{HOST}', 'web1')"
        ),
    );
    let (verdict, detail) = of(&doctor(&url), "rights");
    assert!(verdict == Verdict::Fine && detail.contains(&login), "{detail}");
}

#[test]
fn who_holds_the_lock_of_a_host_is_told_from_its_daemon() {
    let database = applied();
    let mut daemon = server().session(&database, "postgres");
    present(&mut daemon, HOST);
    let (verdict, detail) = of(&doctor(&server().url(&database)), "presence");
    assert!(verdict == Verdict::Fine && detail.starts_with("this host is present"), "{detail}");
    // Somebody else holds it: the host's row names another process.
    daemon.ask("UPDATE observer.host SET backend_pid = 1");
    let (verdict, detail) = of(&doctor(&server().url(&database)), "presence");
    assert!(verdict == Verdict::Fails && detail.contains("pg_terminate_backend"), "{detail}");
}
