//! The alert rules and dashboards of the package: each expression parses, and names what the daemon exports.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use observer::api::metrics::metric::MetricKind;
use observer::api::metrics::table::METRICS;
use observer::api::metrics::text;
use observer::api::status::StatusAnswer;
use promql_parser::label::MatchOp;
use promql_parser::parser::{self, Call, Expr, LabelModifier, VectorSelector};
use saphyr::{LoadableYamlNode as _, Yaml};
use serde_json::Value;

/// Labels that Prometheus adds to the metrics of a target.
const TARGET: [&str; 2] = ["instance", "job"];
/// What Prometheus itself says of a target.
const OF_TARGET: &str = "up";
/// Functions that want a counter.
const OF_COUNTERS: [&str; 3] = ["rate", "irate", "increase"];

fn packaging(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(path)
}

/// What the daemon exports.
struct Exported {
    /// Kind and label of each metric.
    metrics: BTreeMap<String, (MetricKind, Option<&'static str>)>,
    /// The values of labels that are always there.
    values: BTreeMap<String, BTreeSet<String>>,
}

impl Exported {
    fn new() -> Self {
        let metrics =
            METRICS.iter().map(|metric| (metric.full_name(), (metric.kind, metric.label))).collect();
        let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let text = text(&StatusAnswer::default()).unwrap();
        for (name, rest) in text.lines().filter_map(|line| line.split_once('{')) {
            let value = rest.split('"').nth(1).unwrap();
            values.entry(name.to_owned()).or_default().insert(value.to_owned());
        }
        // The daemon always has these; a status that was not filled in has none.
        values.insert("observer_sessions".into(), ["live", "detached", "left"].map(String::from).into());
        Self { metrics, values }
    }

    /// What is wrong with an expression; the names of the metrics in it are added to `names`.
    fn check(&self, text: &str, names: &mut BTreeSet<String>) -> Vec<String> {
        match parser::parse(text) {
            Ok(expression) => {
                let mut faults = Vec::new();
                self.walk(&expression, &mut faults, names);
                faults
            }
            Err(error) => vec![format!("{error}")],
        }
    }

    fn walk(&self, expression: &Expr, faults: &mut Vec<String>, names: &mut BTreeSet<String>) {
        match expression {
            Expr::Aggregate(it) => {
                self.walk(&it.expr, faults, names);
                let (LabelModifier::Include(labels) | LabelModifier::Exclude(labels)) = match &it.modifier {
                    Some(modifier) => modifier,
                    None => return,
                };
                let mut below = BTreeSet::new();
                self.walk(&it.expr, &mut Vec::new(), &mut below);
                let known: Vec<_> = below.iter().filter_map(|name| self.metrics.get(name)?.1).collect();
                let unknown = labels
                    .labels
                    .iter()
                    .filter(|label| !TARGET.contains(&label.as_str()) && !known.contains(&label.as_str()));
                faults.extend(unknown.map(|label| format!("{below:?} has no label {label}")));
            }
            Expr::Unary(it) => self.walk(&it.expr, faults, names),
            Expr::Binary(it) => {
                self.walk(&it.lhs, faults, names);
                self.walk(&it.rhs, faults, names);
            }
            Expr::Paren(it) => self.walk(&it.expr, faults, names),
            Expr::Subquery(it) => self.walk(&it.expr, faults, names),
            Expr::VectorSelector(it) => self.selector(it, faults, names),
            Expr::MatrixSelector(it) => self.selector(&it.vs, faults, names),
            Expr::Call(it) => {
                self.counters(it, faults);
                it.args.args.iter().for_each(|argument| self.walk(argument, faults, names));
            }
            Expr::NumberLiteral(_) | Expr::StringLiteral(_) => {}
            other => faults.push(format!("not checked: {other:?}")),
        }
    }

    /// A rate of what goes up and down means nothing.
    fn counters(&self, call: &Call, faults: &mut Vec<String>) {
        if !OF_COUNTERS.contains(&call.func.name) {
            return;
        }
        let mut names = BTreeSet::new();
        call.args.args.iter().for_each(|argument| self.walk(argument, &mut Vec::new(), &mut names));
        let gauges = names
            .iter()
            .filter(|&name| self.metrics.get(name).is_some_and(|&(kind, _)| kind != MetricKind::Counter));
        faults.extend(gauges.map(|name| format!("{} of {name}, which is no counter", call.func.name)));
    }

