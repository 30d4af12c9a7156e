//! Every error of a configuration is reported at once, where it stands.

use std::path::Path;

use super::{parse, refusal};
use crate::config::Config;

fn errors(text: &str) -> Vec<String> {
    let errors = Config::parse(text, Path::new("o.toml")).expect_err("this configuration is wrong");
    errors.iter().map(ToString::to_string).collect()
}

/// Where the errors are, and how each begins.
fn begin_with(text: &str, expected: &[&str]) {
    let found = errors(text);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (error, expected) in found.iter().zip(expected) {
        assert!(error.starts_with(expected), "{expected}: {found:#?}");
    }
}

#[test]
fn unknown_keys_wrong_types_and_bad_values_come_together() {
    begin_with(
        "[daemon]\n\
         colour = 1\n\
         ring_bytes = 7\n\
         socket = \"o.sock\"\n\
         env = [\"A=B\", \"C\", \"\"]\n\
         [[session]]\n\
         cwd = [\"a\", \"/b\", \"~/c\"]\n\
         shape = [1, 2]\n\
         program = 7\n\
         min_age = \"-1s\"\n\
         [journal]\n\
         path = 1\n\
         max_bytes = 2\n\
         [nowhere]\n\
         [[session]]\n\
         comm = [\"[\", \"b\", \"{\"]\n\
         name = \"{base}\"\n\
         [[ignore]]\n\
         progam = \"less\"\n\
         [labels]\n\
         A = \"B\"\n",
        &[
            "o.toml:2:1: unknown field `colour`",
            "o.toml:3:14: the size of the ring must be",
            "o.toml:4:10: socket must be an absolute path",
            "o.toml:5:8: env names variables",
            "o.toml:5:20: env names variables",
            "o.toml:7:8: cwd must be an absolute path",
            "o.toml:7:19: `~` has no meaning",
            "o.toml:8:1: unknown field `shape`",
            "o.toml:9:11: invalid type: integer `7`",
            "o.toml:10:11: min_age must be a span of time",
            "o.toml:12:8: invalid type: integer `1`",
            "o.toml:13:13: max_bytes must be at least",
            "o.toml:14:2: unknown field `nowhere`",
            "o.toml:16:9: \"[\" is not a glob",
            "o.toml:16:19: \"{\" is not a glob",
            "o.toml:17:8: name may hold the placeholders",
            "o.toml:19:1: unknown field `progam`",
            "o.toml:21:1: the name of a label",
        ],
    );
}

#[test]
fn a_table_of_the_wrong_kind_hides_no_other_error() {
    begin_with(
        "[ignore]\ncomm = \"less\"\n[session]\ncwd = 1\n[mirror]\nwho = 1\ndatabase_url_file = \"x\"",
        &[
            "o.toml:1:1: there may be several of these: write [[ignore]]",
            "o.toml:3:1: there may be several of these: write [[session]]",
            "o.toml:6:1: ",
            "o.toml:7:21: database_url_file",
        ],
    );
    begin_with("daemon = 1\n[journal]\nargv = \"x\"", &["o.toml:1:10: ", "o.toml:3:8: "]);
}

#[test]
fn after_an_error_of_syntax_nothing_else_is_said() {
    begin_with("[[session]\ncwd = 1\n[nowhere]", &["o.toml:1:"]);
}

#[test]
fn the_number_of_errors_has_a_bound() {
    for line in ["cwd = \"a\"", "colour = 1"] {
        let found = errors(&format!("[[session]]\n{line}\n").repeat(1_000));
        assert_eq!(found.len(), super::super::errors::FAULTS_MAX + 1);
        let last = found.last().unwrap();
        assert!(last.ends_with(
            "there is more that is wrong from here on: correct this and what stands before first"
        ));
        assert!(last.starts_with("o.toml:42:"), "{last}");
    }
}

#[test]
fn in_one_line_the_first_error_stands_for_all() {
    assert_eq!(
        refusal("[daemon]\nsocket = \"o\"\nring_bytes = 7"),
        "observer.toml:2:10: socket must be an absolute path, found \"o\": begin it with `/`; there are more errors, which \
         `observer check-config observer.toml` prints"
    );
}

#[test]
fn an_empty_list_of_comms_is_refused_like_others() {
    for section in ["session", "ignore"] {
        assert_eq!(
            parse(&format!("[[{section}]]\ncomm = []")).unwrap_err(),
            "observer.toml:2:8: this list is empty, which no process matches: add a value, or leave the field out"
        );
    }
}
