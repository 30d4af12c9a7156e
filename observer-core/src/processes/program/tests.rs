//! Tables of command lines, and the programs that they are.

use alloc::string::String;
use alloc::vec::Vec;

use super::{is_shell_script, program_name};
use crate::input::Block;

/// The arguments in one line, as they are in memory.
fn block(line: &str) -> Vec<u8> {
    line.split(' ').flat_map(|word| word.bytes().chain([0])).collect()
}

/// Returns the program as one look at the kernel shows it: without the name that was given to exec.
fn looked_at(exe: &str, line: &str) -> Option<String> {
    let argv = block(line);
    let argv = Block { bytes: &argv, truncated: false };
    shown(program_name(Some(exe.as_bytes()), None, Some(argv)))
}

/// Returns the program of an exec that was observed.
fn observed(exe: &str, filename: &str, line: &str) -> Option<String> {
    let argv = block(line);
    let argv = Block { bytes: &argv, truncated: false };
    shown(program_name(Some(exe.as_bytes()), Some(filename.as_bytes()), Some(argv)))
}

fn shown(name: Option<&[u8]>) -> Option<String> {
    name.map(|name| String::from_utf8_lossy(name).into_owned())
}

#[track_caller]
fn assert_programs(exe: &str, table: &[(&str, &str)]) {
    for &(line, program) in table {
        assert_eq!(looked_at(exe, line).as_deref(), Some(program), "{exe}: {line}");
    }
}

#[test]
fn a_shell_that_runs_a_script_is_told_from_one_that_does_not() {
    let is_script = |exe: &str, line: &str| {
        let program = looked_at(exe, line).expect("a program");
        is_shell_script(exe.as_bytes(), program.as_bytes())
    };
    for line in ["sh ./start.sh", "sh -e start", "/bin/sh /usr/local/bin/agent --x"] {
        assert!(is_script("/usr/bin/dash", line), "{line}");
    }
    for line in ["sh", "-sh", "sh -c ./start.sh", "sh -lc x"] {
        assert!(!is_script("/usr/bin/dash", line), "{line}");
    }
    assert!(is_script("/usr/bin/fish", "fish start.fish"));
    assert!(!is_script("/usr/bin/python3.11", "python3 tool.py"));
    assert!(!is_script("/usr/bin/start.sh", "start.sh"));
}

#[test]
fn node_is_named_by_its_script() {
    assert_programs(
        "/usr/bin/node",
        &[
            ("node", "node"),
            ("/usr/bin/node /usr/local/bin/gemini --x", "gemini"),
            ("node /usr/local/bin/codex", "codex"),
            ("node /opt/codex/bin/codex.js --full-auto", "codex"),
            ("nodejs tool.mjs", "tool"),
            ("node --no-warnings --enable-source-maps /usr/bin/gemini", "gemini"),
            ("node --max-old-space-size=4096 build.cjs", "build"),
            ("node --require ./hook.js agent.js", "agent"),
            ("node -r dotenv/config agent.js", "agent"),
            ("node --import tsx/esm agent.ts", "agent"),
            ("node --experimental_loader ./l.mjs agent.ts", "agent"),
            ("node --inspect=127.0.0.1:9229 --trace-warnings agent.js --port 1", "agent"),
            ("node --inspect agent.js", "agent"),
            ("node -- --odd.js", "--odd"),
            ("node -e process.exit() agent.js", "node"),
            ("node -p 1+1", "node"),
            ("node -pe 1+1", "node"),
            ("node --eval=1 agent.js", "node"),
            ("node -", "node"),
            ("node -i", "node"),
            ("node /usr/lib/node_modules/@google/gemini-cli/dist/index.js", "gemini-cli"),
            ("node /usr/lib/node_modules/@anthropic-ai/claude-code/cli.js", "claude-code"),
            ("node /srv/x/node_modules/vite/dist/node/cli.mjs", "vite"),
            ("node /srv/shop/dist/server.js", "shop"),
            ("node /srv/shop/releases/1.4.0/main.js", "shop"),
            ("node /home/ann/index.js", "index"),
            ("node dist/index.js", "index"),
            ("node ../index.js", "index"),
            ("node /usr/bin/npx create-thing", "npx"),
            ("/usr/bin/node /usr/bin/npm run dev", "npm"),
        ],
    );
}