    fn selector(&self, selector: &VectorSelector, faults: &mut Vec<String>, names: &mut BTreeSet<String>) {
        let name = selector.name.clone().unwrap_or_default();
        names.insert(name.clone());
        let label = match self.metrics.get(&name) {
            Some(&(_, label)) => label,
            None if name == OF_TARGET => None,
            None => return faults.push(format!("{name:?} is not exported")),
        };
        let mut has_job = false;
        for matcher in &selector.matchers.matchers {
            has_job |= matcher.name == "job" && matcher.value == "observer";
            if !TARGET.contains(&matcher.name.as_str()) && label != Some(matcher.name.as_str()) {
                faults.push(format!("{name} has no label {}", matcher.name));
            } else if label == Some(matcher.name.as_str())
                && matcher.op == MatchOp::Equal
                && self.values.get(&name).is_some_and(|values| !values.contains(&matcher.value))
            {
                faults.push(format!("{} of {name} is never {}", matcher.name, matcher.value));
            }
        }
        if !has_job {
            faults.push(format!("{name} is taken of any job"));
        }
    }
}

#[test]
fn the_check_finds_what_is_wrong() {
    let exported = Exported::new();
    let cases = [
        ("observer_certain{job=\"observer\"} == 0", None),
        ("observer_certain{job=\"observer\"} ==", Some("")),
        ("observer_certainty{job=\"observer\"} == 0", Some("is not exported")),
        ("observer_certain == 0", Some("of any job")),
        ("rate(observer_certain{job=\"observer\"}[5m])", Some("which is no counter")),
        ("rate(observer_records_total{job=\"observer\"})", Some("")),
        ("sum by (kid) (observer_sessions{job=\"observer\"})", Some("has no label kid")),
        ("observer_journal_state{job=\"observer\",state=\"of\"}", Some("is never of")),
        ("observer_journal_state{job=\"observer\",mode=\"off\"}", Some("has no label mode")),
        (
            "sum(rate(observer_gaps_total{job=\"observer\"}[5m])) / observer_gap{job=\"observer\"}",
            Some("is not exported"),
        ),
    ];
    for (text, expected) in cases {
        let faults = exported.check(text, &mut BTreeSet::new());
        match expected {
            None => assert_eq!(faults, [""; 0], "{text}"),
            Some(part) => assert!(faults.iter().any(|fault| fault.contains(part)), "{text}: {faults:?}"),
        }
    }
}

/// An alert as its rule has it.
struct Alert {
    name: String,
    expression: String,
    /// For how long the expression must hold, s.
    holds_for: u64,
    fields: BTreeMap<String, String>,
}

fn alerts() -> Vec<Alert> {
    let text = std::fs::read_to_string(packaging("alerts/observer.rules.yml")).unwrap();
    let documents = Yaml::load_from_str(&text).unwrap();
    let [document] = &documents[..] else { panic!("one document") };
    let groups = document["groups"].as_sequence().expect("groups");
    let rules = groups.iter().flat_map(|group| group["rules"].as_sequence().expect("rules"));
    let alerts = rules.map(|rule| {
        let text = |key: &str| rule[key].as_str().unwrap_or_else(|| panic!("{key} of {rule:?}")).to_owned();
        let mut fields = BTreeMap::new();
        for part in ["labels", "annotations"] {
            for (key, value) in rule[part].as_mapping().unwrap_or_else(|| panic!("{part} of {rule:?}")) {
                fields.insert(key.as_str().unwrap().to_owned(), value.as_str().unwrap().to_owned());
            }
        }
        let holds_for = rule.as_mapping_get("for").map_or(0, |_| seconds(&text("for")));
        Alert { name: text("alert"), expression: text("expr"), holds_for, fields }
    });
    alerts.collect()
}

#[test]
fn each_alert_has_an_expression_of_what_is_exported_and_says_what_to_do() {
    let (exported, mut names) = (Exported::new(), BTreeSet::new());
    let alerts = alerts();
    let distinct: BTreeSet<_> = alerts.iter().map(|alert| &alert.name).collect();
    assert_eq!(distinct.len(), alerts.len(), "two alerts have one name");
    assert!(alerts.len() >= 15, "{distinct:?}");
    for Alert { name, expression, fields, .. } in &alerts {
        assert_eq!(exported.check(expression, &mut names), [""; 0], "{name}: {expression}");
        let severity = fields["severity"].as_str();
        assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity}");
        assert!(fields["description"].ends_with('.') && !fields["summary"].ends_with('.'), "{name}");
        let page = format!("/usr/share/doc/observer/docs/operations.md#{}", name.to_lowercase());
        assert_eq!(fields["runbook_url"], format!("file://{page}"), "{name}");
    }
    let page = std::fs::read_to_string(packaging("../docs/operations.md")).unwrap();
    let has = |name: &str| {
        page.lines().any(|line| line.trim_start_matches('#') == format!(" {name}") && line.starts_with('#'))
    };
    let missing: Vec<_> = alerts.iter().map(|alert| &alert.name).filter(|name| !has(name)).collect();
    assert_eq!(missing, [""; 0], "docs/operations.md has no heading for these");
}

