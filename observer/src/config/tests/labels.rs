//! `[labels]`.

use observer_core::limits::LABELS_MAX;

use super::{parse, refusal};

fn labels(text: &str) -> Vec<(String, Vec<u8>)> {
    let labels = parse(text).unwrap().labels;
    labels.into_iter().map(|label| (label.name.to_string(), label.variable)).collect()
}

#[test]
fn labels_are_off_by_default_and_have_a_variable_each() {
    assert_eq!(labels(""), []);
    assert_eq!(labels("[labels]"), []);
    let text =
        "[labels]\nagent_session = \"CLAUDE_CODE_SESSION_ID\"\na1 = \"x.Y\"\n[[session]]\ncwd = \"/srv/*\"";
    let expected = [("a1", "x.Y"), ("agent_session", "CLAUDE_CODE_SESSION_ID")];
    assert_eq!(labels(text), expected.map(|(name, of)| (name.to_owned(), of.as_bytes().to_vec())));
}

#[test]
fn wrong_labels_are_refused_where_they_stand() {
    let long = "x".repeat(65);
    for (name, problem) in [
        ("Agent", "found \"Agent\": write for instance agent_session"),
        ("\"\"", "1 to 64 of a to z, 0 to 9 and _"),
        ("\"a b\"", "1 to 64 of a to z"),
        ("\"\\u001b\"", "1 to 64 of a to z"),
        (&long, "1 to 64 of a to z"),
    ] {
        let error = refusal(&format!("[labels]\n{name} = \"X\""));
        assert!(error.starts_with("observer.toml:2:1: ") && error.contains(problem), "{name}: {error}");
        assert!(!error.contains('\x1b') && error.len() < 300, "{error:?}");
    }
    for variable in ["", "A=B", "A\\u0000"] {
        let error = refusal(&format!("[labels]\na = \"{variable}\""));
        assert!(error.starts_with("observer.toml:2:5: [labels] names"), "{variable}: {error}");
    }
    assert!(refusal("[labels]\na = 1").contains("observer.toml:2:5"));
}

#[test]
fn labels_have_a_bound() {
    let text = |count| (0..count).map(|n| format!("l{n:02} = \"V\"\n")).collect::<String>();
    assert_eq!(labels(&format!("[labels]\n{}", text(LABELS_MAX))).len(), LABELS_MAX);
    let error = refusal(&format!("[labels]\n{}", text(LABELS_MAX + 1)));
    assert!(error.contains("more than 16 labels: leave out"), "{error}");
}