#[test]
fn python_is_named_by_its_script_or_module() {
    assert_programs(
        "/usr/bin/python3.11",
        &[
            ("python3", "python3"),
            ("python3 -m aider", "aider"),
            ("python3 -maider --model x", "aider"),
            ("python3 -Im aider.__main__", "aider"),
            ("python3 -m http.server 8000", "http.server"),
            ("python3 /opt/x/tool.py", "tool"),
            ("/home/ann/venv/bin/python /home/ann/venv/bin/aider --yes", "aider"),
            ("/usr/bin/python3 /usr/bin/ipython", "ipython"),
            ("python3 -c import(x)", "python3"),
            ("python3 -uc import(x)", "python3"),
            ("python3 -u -W ignore -X dev tool.py", "tool"),
            ("python3 -Wignore -OO tool.pyc", "tool"),
            ("python3 --check-hash-based-pycs always tool.py", "tool"),
            ("python3 /usr/lib/python3/dist-packages/glances/__main__.py", "glances"),
            ("python3 /srv/crawler/src/main.py", "crawler"),
            ("python3 main.py", "main"),
            ("python3 /opt/bot/app.py", "bot"),
            ("python3 -", "python3"),
            ("python3 .", "python3"),
            ("python3 /nix/store/q1-aider/bin/.aider-wrapped", "aider"),
        ],
    );
    assert_programs("/usr/bin/pypy3.9", &[("pypy3 tool.py", "tool"), ("pypy3", "pypy3")]);
}

#[test]
fn shells_are_named_by_a_script_with_its_extension() {
    assert_programs(
        "/usr/bin/bash",
        &[
            ("bash", "bash"),
            ("-bash", "bash"),
            ("bash -lc make", "bash"),
            ("bash -i", "bash"),
            ("/bin/bash ./start.sh --now", "start.sh"),
            ("bash -euo pipefail /opt/x/main.sh", "main.sh"),
            ("bash -euo pipefail -c true", "bash"),
            ("bash +x -O extglob run", "run"),
            ("bash --rcfile /dev/null --norc run", "run"),
            ("bash -- run.sh", "run.sh"),
            ("bash - run.sh", "run.sh"),
            ("bash -s a b", "bash"),
            ("bash /dev/fd/63", "bash"),
        ],
    );
    assert_programs("/usr/bin/dash", &[("sh start.sh", "start.sh"), ("sh -c true", "sh"), ("dash", "dash")]);
    assert_programs("/usr/bin/zsh", &[("-zsh", "zsh"), ("zsh -f -o extendedglob x.zsh", "x.zsh")]);
    assert_programs("/usr/bin/ksh93", &[("ksh x.ksh", "x.ksh"), ("ksh", "ksh")]);
    assert_programs("/usr/bin/fish", &[("fish -C pwd x.fish", "x.fish"), ("fish --command pwd", "fish")]);
    assert_programs(
        "/bin/busybox",
        &[
            ("sh start.sh", "start.sh"),
            ("-sh", "sh"),
            ("busybox sh start.sh", "start.sh"),
            ("busybox ash -c true", "ash"),
            ("busybox httpd -f", "httpd"),
            ("ls -l", "ls"),
            ("busybox", "busybox"),
            ("busybox --list", "busybox"),
        ],
    );
}