/// A duration such as "90s", s.
fn seconds(text: &str) -> u64 {
    let (number, unit) = text.split_at(text.len() - 1);
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => panic!("a duration: {text}"),
    };
    number.parse::<u64>().unwrap() * factor
}

/// Why an alert of a blind daemon does not fire under a unit whose watchdog ends it after `watchdog` s.
fn fault_of_blind(expression: &str, holds_for: u64, watchdog: u64) -> Option<&'static str> {
    const BLIND: &str = "observer_canary_missing";
    let (before, after) = expression.split_once(BLIND)?;
    let range = after.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    let Some((range, rest)) = range.filter(|_| before.ends_with("max_over_time(")) else {
        return Some("the daemon is restarted before Prometheus reads it");
    };
    if seconds(range) < 2 * watchdog {
        return Some("it is over when the next daemon has been read");
    }
    let is_the_condition = before == "max_over_time(";
    if is_the_condition && holds_for > 0 {
        return Some("the daemon is restarted before it holds for so long");
    }
    fault_of_blind(rest, holds_for, watchdog)
}

#[test]
fn an_alert_of_a_blind_daemon_fires_although_its_watchdog_restarts_it() {
    let unit = std::fs::read_to_string(packaging("observer.service")).unwrap();
    let watchdog = unit.lines().find_map(|line| line.strip_prefix("WatchdogSec=")).unwrap();
    let watchdog = seconds(watchdog);
    for (expression, holds_for, is_faulty) in [
        ("observer_canary_missing == 1", 0, true),
        ("max_over_time(observer_canary_missing[1m]) == 1", 0, true),
        ("max_over_time(observer_canary_missing[5m]) == 1", 60, true),
        ("max_over_time(observer_canary_missing[5m]) == 1", 0, false),
        ("observer_certain == 0 unless max_over_time(observer_canary_missing[5m]) == 1", 60, false),
        ("observer_certain == 0 unless observer_canary_missing == 1", 60, true),
    ] {
        assert_eq!(fault_of_blind(expression, holds_for, watchdog).is_some(), is_faulty, "{expression}");
    }
    let alerts = alerts();
    for Alert { name, expression, holds_for, .. } in &alerts {
        assert_eq!(fault_of_blind(expression, *holds_for, watchdog), None, "{name}: {expression}");
    }
    let of_blind = alerts.iter().filter(|alert| alert.expression.contains("observer_canary_missing"));
    assert!(of_blind.count() >= 2, "ObserverBlind, and ObserverGapOpen, which leaves it out");
}

/// What `promtool` of Prometheus, the last word on rules, says of a file, and whether it is content; `None` where it is not
/// installed.
fn promtool(words: &[&str], file: &Path) -> Option<(bool, String)> {
    match Command::new("promtool").args(words).arg(file).output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
        }
        Err(error) => {
            println!("skipped: promtool cannot be started ({error}); `cargo xtask setup` installs it");
            None
        }
    }
}

#[test]
fn promtool_finds_no_fault_in_the_rules() {
    let rules = packaging("alerts/observer.rules.yml");
    let Some((is_right, said)) = promtool(&["check", "rules"], &rules) else { return };
    assert!(is_right && said.contains(&format!("{} rules found", alerts().len())), "{said}");
}

/// A case of an alert: the series from minute 0 on, one value a minute, and the minute at which it is looked at.
struct AlertCase {
    alert: &'static str,
    minute: u32,
    /// With these values it fires.
    fires: &'static [(&'static str, &'static str)],
    /// With these it does not.
    is_silent: &'static [(&'static str, &'static str)],
}

