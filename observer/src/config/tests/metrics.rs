//! `[metrics]`.

use super::{parse, refusal};
use crate::socket::metrics_address::MetricsAddress;

#[test]
fn metrics_are_served_where_the_file_says_and_nowhere_without_it() {
    assert_eq!(parse("").unwrap().metrics, None);
    assert_eq!(parse("[metrics]").unwrap().metrics, None);
    let path = parse("[metrics]\nlisten = \"/run/observer/metrics.sock\"").unwrap().metrics;
    assert_eq!(path, Some(MetricsAddress::Unix("/run/observer/metrics.sock".into())));
    let address = parse("[metrics]\nlisten = \"[::1]:9431\"").unwrap().metrics;
    assert_eq!(address, Some(MetricsAddress::Loopback("[::1]:9431".parse().unwrap())));
}

#[test]
fn an_address_that_others_reach_is_refused_with_its_place() {
    let error = refusal("# a comment\n[metrics]\nlisten = \"0.0.0.0:9431\"");
    assert!(error.starts_with("observer.toml:3:10: metrics are served to this machine alone"), "{error}");
    let error = refusal("[metrics]\nlisten = 9431");
    assert!(error.starts_with("observer.toml:2:10: ") && error.contains("correct this line"), "{error}");
}