#[test]
fn perl_and_ruby_are_named_by_their_script() {
    assert_programs(
        "/usr/bin/perl",
        &[
            ("perl x.pl", "x"),
            ("/usr/bin/perl -w /usr/bin/exiftool a.jpg", "exiftool"),
            ("perl -I lib -Ilib2 -MData::Dumper x.pl", "x"),
            ("perl -e print", "perl"),
            ("perl -lne print log.txt", "perl"),
            ("perl -0777ne print log.txt", "perl"),
            ("perl -i.bak -pe s/a/b/ log.txt", "perl"),
            ("perl -d:NYTProf x.pl", "x"),
            ("perl -de1", "perl"),
        ],
    );
    assert_programs(
        "/usr/bin/ruby3.1",
        &[
            ("ruby bin/x", "x"),
            ("ruby -rbundler/setup -I lib x.rb", "x"),
            ("ruby --encoding UTF-8 -W:no-deprecated x.rb", "x"),
            ("ruby -e puts", "ruby"),
            ("ruby -S rails server", "rails"),
        ],
    );
}

#[test]
fn java_is_named_by_its_archive_or_class() {
    assert_programs(
        "/usr/lib/jvm/java-17/bin/java",
        &[
            ("java -jar srv.jar", "srv"),
            ("java -Xmx1g -Dx=y -cp a.jar:b.jar -jar /opt/srv.jar --port 1", "srv"),
            ("java -cp lib/a.jar org.example.Collector x", "Collector"),
            ("java --class-path=a.jar org.example.crawler.Main", "crawler"),
            ("java --add-opens java.base/java.lang=ALL-UNNAMED -jar srv.jar", "srv"),
            ("java -p mods -m org.greetings/org.greetings.Hello", "org.greetings"),
            ("java src/Hello.java", "Hello"),
            ("java -version", "java"),
        ],
    );
    assert_eq!(looked_at("/usr/bin/java", "java @options Main"), None, "the file may hold -jar");
}

#[test]
fn other_interpreters_are_named_by_their_script() {
    assert_programs(
        "/usr/bin/deno",
        &[
            ("deno run a.ts", "a"),
            ("deno run -A --config deno.json --allow-net=x a.ts", "a"),
            ("deno run https://deno.land/std/file_server.ts?x=y", "file_server"),
            ("deno run npm:@scope/cowsay@1.5", "cowsay"),
            ("deno run npm:cowsay@1.5", "cowsay"),
            ("deno ./a.ts", "a"),
            ("deno task dev", "deno"),
            ("deno eval 1", "deno"),
        ],
    );
    assert_programs(
        "/root/.bun/bin/bun",
        &[
            ("bun x.ts", "x"),
            ("bun run --watch x.ts", "x"),
            ("bun /usr/local/bin/opencode", "opencode"),
            ("bun --preload ./p.ts run x.tsx", "x"),
            ("bun run dev", "bun"),
            ("bun install", "bun"),
            ("bunx cowsay@1.5", "bunx"),
        ],
    );
    assert_programs(
        "/usr/bin/php8.2",
        &[
            ("php artisan serve", "artisan"),
            ("php -d memory_limit=1G -f x.php", "x"),
            ("php /usr/bin/composer.phar install", "composer"),
            ("php -S localhost:80 router.php", "php"),
            ("php -r phpinfo();", "php"),
        ],
    );
    assert_programs(
        "/usr/bin/lua5.4",
        &[("lua5.4 -l json x.lua", "x"), ("lua5.4 -e x=1 x.lua", "x"), ("lua5.4", "lua5.4")],
    );
    assert_programs("/usr/lib/R/bin/exec/R", &[("R --no-echo --file=fit.R --args x", "fit"), ("R", "R")]);
    assert_programs(
        "/usr/bin/Rscript",
        &[("Rscript --vanilla fit.R x", "fit"), ("Rscript -e 1+1", "Rscript")],
    );
}

