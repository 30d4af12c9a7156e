//! Rules that never decide.

use super::parse;

fn warnings(text: &str) -> Vec<String> {
    parse(text).unwrap().warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_rule_after_one_that_admits_the_same_never_decides() {
    let never = "this rule never decides, because the rule in line 1 comes first and admits all that it admits: put it \
                 before that one, or leave it out";
    assert_eq!(
        warnings("[[session]]\n[[session]]\nprogram = \"claude\""),
        [format!("observer.toml:2:1: {never}")]
    );
    for (first, second) in [
        ("", "cwd = '/srv/a/*'"),
        ("cwd = '/srv/a/*'", "cwd = '/srv/a/*/'\nprogram = 'claude'\nname = '{program}'\ninstances = 'each'"),
        ("cwd = ['/srv/a/*', '/srv/b']", "cwd = '/srv/b'\nmin_age = '0s'"),
        ("tty = 'any'\nmnt_ns = 'any'", "tty = 'none'\nmnt_ns = 'host'"),
        ("tty = 'pts/*'\nmnt_ns = 'host'", "tty = 'pts/*'\nmnt_ns = 'host'"),
        ("program = ['cl*', 'codex']", "program = ['codex', 'claude']"),
        ("program = '*'", "program = 'g*'"),
        ("exe = '/opt/**'", "exe = '/opt/a/b'"),
        ("argv = '--agent*'", "argv = '--agent=1'\ncomm = 'node'"),
        ("user = ['root', '12']", "user = 'root'"),
        ("unit = '*.scope'\ncontainer = 'web-*'", "unit = 'a.scope'\ncontainer = 'web-1'"),
        ("owner = true", "owner = true"),
        ("", "owner = true"),
        ("not_program = 'less'", "not_program = ['less', 'more']"),
        ("not_program_only = []\nnot_comm_only = 'a'", "not_comm = 'a'"),
        ("wrappers = 'run-it'", ""),
    ] {
        let text = format!("[[session]]\n{first}\n[[session]]\n{second}");
        let line = first.lines().count().max(1) + 2;
        assert_eq!(warnings(&text), [format!("observer.toml:{line}:1: {never}")], "{text}");
    }
}

#[test]
fn a_rule_that_may_decide_has_no_warning() {
    for (first, second) in [
        ("cwd = '/srv/a/*'", ""),
        ("cwd = '/srv/a'", "cwd = '/srv/a/*'"),
        ("cwd = '/srv/a/*'", "cwd = ['/srv/a/*', '/srv/b']"),
        ("program = 'claude'", "program = 'cl*'"),
        ("program = 'any'", "program = 'codex'"),
        ("program = 'codex'", "program = '{claude,codex}'"),
        ("exe = '/opt/*'", "exe = '/opt/a/b'"),
        ("tty = 'n*'", "tty = 'none'"),
        ("mnt_ns = 'host'", ""),
        ("user = 'root'", "user = '0'"),
        ("owner = true", ""),
        ("", "not_program_only = []"),
        ("", "not_comm_only = 'a'"),
        ("not_program = 'less'", ""),
        ("", "wrappers = 'run-it'"),
        ("comm = 'node'", "program = 'node'"),
        ("cwd = '/srv/a'\ncomm = 'x'", "cwd = '/srv/a'"),
    ] {
        let text = format!("[[session]]\n{first}\n[[session]]\n{second}");
        assert_eq!(warnings(&text), [""; 0], "{text}");
    }
}

#[test]
fn a_rule_whose_processes_are_ignored_has_no_sessions() {
    assert_eq!(
        warnings("[[session]]\ncwd = '/srv/a'\nprogram = 'claude'\n[[ignore]]\nprogram = 'cl*'"),
        [
            "observer.toml:1:1: this rule has no sessions, because the [[ignore]] in line 4 refuses all that it admits: \
             correct one of them"
        ]
    );
    assert_eq!(
        warnings("[[session]]\ncwd = '/srv/a'\n[[ignore]]\ncwd = '/srv/a'\nprogram = 'less'"),
        [""; 0]
    );
}
