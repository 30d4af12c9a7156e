//! Bounds of what a configuration holds, and of what messages quote of it.

use super::{home_matches, parse, refusal};

#[test]
fn globs_are_bounded_in_every_condition_and_list() {
    let long = format!("/{}*", "x".repeat(300));
    let conditions = ["cwd", "comm", "exe", "argv", "cgroup", "unit", "container", "mux_socket"];
    let in_sections = ["session", "ignore"].map(|section| conditions.map(|field| (section, field)));
    let lists = ["not_comm", "not_program", "wrappers", "wrappers_only"].map(|field| ("session", field));
    for (section, field) in in_sections.into_iter().flatten().chain(lists) {
        let is_slashless = ["not_program", "unit", "container"].contains(&field);
        let glob = if is_slashless { long.trim_start_matches('/') } else { &long };
        let error = refusal(&format!("[[{section}]]\n{field} = [{glob:?}]"));
        assert!(error.starts_with("observer.toml:2:") && error.len() < 250, "{field}: {error}");
        assert!(error.contains("bytes, and at most 256 are taken: shorten it"), "{field}: {error}");
    }
    assert!(refusal(&format!("[[ignore]]\ntty = {:?}", "x*".repeat(200))).contains("at most 256"));
    // A directory may be longer once it is resolved.
    let deep = tempfile::tempdir().unwrap();
    let target = deep.path().join("a-directory-with-a-long-name/".repeat(12));
    std::fs::create_dir_all(&target).unwrap();
    let link = deep.path().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let config = parse(&format!("[[session]]\ncwd = \"{}/*\"", link.display())).unwrap();
    let home = target.canonicalize().unwrap().join("agent");
    assert!(home_matches(&config, home.as_os_str().as_encoded_bytes()));
}

#[test]
fn long_and_hostile_text_is_cut_in_messages() {
    let hostile = format!("\\u001b[2J\\u202e{}", "x".repeat(50_000));
    let section = |field: &str| format!("[[session]]\n{field}");
    for text in [
        section(&format!("\"{hostile}\" = 1")),
        section(&format!("colour = \"{hostile}\"")),
        section(&format!("owner = \"{hostile}\"")),
        section(&format!("min_age = \"{hostile}\"")),
        section(&format!("instances = \"{hostile}\"")),
        section(&format!("mnt_ns = \"{hostile}\"")),
        section(&format!("name = \"{{{hostile}\"")),
        section(&format!("user = \"{hostile}\"")),
        section(&format!("group = \"{hostile}\"")),
        section(&format!("cwd = \"{hostile}\"")),
        section(&format!("comm = \"{hostile}\"")),
        format!("\"{hostile}\" = 1"),
        format!("[\"{hostile}\"]\na = 1"),
        format!("[daemon]\nsocket = \"{hostile}\""),
        format!("[daemon]\nring_bytes = \"{hostile}\""),
        format!("[journal]\nmax_age = \"{hostile}\""),
        format!("[journal]\n\"{hostile}\" = \"{hostile}\""),
        format!("[mirror]\n\"{hostile}\" = \"{hostile}\""),
        format!("[labels]\n\"{hostile}\" = \"X\""),
        format!("[labels]\na = \"{hostile}=\""),
        format!("= {}", "x".repeat(50_000)),
    ] {
        let error = refusal(&text);
        assert!(error.len() < 2_000, "{} bytes for {:.40}: {error:.3000}", error.len(), text);
        assert!(!error.contains(['\x1b', '\u{202e}', '\n']), "{text:.40}: {error:?}");
    }
    let warnings = parse(&section(&format!("comm = \"{}\"", "x".repeat(256)))).unwrap().warnings;
    assert!(warnings[0].to_string().len() < 250, "{warnings:?}");
}