#[test]
fn a_native_program_is_named_by_its_file() {
    for (exe, line, program) in [
        ("/usr/bin/less", "less a.txt", "less"),
        ("/usr/bin/uv", "uv run foo.py", "uv"),
        ("/usr/bin/uvx", "uvx aider", "uvx"),
        ("/usr/bin/env", "env -i python3 x.py", "env"),
        ("/usr/bin/vim.basic", "vim a.txt", "vim"),
        ("/usr/bin/vim.basic", "view a.txt", "view"),
        ("/usr/bin/emacs-gtk", "emacs", "emacs"),
        ("/usr/bin/x86_64-linux-gnu-gcc-13", "gcc -c x.c", "gcc"),
        ("/home/ann/.local/share/claude/versions/2.0.14", "claude", "claude"),
        ("/nix/store/q1-htop/bin/.htop-wrapped", "htop", "htop"),
        ("/usr/lib/openssh/sshd-session", "sshd-session: ann [priv]", "sshd-session"),
        ("/usr/sbin/nginx", "nginx: master process /usr/sbin/nginx", "nginx"),
        ("/usr/bin/sleep", "claude 100", "sleep"),
        ("/usr/bin/sleep", "python3 x.py", "sleep"),
        ("/usr/bin/htop (deleted)", "htop", "htop"),
        ("/memfd:agent (deleted)", "x", "agent"),
        ("/memfd:a/b", "x", "a/b"),
        ("/usr/bin/htop", "", "htop"),
        ("/opt/with space/my tool", "./my tool", "my tool"),
    ] {
        assert_eq!(looked_at(exe, line).as_deref(), Some(program), "{exe}: {line}");
    }
}

#[test]
fn an_observed_exec_is_named_as_it_was_called() {
    for (exe, filename, line, program) in [
        ("/usr/bin/vim.basic", "/usr/bin/view", "view a.txt", "view"),
        ("/opt/engine/bin/engine", "/usr/local/bin/agent", "agent", "agent"),
        ("/home/ann/.local/share/claude/versions/2.0.14", "/home/ann/.local/bin/claude", "claude", "claude"),
        ("/home/ann/.local/share/claude/versions/2.0.14", "./2.0.14", "x", "claude"),
        ("/usr/bin/sleep", "/usr/bin/sleep", "claude 100", "sleep"),
        ("/usr/bin/bash", "/bin/bash", "-bash", "bash"),
        ("/usr/bin/dash", "./start.sh", "/bin/sh ./start.sh", "start.sh"),
        ("/usr/bin/node", "/usr/bin/node", "node /usr/local/bin/gemini --x", "gemini"),
        ("/usr/bin/python3.11", "/usr/bin/python3", "python3", "python3"),
        ("/usr/bin/python3.11", "/usr/bin/aider", "/usr/bin/python3 /usr/bin/aider", "aider"),
        ("/bin/busybox", "/bin/ls", "ls", "ls"),
        ("/bin/busybox", "./start.sh", "/bin/sh ./start.sh", "start.sh"),
        ("/usr/lib/firefox/firefox", "/proc/self/exe", "/proc/self/exe -contentproc", "firefox"),
        ("/memfd:agent", "/dev/fd/3", "3", "agent"),
        ("/usr/bin/perl", "/dev/fd/3", "/usr/bin/perl /dev/fd/3", "perl"),
    ] {
        assert_eq!(observed(exe, filename, line).as_deref(), Some(program), "{exe} as {filename}: {line}");
    }
}

#[test]
fn a_title_written_over_the_arguments_names_a_script_that_is_lost() {
    for (exe, argv, program) in [
        ("/usr/bin/node", b"claude\0\0\0\0\0\0".as_slice(), Some("claude")),
        ("/usr/bin/node", b"npm run dev\0\0\0\0", Some("npm")),
        ("/usr/bin/python3.11", b"gunicorn: master [shop]\0\0\0", Some("gunicorn")),
        ("/usr/bin/python3.11", b"\x1b[31m hello\0\0\0", None),
        ("/usr/bin/bash", b"su\0", Some("bash")),
    ] {
        let argv = Block { bytes: argv, truncated: false };
        assert_eq!(shown(program_name(Some(exe.as_bytes()), None, Some(argv))).as_deref(), program, "{exe}");
    }
}

