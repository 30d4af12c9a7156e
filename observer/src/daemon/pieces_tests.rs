//! Answers in pieces are the answers.

use observer_core::BootTime;
use serde_json::Value;

use super::super::ends::RecordedEnds;
use super::*;

fn time() -> AnswerTime<'static> {
    let context = Context { boot_id: "boot", certain: true, audience: Audience::Root };
    AnswerTime { at: BootTime(9_007_199_254_740_993), wall_offset_ns: 0, context }
}

fn joined(pieces: &impl Pieces) -> (Vec<u8>, usize) {
    let made: Vec<_> = (0..).map_while(|number| pieces.piece(number, Audience::Root)).collect();
    (made.concat(), made.len())
}

#[test]
fn the_pieces_of_an_answer_are_the_line() {
    let (core, _) = crate::api::tests::map();
    let sources = SessionSources { core: &core, ends: &RecordedEnds::default() };
    let whole = line(&answers::list(sources, time(), true));
    assert_eq!(joined(&list(sources, time(), true)), (whole, 3), "one session");
    let whole = line(&answers::processes(&core, time()));
    let pieces = processes(&core, time());
    assert_eq!(joined(&pieces), (whole.clone(), 5), "three processes");
    let at = |number| pieces.piece(number, Audience::Root);
    assert_eq!((at(5), at(9)), (None, None));
    let all: Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(all["processes"].as_array().unwrap().len(), 3);
    assert!(pieces.bytes() >= 3 * size_of::<Process>());
    for (unknown_until, expected) in [(None, Value::Null), (Some(BootTime(7)), Value::from("7"))] {
        let (none, _) = joined(&leftovers(&core, time(), unknown_until));
        let none: Value = serde_json::from_slice(&none).unwrap();
        assert_eq!((&none["kind"], &none["leftovers"]), (&Value::from("leftovers"), &Value::Array(vec![])));
        assert_eq!(none["births_unknown_until_boottime_ns"], expected);
    }
}

#[test]
fn a_list_whose_name_is_in_a_text_is_cut_at_the_list() {
    let head = crate::api::answer::Head { kind: r#"x"processes":[]"#.into(), ..time().head("") };
    let answer = ProcessesAnswer { head, processes: Vec::new() };
    let pieces = AnswerPieces::<Process>::new(&answer, "processes", Vec::new(), time().context);
    assert_eq!(joined(&pieces), (line(&answer), 2));
    assert_eq!(pieces.around[1], b"]}\n");
}

#[test]
fn a_snapshot_has_what_the_filter_selects_between_its_ends() {
    let (core, _) = crate::api::tests::map();
    for (all, glob, expected) in [
        (false, None, vec!["snapshot_begin", "session", "snapshot_end"]),
        (true, None, vec!["snapshot_begin", "session", "process", "process", "process", "snapshot_end"]),
        (true, Some("nothing"), vec!["snapshot_begin", "snapshot_end"]),
    ] {
        let filter = WatchFilter::new(all, glob).unwrap();
        let pieces = snapshot(&core, time(), &filter);
        let frames = (0..).map_while(|number| pieces.piece(number, Audience::Root));
        let kinds: Vec<_> =
            frames.map(|frame| serde_json::from_slice::<Value>(&frame).unwrap()["kind"].clone()).collect();
        assert_eq!(kinds, expected);
    }
}
