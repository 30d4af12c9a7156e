//! Facts of the configuration file.

mod bounds;
mod errors;
mod guide;
mod labels;
mod metrics;
mod shadowed;
mod template;

use std::path::Path;

use observer_core::rule::{HomeRule, MntNsRule, TtyRule};

use super::Config;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("observer.toml")).map_err(|error| error.to_string())
}

fn refusal(text: &str) -> String {
    parse(text).expect_err("this configuration is wrong")
}

fn home_matches(config: &Config, path: &[u8]) -> bool {
    match &config.rules[0].home {
        HomeRule::Prefix(patterns) => patterns.iter().any(|pattern| pattern.is_match(path)),
        HomeRule::Cwd => panic!("the rule has a cwd"),
    }
}

#[test]
fn without_a_file_one_rule_holds() {
    let config = Config::load(None).unwrap();
    let [rule] = &config.rules[..] else { panic!("one rule") };
    assert!(matches!(&rule.home, HomeRule::Cwd));
    assert!(
        matches!(&rule.conditions.tty, TtyRule::Matches(tty) if tty.is_match(b"pts/3") && !tty.is_match(b"tty1"))
    );
    assert_eq!((rule.min_age_ns, &*rule.name.text), (1_000_000_000, "{basename}"));
    for shell in ["bash", "tmux: server", "sshd-session", "(sd-pam)"] {
        assert!(rule.not_comm.iter().any(|glob| glob.is_match(shell.as_bytes())), "{shell}");
    }
    for wrapper in ["sudo", "npm exec claude", "uvx"] {
        assert!(rule.wrappers.iter().any(|glob| glob.is_match(wrapper.as_bytes())), "{wrapper}");
    }
    assert!(!rule.not_comm.iter().chain(&rule.wrappers).any(|glob| glob.is_match(b"claude")));
    assert_eq!(config.env, ["TMUX_PANE", "TMUX", "STY", "WINDOW"]);
    for shell in ["bash", "tmux", "sshd-session", "observer"] {
        assert!(rule.not_program.iter().any(|glob| glob.is_match(shell.as_bytes())), "{shell}");
    }
    assert_eq!(
        (rule.not_comm.len(), rule.not_program.len(), rule.wrappers.len()),
        (43, 39, 50),
        "every default glob compiles"
    );
}