const fn case(
    alert: &'static str,
    minute: u32,
    fires: &'static [(&'static str, &'static str)],
    is_silent: &'static [(&'static str, &'static str)],
) -> AlertCase {
    AlertCase { alert, minute, fires, is_silent }
}

/// A case of each alert, in promtool's notation of values: `axn` is `a` and n times more, `a+bxn` grows by b.
const ALERT_CASES: [AlertCase; 21] = [
    case("ObserverDown", 3, &[("up", "1 0x9")], &[("up", "1 1 0x9")]),
    case("ObserverAbsent", 12, &[("up{job=\"node\"}", "1x20")], &[("up", "0x20")]),
    case(
        "ObserverRestarting",
        10,
        &[("observer_uptime_seconds", "10 20 0 10 0 10 0 10 0 10 20")],
        &[("observer_uptime_seconds", "10 20 0 10 0 10 0 10 20 30 40")],
    ),
    // The watchdog has restarted the daemon long before the second minute is over.
    case(
        "ObserverBlind",
        6,
        &[("observer_canary_missing", "0 0 1 0x9")],
        &[("observer_canary_missing", "1 0x9")],
    ),
    case(
        "ObserverCanaryUnproven",
        11,
        &[("observer_canary_unproven", "1x11")],
        &[("observer_canary_unproven", "1 1 1 0 1x9")],
    ),
    case(
        "ObserverCanarySlow",
        6,
        &[("observer_canary_round_trip_seconds", "3x9")],
        &[("observer_canary_round_trip_seconds", "1 1 3x9")],
    ),
    case(
        "ObserverLostEvents",
        5,
        &[("observer_records_lost_total{kind=\"exit\"}", "0 0 5x9")],
        &[("observer_records_lost_total{kind=\"exit\"}", "5x9")],
    ),
    case(
        "ObserverGapOpen",
        4,
        &[("observer_certain", "0x9"), ("observer_canary_missing", "0x9")],
        &[("observer_certain", "0x9"), ("observer_canary_missing", "1x9")],
    ),
    case("ObserverDrift", 5, &[("observer_drift_total", "0 0 1x9")], &[("observer_drift_total", "3x9")]),
    case(
        "ObserverPassesFailing",
        8,
        &[("observer_passes_failed_total", "0+1x9")],
        &[("observer_passes_failed_total", "0 1x9")],
    ),
    case(
        "ObserverLoopBehind",
        12,
        &[("observer_loop_behind_seconds_total", "0+60x20")],
        &[("observer_loop_behind_seconds_total", "0+20x20")],
    ),
    case(
        "ObserverMemoryHigh",
        12,
        &[("observer_resident_memory_bytes", "450000000x20")],
        &[("observer_resident_memory_bytes", "400000000x20")],
    ),
    case(
        "ObserverJournalFailing",
        4,
        &[("observer_journal_state{state=\"failing\"}", "1x9")],
        &[
            ("observer_journal_state{state=\"failing\"}", "0x9"),
            ("observer_journal_state{state=\"off\"}", "1x9"),
        ],
    ),
    case(
        "ObserverJournalOff",
        6,
        &[("observer_journal_state{state=\"off\"}", "1x9")],
        &[("observer_journal_state{state=\"off\"}", "0x9"), ("observer_journal_state{state=\"ok\"}", "1x9")],
    ),
    case(
        "ObserverJournalDropping",
        5,
        &[("observer_journal_entries_dropped_total", "0 0 4x9")],
        &[("observer_journal_entries_dropped_total", "4x9")],
    ),
    case(
        "ObserverMirrorBehind",
        6,
        &[("observer_mirror_lag_seconds", "90x9")],
        &[("observer_mirror_lag_seconds", "30x9")],
    ),
    case(
        "ObserverMirrorNotPresent",
        6,
        &[("observer_mirror_presence", "0x9")],
        &[("observer_mirror_presence", "0 0 1 0x9")],
    ),
    case(
        "ObserverMirrorStopped",
        3,
        &[("observer_mirror_state{state=\"stopped\"}", "1x9")],
        &[
            ("observer_mirror_state{state=\"stopped\"}", "0x9"),
            ("observer_mirror_state{state=\"ok\"}", "1x9"),
        ],
    ),
    case(
        "ObserverMirrorRejecting",
        5,
        &[("observer_mirror_rejected_total", "0 0 1x9")],
        &[("observer_mirror_rejected_total", "1x9")],
    ),
    case(
        "ObserverSessionRestartLoop",
        12,
        &[("observer_session_starts_counted_total", "0+10x20")],
        &[("observer_session_starts_counted_total", "0 10x20")],
    ),
    case(
        "ObserverSessionOutOfMemory",
        5,
        &[("observer_session_deaths_total{cause=\"oom_killed\"}", "0 1x9")],
        &[("observer_session_deaths_total{cause=\"signaled\"}", "0 1x9")],
    ),
];

