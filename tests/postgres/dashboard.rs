//! Every query of packaging/dashboards/observer-postgres.json runs, with the macros and variables that Grafana replaces.
#![allow(clippy::indexing_slicing)]

use observer_harness::postgres::SqlSession;
use serde_json::Value;

use crate::documented::filled;
use crate::schema::{applied, server};

const DASHBOARD: &str = include_str!("../../packaging/dashboards/observer-postgres.json");

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).expect("JSON")
}

/// Title, format and query of each panel.
fn queries(dashboard: &Value) -> Vec<(&str, &str, &str)> {
    let text =
        |value: &'static str, of: &Value| -> String { of[value].as_str().unwrap_or_default().to_owned() };
    let panels = dashboard["panels"].as_array().expect("panels");
    let queries = panels.iter().flat_map(|panel| {
        let targets =
            panel["targets"].as_array().unwrap_or_else(|| panic!("{} has queries", text("title", panel)));
        targets.iter().map(|target| {
            let of = |name: &str| target[name].as_str().unwrap_or_else(|| panic!("{name} of {target}"));
            (panel["title"].as_str().expect("a title"), of("format"), of("rawSql"))
        })
    });
    queries.collect()
}

/// What Grafana sends to the server for `sql`, from an hour ago until in an hour, of the hosts of one name.
fn expanded(sql: &str, from: &str, to: &str) -> String {
    let mut sql = sql.replace("${host:sqlstring}", "'web1'").replace("$__interval", "5m");
    while let Some((before, rest)) = sql.split_once("$__timeFilter(") {
        let (column, after) = rest.split_once(')').expect("its end");
        sql = format!("{before}{column} BETWEEN '{from}' AND '{to}'{after}");
    }
    while let Some((before, rest)) = sql.split_once("$__timeGroupAlias(") {
        let (arguments, after) = rest.split_once(')').expect("its end");
        let (column, interval) = arguments.split_once(", ").expect("a column and an interval");
        assert_eq!(interval, "5m");
        sql = format!("{before}floor(extract(epoch from {column})/300)*300 AS \"time\"{after}");
    }
    assert!(!sql.contains('$'), "every macro is replaced: {sql}");
    sql
}

#[test]
fn every_query_of_the_dashboard_runs_and_finds_what_is_there() {
    let database = applied();
    let mut daemon: SqlSession = filled(&database);
    let from = daemon.ask("SELECT now() - interval '1 hour'");
    let to = daemon.ask("SELECT now() + interval '1 hour'");
    let login = format!("dashboard_{database}");
    server().psql(&database, &format!("CREATE ROLE {login} LOGIN IN ROLE observer_reader"));
    let dashboard = dashboard();
    let queries = queries(&dashboard);
    assert!(queries.len() >= 10, "{queries:?}");
    // Of a database in which nobody was killed after SIGTERM.
    const EMPTY: &str = "Killed after SIGTERM";
    for &(title, format, sql) in &queries {
        let sql = expanded(sql, &from, &to);
        let result = server().try_psql_as(&database, &login, &sql);
        assert_eq!(result.code, Some(0), "{title}: {sql}: {result:?}");
        let rows = result.text().lines().count();
        assert_eq!(rows > 0, title != EMPTY, "{title}: {sql}: {result:?}");
        if format == "time_series" {
            let columns = format!("SELECT time, metric, value FROM ({sql}) AS it");
            let result = server().try_psql_as(&database, &login, &columns);
            assert_eq!(result.code, Some(0), "{title}: {columns}: {result:?}");
        }
    }
    // Sessions of a host that is not present, and that left their home, are no sessions that run, and have not ended.
    server().psql(&database, "UPDATE observer.session SET state = 'left' WHERE state <> 'ended'");
    drop(daemon);
    let now = |&&(title, _, _): &&(&str, &str, &str)| title == "Sessions now";
    let (_, _, sql) = queries.iter().find(now).expect("the panel is there");
    let result = server().try_psql_as(&database, &login, &expanded(sql, &from, &to));
    assert!(result.code == Some(0) && !result.text().is_empty(), "{result:?}");
    let variable = &dashboard["templating"]["list"][1];
    assert_eq!(variable["name"], "host");
    let hosts = server().try_psql_as(&database, &login, variable["query"].as_str().expect("a query"));
    assert_eq!(hosts.text().trim(), "web1", "{hosts:?}");
}