#[test]
fn every_field_is_taken() {
    let config = parse(
        r#"
        [daemon]
        env = ["PANE"]
        socket = "/run/o.sock"
        state_dir = "/var/lib/o"
        ring_bytes = 65536
        [[session]]
        cwd = "/nowhere/agents/*"
        tty = "none"
        comm = ["claude", "codex*"]
        program = ["gemini", "aider-*"]
        not_comm_only = []
        not_program_only = "viewer"
        wrappers_only = ["run-it"]
        argv = ["--agent", "--config=*"]
        group = ["root", "4000000001"]
        mux_socket = "/tmp/tmux-*/agents"
        mnt_ns = "host"
        exe = ["/opt/**", "/usr/**"]
        cgroup = "/user.slice/**"
        unit = ["*.scope", "nginx.service"]
        container = "web-*"
        user = ["root", "12"]
        owner = true
        min_age = "1m 500ms"
        name = "{program}-{basename}"
        [[session]]
        program = "claude"
        comm = "node"
        "#,
    )
    .unwrap();
    let [first, second] = &config.rules[..] else { panic!("two rules") };
    assert!(home_matches(&config, b"/nowhere/agents/a") && !home_matches(&config, b"/nowhere/agents/a/b"));
    let (conditions, others) = (&first.conditions, &second.conditions);
    assert!(matches!(conditions.tty, TtyRule::None));
    assert!(conditions.comm[1].is_match(b"codex-cli") && first.not_comm.is_empty());
    assert!(first.wrappers[0].is_match(b"run-it") && first.wrappers.len() == 1);
    assert!(first.not_program[0].is_match(b"viewer") && first.not_program.len() == 1);
    assert!(conditions.argv[1].is_match(b"--config=/a/b") && !conditions.argv[0].is_match(b"--agents"));
    assert!(conditions.members.as_ref().is_some_and(|members| members.contains(&0)));
    assert!(conditions.mux_socket[0].is_match(b"/tmp/tmux-0/agents"));
    assert_eq!((conditions.mnt_ns, others.mnt_ns), (MntNsRule::Host, MntNsRule::Any));
    assert!(others.argv.is_empty() && others.members.is_none() && !second.not_program.is_empty());
    assert!(conditions.exe[1].is_match(b"/usr/bin/x") && !conditions.exe[0].is_match(b"/usr/bin/x"));
    assert!(conditions.cgroup[0].is_match(b"/user.slice/a/b"));
    assert!(conditions.unit[0].is_match(b"session-3.scope") && conditions.unit[1].is_match(b"nginx.service"));
    assert!(conditions.container[0].is_match(b"web-1") && !conditions.container[0].is_match(b"db"));
    assert_eq!((&conditions.uids[..], first.owner, first.min_age_ns), (&[0, 12][..], true, 60_500_000_000));
    assert_eq!(first.name.text, "{program}-{basename}");
    assert!(conditions.program[1].is_match(b"aider-x") && !conditions.program[0].is_match(b"aider"));
    assert!(others.program[0].is_match(b"claude") && others.program.len() == 1, "one value is a list of one");
    assert!(others.comm[0].is_match(b"node"));
    assert!(matches!(others.tty, TtyRule::Any) && !second.not_comm.is_empty());
    assert_eq!(second.min_age_ns, 1_000_000_000, "every rule has the same default");
    assert_eq!(config.env, ["PANE"]);
    assert_eq!(config.socket.as_deref(), Some(Path::new("/run/o.sock")));
    assert_eq!(config.state_dir.as_deref(), Some(Path::new("/var/lib/o")));
    assert_eq!(config.ring_bytes, Some(65536));
}

#[test]
fn a_symlinked_home_is_the_directory_it_leads_to() {
    let dir = tempfile::tempdir().unwrap();
    let base = std::fs::canonicalize(dir.path()).unwrap();
    std::fs::create_dir(base.join("re[al")).unwrap();
    std::os::unix::fs::symlink(base.join("re[al"), base.join("link")).unwrap();
    for (cwd, below) in
        [("link/*", "re[al/a"), ("link", "re[al"), ("link/", "re[al"), ("link/new/*", "re[al/new/a")]
    {
        let config = parse(&format!("[[session]]\ncwd = '{}/{cwd}'", base.display())).unwrap();
        let path = base.join(below).into_os_string().into_encoded_bytes();
        assert!(home_matches(&config, &path), "{cwd}");
    }
    assert!(home_matches(&parse("[[session]]\ncwd = '/*'").unwrap(), b"/srv"));
    assert!(home_matches(&parse("[[session]]\ncwd = '/'").unwrap(), b"/"));
}