/// A series with the labels that Prometheus adds to those of a target.
fn of_target(series: &str) -> String {
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let job = if labels.contains("job=") { "" } else { "job=\"observer\"," };
    format!("{name}{{{job}instance=\"host\",{labels}").replace(",}", "}")
}

/// A file of tests for promtool, in which each alert fires, or does not, as `fires` says of its values.
fn promtool_tests(cases: &[(&AlertCase, bool, bool)]) -> String {
    let rules = packaging("alerts/observer.rules.yml").canonicalize().unwrap();
    let mut text = format!("rule_files: [{:?}]\nevaluation_interval: 1m\ntests:\n", rules.display());
    for (case, with_fires, fires) in cases {
        let AlertCase { alert, minute, .. } = case;
        text.push_str(&format!("- name: {alert} {fires}\n  interval: 1m\n  input_series:\n"));
        for (series, values) in if *with_fires { case.fires } else { case.is_silent } {
            text.push_str(&format!("  - {{series: '{}', values: '{values}'}}\n", of_target(series)));
        }
        let expected = if *fires { "[{labels: '{}', value: 1}]" } else { "[]" };
        text.push_str(&format!(
            "  promql_expr_test:\n  - expr: count(ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}})\n    eval_time: \
             {minute}m\n    exp_samples: {expected}\n"
        ));
    }
    text
}

#[test]
fn each_alert_fires_for_what_it_is_about_and_not_for_less() {
    let named: BTreeSet<_> = ALERT_CASES.iter().map(|case| case.alert.to_owned()).collect();
    assert_eq!(named, alerts().into_iter().map(|alert| alert.name).collect(), "each alert has a case");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tests.yml");
    let tested = |cases: &[(&AlertCase, bool, bool)]| {
        std::fs::write(&file, promtool_tests(cases)).unwrap();
        promtool(&["test", "rules"], &file)
    };
    let right: Vec<_> =
        ALERT_CASES.iter().flat_map(|case| [(case, true, true), (case, false, false)]).collect();
    let Some((is_right, said)) = tested(&right) else { return };
    assert!(is_right, "{said}\n{}", promtool_tests(&right));
    // That promtool looks: the contrary does not hold.
    for (case, with_fires, fires) in right.into_iter().take(2) {
        let (is_right, said) = tested(&[(case, with_fires, !fires)]).unwrap();
        assert!(!is_right, "{} {with_fires}: {said}", case.alert);
    }
}

fn dashboard(name: &str) -> Value {
    let path = packaging("dashboards").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The variables that Grafana puts into an expression.
fn expanded(expression: &str) -> String {
    // `$__interval` may be shorter than the time between two scrapes: a range of that is empty.
    let expression = expression.replace("$__rate_interval", "5m").replace("$instance", ".*");
    assert!(!expression.contains('$'), "every variable is replaced: {expression}");
    expression
}

#[test]
fn each_query_of_the_dashboard_of_metrics_is_of_what_is_exported() {
    let (exported, mut names) = (Exported::new(), BTreeSet::new());
    let dashboard = dashboard("observer-metrics.json");
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = expanded(target["expr"].as_str().unwrap());
            let faults = exported.check(&expression, &mut names);
            assert_eq!(faults, [""; 0], "{}: {expression}", panel["title"]);
            // A legend of a label that the series lack is empty.
            let legend = target["legendFormat"].as_str().unwrap();
            for label in legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap()) {
                let is_kept = !expression.starts_with("sum") || expression.contains(&format!("by ({label})"));
                assert!(is_kept, "{}: {legend} of {expression}", panel["title"]);
            }
        }
    }
    assert!(names.len() >= 15, "{names:?}");
    let variable = dashboard["templating"]["list"][1]["definition"].as_str().unwrap();
    assert!(exported.metrics.keys().any(|name| variable.contains(&format!("({name}{{"))), "{variable}");
}