#[test]
fn what_is_not_known_is_not_named() {
    let name = |exe: &[u8], filename: Option<&'static [u8]>, argv: Option<(&[u8], bool)>| {
        let argv = argv.map(|(bytes, truncated)| Block { bytes, truncated });
        shown(program_name(Some(exe).filter(|exe| !exe.is_empty()), filename, argv))
    };
    let (node, sleep) = (b"/usr/bin/node".as_slice(), b"/usr/bin/sleep".as_slice());
    assert_eq!(name(b"", None, Some((b"claude\0", false))), None, "argv alone proves nothing");
    assert_eq!(name(b"", Some(b"bin/claude"), None).as_deref(), Some("claude"));
    assert_eq!(name(b"/", None, None), None);
    assert_eq!(name(b"/memfd:", None, None), None);
    assert_eq!(name(sleep, None, None).as_deref(), Some("sleep"));
    assert_eq!(name(sleep, None, Some((b"", false))).as_deref(), Some("sleep"), "argc 0");
    assert_eq!(name(node, None, Some((b"", false))).as_deref(), Some("node"), "argc 0");
    assert_eq!(name(node, None, None), None, "the script is in the arguments");
    assert_eq!(name(node, Some(b"/usr/bin/node"), None), None);
    assert_eq!(
        name(node, Some(b"/usr/bin/gemini"), None).as_deref(),
        Some("gemini"),
        "exec was given a script"
    );
    assert_eq!(name(node, None, Some((b"node\0--x\0", true))), None, "cut before the script");
    assert_eq!(name(node, None, Some((b"node\0/usr/bin/gem", true))), None, "cut within the script");
    assert_eq!(name(node, None, Some((b"node\0/usr/bin/gemini\0--", true))).as_deref(), Some("gemini"));
    assert_eq!(name(b"/bin/busybox", None, None), None, "its applet is in the arguments");
}

#[test]
fn hostile_arguments_are_bytes_like_others() {
    let name = |exe: &'static [u8], argv: &[u8]| {
        let argv = Block { bytes: argv, truncated: false };
        program_name(Some(exe), None, Some(argv)).map(<[u8]>::to_vec)
    };
    assert_eq!(
        name(b"/usr/bin/node", b"node\0/x/\xff\xfe\n.js\0").as_deref(),
        Some(b"\xff\xfe\n".as_slice())
    );
    assert_eq!(name(b"/usr/bin/\xff", b"\0").as_deref(), Some(b"\xff".as_slice()));
    assert_eq!(name(b"/usr/bin/node", b"node\0.js\0").as_deref(), Some(b".js".as_slice()));
    assert_eq!(name(b"/usr/bin/node", b"node\0////\0").as_deref(), Some(b"node".as_slice()));
    assert_eq!(name(b"/usr/bin/java", b"java\0...\0").as_deref(), Some(b"java".as_slice()));
    assert_eq!(name(b"/usr/bin/python3", b"python3\0-m\0.\0").as_deref(), Some(b".".as_slice()));
    assert_eq!(name(b"/usr/bin/python3", b"python3\0-m\0").as_deref(), Some(b"python3".as_slice()));
    assert_eq!(name(b"/usr/bin/python3", &[0; 4096]).as_deref(), Some(b"python3".as_slice()));
    for filler in [b"-o".as_slice(), b"--x", b"./", b"-", b"@", b"=", b"\xff"] {
        for languages in
            [b"/bin/sh".as_slice(), b"/bin/node", b"/bin/deno", b"/bin/perl", b"/bin/java", b"/bin/R"]
        {
            let words = filler.iter().copied().cycle().take(4095).chain([0]);
            let argv: Vec<u8> = b"x\0".iter().copied().chain(words).collect();
            let found = program_name(Some(languages), None, Some(Block { bytes: &argv, truncated: false }));
            assert!(found.is_none_or(|found| !found.is_empty()));
        }
    }
}