#[test]
fn errors_say_where_what_and_what_next() {
    let cases = [
        (
            "[[session]]\ncwd = \"agents/*\"",
            "observer.toml:2:7: cwd must be an absolute path, found \"agents/*\": write the directory's absolute path, beginning with `/`",
        ),
        (
            "[[session]]\ncwd = \"~/a\"",
            "observer.toml:2:7: `~` has no meaning for a daemon, found \"~/a\": write the directory's absolute path, beginning with `/`",
        ),
        (
            "[[session]]\ncwd = \"/a/../b\"",
            "observer.toml:2:7: cwd cannot hold `..`, found \"/a/../b\": write the path that it leads to",
        ),
        (
            "[[session]]\ncwd = \"/a/[\"",
            "observer.toml:2:7: \"/a/[\" is not a glob: unclosed character class; missing ']': correct it",
        ),
        (
            "[[session]]\n  tty = \"/dev/pts/1\"",
            "observer.toml:2:9: tty is a terminal's name without /dev/, found \"/dev/pts/1\": write for instance \"pts/*\"",
        ),
        (
            "[[session]]\nuser = \"no-such-user-here\"",
            "observer.toml:2:8: there is no user \"no-such-user-here\" on this machine: create it, correct the name, or write its number",
        ),
        (
            "[[session]]\ngroup = \"no-such-group-here\"",
            "observer.toml:2:9: there is no group \"no-such-group-here\" on this machine: create it, correct the name, or write its number",
        ),
        (
            "[[session]]\ngroup = []",
            "observer.toml:2:9: this list is empty, which no process matches: add a value, or leave the field out",
        ),
        (
            "[[session]]\nargv = []",
            "observer.toml:2:8: this list is empty, which no process matches: add a value, or leave the field out",
        ),
        (
            "[[session]]\nargv = \"[\"",
            "observer.toml:2:8: \"[\" is not a glob: unclosed character class; missing ']': correct it",
        ),
        (
            "[[ignore]]\nmnt_ns = \"own\"",
            "observer.toml:2:10: mnt_ns is \"host\" (the host's own mount namespace) or \"any\", found \"own\": write one of them",
        ),
        (
            "[[session]]\nnot_program = \"/bin/a\"",
            "observer.toml:2:15: program is a name without a path, found \"/bin/a\": use `exe` for a path",
        ),
        (
            "[[session]]\nmin_age = \"-1s\"",
            "observer.toml:2:11: min_age must be a span of time, found \"-1s\": write for instance \"1s\" or \"500ms\"",
        ),
        (
            "[[session]]\nname = \"{base}\"",
            "observer.toml:2:8: name may hold the placeholders {basename}, {parent}, {home}, {program} and {user} only, found \"{base}\": correct it",
        ),
        (
            "[[session]]\ncomm = [\"a\", \"[\"]",
            "observer.toml:2:14: \"[\" is not a glob: unclosed character class; missing ']': correct it",
        ),
        (
            "[[session]]\nprogram = [\"a\", \"/usr/bin/b\"]",
            "observer.toml:2:17: program is a name without a path, found \"/usr/bin/b\": use `exe` for a path",
        ),
        (
            "[[session]]\nprogram = \"[\"",
            "observer.toml:2:11: \"[\" is not a glob: unclosed character class; missing ']': correct it",
        ),
        (
            "[[session]]\nprogram = 7",
            "observer.toml:2:11: invalid type: integer `7`, expected a string or a list of strings; correct this line: program = 7",
        ),
        ("[session]\ncwd = \"/a\"", "observer.toml:1:1: there may be several of these: write [[session]]"),
        ("[ignore]\ncomm = \"less\"", "observer.toml:1:1: there may be several of these: write [[ignore]]"),
        (
            "[[ignore]]",
            "observer.toml:1:1: [[ignore]] without a condition would ignore every process: write for instance program = [\"less\", \"tail\"]",
        ),
        (
            "[[session]]\ncwd = []",
            "observer.toml:2:7: this list is empty, which no process matches: add a value, or leave the field out",
        ),
        (
            "[[session]]\nnot_comm = \"a\"\nnot_comm_only = \"b\"",
            "observer.toml:3:17: not_comm adds to the built-in list and not_comm_only replaces it, found both: leave one out",
        ),
        (
            "[daemon]\nring_bytes = 65537",
            "observer.toml:2:14: the size of the ring must be a power of two from 65536 to 536870912 bytes: write for instance 8388608",
        ),
        (
            "[daemon]\nsocket = \"o.sock\"",
            "observer.toml:2:10: socket must be an absolute path, found \"o.sock\": begin it with `/`",
        ),
        (
            "[daemon]\nenv = [\"A=B\"]",
            "observer.toml:2:8: env names variables, not empty and without `=` and NUL: write for instance \"TMUX_PANE\"",
        ),
        (
            "# ü\n[[session]]\nowner = \"yes\"",
            "observer.toml:3:9: invalid type: string \"yes\", expected a boolean; correct this line: owner = \"yes\"",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(refusal(text), message);
    }
    let unknown = refusal("[[session]]\ncwd = \"/a\"\ncolour = 1");
    assert!(
        unknown.starts_with("observer.toml:3:1: unknown field `colour`, expected one of `cwd`"),
        "{unknown}"
    );
    let broken = refusal("[[session]\ncwd = 1");
    assert!(
        broken.starts_with("observer.toml:1:") && broken.ends_with("; correct this line: [[session]"),
        "{broken}"
    );
    let missing = Config::load(Some(Path::new("/nowhere/observer.toml"))).unwrap_err().to_string();
    assert!(
        missing.starts_with("/nowhere/observer.toml: cannot be read: ")
            && missing.ends_with("; name a TOML file that can be read"),
        "{missing}"
    );
}

#[test]
fn the_journal_has_a_place_and_bounds() {
    let none = parse("[journal]").unwrap().journal;
    assert_eq!(none, super::JournalConfig::default());
    let text = "[journal]\npath = \"/srv/j.sqlite\"\nmax_bytes = 4194304\nmax_age = \"36h\"";
    let journal = parse(text).unwrap().journal;
    assert_eq!(journal.path.as_deref(), Some(Path::new("/srv/j.sqlite")));
    assert_eq!(journal.max_bytes, Some(4 << 20));
    assert_eq!(journal.max_age, Some(std::time::Duration::from_secs(36 * 3_600)));
    let cases = [
        ("path = \"j.sqlite\"", "must be an absolute path"),
        ("max_bytes = 4194303", "at least 4194304"),
        ("max_bytes = -1", "correct this line"),
        ("max_bytes = \"256M\"", "correct this line"),
        ("max_age = \"0s\"", "a span of time"),
        ("max_age = \"soon\"", "a span of time"),
        ("max_age = 90", "correct this line"),
        ("keep = true", "correct this line"),
    ];
    for (line, expected) in cases {
        let error = refusal(&format!("# a comment\n[journal]\n{line}\n"));
        assert!(error.contains(expected) && error.contains("observer.toml:3:"), "{line}: {error}");
    }
}

#[test]
fn spans_are_numbers_with_units() {
    let seconds = |text| super::span(text).map(|span| span.as_secs());
    let cases = [
        ("90d", Some(7_776_000)),
        (" 1d ", Some(86_400)),
        ("1 d", Some(86_400)),
        ("12h", Some(43_200)),
        ("1h 30m", Some(5_400)),
        ("0s", Some(0)),
        ("-1h", None),
        ("-1d", None),
        ("d", None),
        ("1.5d", None),
        ("213503982334602d", None),
        ("", None),
        ("90", None),
    ];
    for (text, expected) in cases {
        assert_eq!(seconds(text), expected, "{text:?}");
    }
}

#[test]
fn the_mirror_is_named_once_and_its_secret_is_never_shown() {
    use crate::mirror::target::DatabaseUrl;

    let mirror =
        parse("[mirror]\ndatabase_url = \"postgresql://u:hunter2@h/d\"\nmirror_argv = true").unwrap().mirror;
    assert!(mirror.argv);
    let warnings =
        |text: &str| parse(text).unwrap().warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
    let [warning] = &warnings("[mirror]\nmirror_argv = true")[..] else { panic!("what it lacks is said") };
    assert!(warning.contains(":2:15: ") && warning.contains("below [journal]"), "{warning}");
    for text in ["[journal]\nargv = true\n[mirror]\nmirror_argv = true", "[mirror]\nmirror_argv = false"] {
        assert_eq!(warnings(text), [""; 0], "{text}");
    }
    assert_eq!(mirror.database, Some(DatabaseUrl::Text("postgresql://u:hunter2@h/d".into())));
    let mirror = parse("[mirror]\ndatabase_url_file = \"/etc/observer/database_url\"").unwrap().mirror;
    assert_eq!(mirror.database, Some(DatabaseUrl::File("/etc/observer/database_url".into())));
    assert_eq!(parse("").unwrap().mirror, super::MirrorConfig::default());
    for text in [
        "[mirror]\ndatabase_url = \"host=h password=hunter2\"\ndatabase_url_file = \"/f\"",
        "[mirror]\ndatabase_url_file = \"hunter2\"\ndatabase_url_file = \"/f\"",
        "[mirror]\ndatabase_url = \"host=h port=hunter2\"",
        "[mirror]\ndatabase_url = \"\"\"\nhost=h\npassword=hunter2",
        "[mirror]\ndatabase_url = [\"hunter2\"]",
        "[mirror]\nmirror_argv = \"hunter2\"",
        "[mirror]\ndatabase_url_file = \"postgresql://u:hunter2@h/d\"",
        "[mirror]\ndatabase_url_file = \"host=/run/postgresql password=hunter2\"",
        "[mirror]\ndatabase_ur = \"host=h password=hunter2\"",
        "mirror = \"hunter2\"",
        "[mirrors]\ndatabase_url = \"hunter2\"",
    ] {
        let refusal = refusal(text);
        assert!(!refusal.contains("hunter2"), "{text}: {refusal}");
    }
}

#[test]
fn a_list_adds_to_the_built_in_one() {
    let config = parse("[[session]]\nnot_comm = \"vim\"\nwrappers = [\"run-it\"]").unwrap();
    let rule = &config.rules[0];
    for (globs, names) in [(&rule.not_comm, ["vim", "bash"]), (&rule.wrappers, ["run-it", "sudo"])] {
        for name in names {
            assert!(globs.iter().any(|glob| glob.is_match(name.as_bytes())), "{name}");
        }
    }
    assert_eq!((rule.not_comm.len(), rule.wrappers.len()), (44, 51));
    let rule = &parse("[[session]]\nnot_program = \"view*\"").unwrap().rules[0];
    assert!(rule.not_program.iter().any(|glob| glob.is_match(b"viewer")));
    assert_eq!((rule.not_comm.len(), rule.not_program.len()), (43, 40));
}

#[test]
fn users_have_names_where_a_rule_puts_them_into_names_of_sessions() {
    let config = parse("[[session]]\nname = \"{user}\"\n[[session]]\nname = \"{parent}\"").unwrap();
    let [first, second] = &config.rules[..] else { panic!("two rules") };
    let root = first.name.users.as_ref().and_then(|users| users.get(&0));
    assert_eq!(root.map(|name| &**name), Some(b"root".as_slice()));
    assert!(second.name.users.is_none(), "nobody asks for them");
}

#[test]
fn what_is_ignored_has_the_conditions_of_a_rule() {
    let config =
        parse("[[ignore]]\nprogram = [\"less\", \"tail\"]\ncwd = \"/nowhere/*\"\nuser = \"0\"").unwrap();
    let [ignore] = &config.ignored[..] else { panic!("one: {config:?}") };
    assert!(ignore.conditions.program[1].is_match(b"tail") && ignore.cwd[0].is_match(b"/nowhere/a"));
    assert_eq!(ignore.conditions.uids, [0]);
    let own = Config::load(None).unwrap().ignored;
    let this = std::env::current_exe().unwrap().into_os_string().into_encoded_bytes();
    assert!(
        own.iter().any(|ignore| ignore.conditions.exe[0].is_match(&this)),
        "observer's own commands: {own:?}"
    );
}

#[test]
fn the_built_in_rule_as_it_is_printed_is_the_built_in_rule() {
    let printed = parse(&super::builtin_rules()).unwrap();
    assert_eq!(format!("{:?}", printed.rules), format!("{:?}", Config::without_file().rules));
    assert_eq!(printed.warnings, []);
}

#[test]
fn a_glob_that_matches_no_comm_is_a_warning() {
    let config =
        parse("[[session]]\ncomm = [\"fifteen-bytes-x\", \"gemini-cli-agent*\"]\nwrappers = \"s*\"").unwrap();
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "observer.toml:2:28: \"gemini-cli-agent*\" matches no comm, because the kernel cuts comm to 15 bytes: shorten it, or use `program`"
        ]
    );
    assert_eq!(parse("[[session]]\nprogram = \"gemini-cli-agent*\"").unwrap().warnings, []);
}