/// Series of everything that is exported, of two hosts, each in the notation of promtool; all of them grow by one a minute.
fn exported_series(exported: &Exported) -> Vec<String> {
    let mut series = vec![OF_TARGET.to_owned()];
    for (name, &(_, label)) in &exported.metrics {
        match label {
            None => series.push(name.clone()),
            Some(label) => {
                let values = exported.values.get(name).cloned().unwrap_or_default();
                // Of some the values depend on the host; two make one-to-one matches fail that have to group.
                let values = if values.is_empty() { ["a", "b"].map(String::from).into() } else { values };
                series.extend(values.iter().map(|value| format!("{name}{{{label}=\"{value}\"}}")));
            }
        }
    }
    let of_hosts = |series: String| {
        ["host", "other"].map(|host| of_target(&series).replace("\"host\"", &format!("\"{host}\"")))
    };
    series.into_iter().flat_map(of_hosts).collect()
}

/// Has promtool evaluate expressions over `series`. Each must give a series; `None` where promtool is not installed.
fn evaluated(expressions: &[String], series: &[String]) -> Option<(bool, String)> {
    let mut text = "evaluation_interval: 1m\ntests:\n- interval: 1m\n  input_series:\n".to_owned();
    for series in series {
        text.push_str(&format!("  - {{series: '{series}', values: '0+1x90'}}\n"));
    }
    text.push_str("  promql_expr_test:\n");
    for expression in expressions {
        // A number of series at least one is `1`; of none there is no sample.
        let counted = format!("count({expression}) >= bool 1");
        text.push_str(&format!(
            "  - {{expr: {counted:?}, eval_time: 80m, exp_samples: [{{labels: '{{}}', value: 1}}]}}\n"
        ));
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tests.yml");
    std::fs::write(&file, text).unwrap();
    promtool(&["test", "rules"], &file)
}

#[test]
fn each_query_of_the_dashboard_of_metrics_gives_series_of_what_is_exported() {
    let series = exported_series(&Exported::new());
    let panels = dashboard("observer-metrics.json")["panels"].as_array().unwrap().clone();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions: Vec<_> = targets.map(|target| expanded(target["expr"].as_str().unwrap())).collect();
    assert!(expressions.len() >= 15, "{expressions:?}");
    let Some((is_right, said)) = evaluated(&expressions, &series) else { return };
    assert!(is_right, "{said}");
    // That promtool evaluates: what parses and can give nothing is refused.
    for (wrong, why) in [
        ("observer_certain{job=\"observer\",instance=\"none\"}", "no series"),
        (
            "observer_certain{job=\"observer\"} * on (job) observer_build_info{job=\"observer\"}",
            "many-to-many",
        ),
        (
            "observer_certain{job=\"observer\"} / on (instance) observer_sessions{job=\"observer\"}",
            "one-to-many",
        ),
        (
            "sum by (state) (observer_sessions{job=\"observer\"}) + observer_certain{job=\"observer\"}",
            "no match",
        ),
    ] {
        let (is_right, said) = evaluated(&[wrong.to_owned()], &series).unwrap();
        assert!(!is_right, "{why}: {wrong}: {said}");
    }
}

#[test]
fn each_panel_can_be_read() {
    for name in ["observer-metrics.json", "observer-postgres.json"] {
        let dashboard = dashboard(name);
        let panels = dashboard["panels"].as_array().unwrap();
        assert!((10..=20).contains(&panels.len()), "{name} has {} panels", panels.len());
        let (mut cells, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for panel in panels {
            let title = panel["title"].as_str().unwrap();
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{name}: {title} has another's id");
            assert!(
                !title.is_empty() && panel["description"].as_str().unwrap().ends_with('.'),
                "{name}: {title}"
            );
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{name}: {title} has no unit");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {title}");
            let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(place("x") + place("w") <= 24, "{name}: {title} is out of the page");
            for x in place("x")..place("x") + place("w") {
                for y in place("y")..place("y") + place("h") {
                    assert!(cells.insert((x, y)), "{name}: {title} covers another panel");
                }
            }
        }
        assert_eq!(dashboard["uid"], name.trim_end_matches(".json"));
    }
}