#[test]
fn what_can_never_match_is_a_warning_with_the_next_step() {
    let cases = [
        (
            "[[session]]\nargv = [\"--a\", \"--b\\u0000c\"]",
            "observer.toml:2:16: \"--b\\0c\" matches nothing, because a NUL ends an argument: match one argument",
        ),
        (
            "[[session]]\nprogram = [\"claude\", \"\"]",
            "observer.toml:2:22: \"\" matches no program, because each has a name, without NUL: write that name",
        ),
        (
            "[[ignore]]\nprogram = \"a\\u0000b\"",
            "observer.toml:2:11: \"a\\0b\" matches no program, because each has a name, without NUL: write that name",
        ),
        (
            "[[session]]\nexe = [\"/nowhere/a\", \"/proc/\"]",
            "observer.toml:2:22: \"/proc/\" is the executable of no process on this host, because it is a directory: write \"/proc/**\" for what is below it",
        ),
        (
            "[[session]]\ngroup = \"4000000001\"",
            "observer.toml:2:9: group \"4000000001\" has no members, so it admits nobody: add some, and have the rules read again (`systemctl reload observer`)",
        ),
        (
            "[[ignore]]\nuser = \"4000000001\"\ngroup = \"root\"",
            "observer.toml:2:8: none of these users is a member of `group`, and both are required: add a member, or leave one out",
        ),
        (
            "[[session]]\nowner = true\nmnt_ns = \"any\"",
            "observer.toml:3:10: with owner = true, users have no session in other mount namespaces, because owners of directories are read in the host's own only: write \"host\", or leave owner out",
        ),
        (
            "[[session]]\ntty = \"none\"\nmux_socket = \"*.work\"",
            "observer.toml:3:14: mux_socket matches nothing with tty = \"none\", because a pane is a terminal: leave one out",
        ),
        (
            "[[ignore]]\nunit = [\"sshd.service\", \"nginx\", \"n*\"]",
            "observer.toml:2:25: \"nginx\" matches no unit that has processes: write the whole name, such as \"nginx.service\", or use `cgroup` for a slice",
        ),
        (
            "[daemon]\nenv = [\"WINDOW\"]\n[[session]]\nmux_socket = \"*.work\"",
            "observer.toml:4:14: mux_socket matches nothing, because `env` of [daemon] keeps neither TMUX nor STY: add TMUX, TMUX_PANE, STY and WINDOW",
        ),
        (
            "[[session]]\nprogram = [\"claude\", \"bash\"]",
            "observer.toml:2:22: \"bash\" is never the session, because it is in the list not_program: write that list as not_program_only, without it",
        ),
        (
            "[[session]]\nprogram = \"make\"",
            "observer.toml:2:11: \"make\" is never the session, because it is in the list wrappers: write that list as wrappers_only, without it",
        ),
        (
            "[[session]]\ncomm = \"vim\"\nnot_comm = \"vi*\"",
            "observer.toml:2:8: \"vim\" is never the session, because it is in the list not_comm: write that list as not_comm_only, without it",
        ),
    ];
    for (text, expected) in cases {
        let warnings: Vec<_> = parse(text).unwrap().warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, [expected], "{text}");
    }
    for text in [
        "[[session]]\nowner = true\nmnt_ns = \"host\"",
        "[[session]]\nmnt_ns = \"any\"",
        "[[session]]\nprogram = [\"ba*\"]\ncomm = \"claude\"",
        "[[session]]\nprogram = \"bash\"\nnot_program_only = []",
        "[[session]]\nuser = \"root\"\ngroup = [\"root\", \"4000000001\"]\nnot_program = \"a-viewer-of-long-text\"",
        "[[session]]\nmux_socket = [\"/tmp/tmux-*/x\", \"*.work\"]\ntty = \"pts/*\"",
    ] {
        let config = parse(text).unwrap();
        let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
        let expected = usize::from(text.contains("4000000001"));
        assert_eq!(warnings.len(), expected, "{text}: {warnings:?}");
    }
}
