//! The interpreters, and those of their options that take a value or say what is run.
//!
//! An option that is not listed is a flag. Where an interpreter has an option with a separate value that is
//! missing here, the value would be taken for the script.

use Takes::{Code, Digits, Module, Next, Rest, RestAfterColon, Script, Value};

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// A value: the rest of the word, else the next argument.
    Value,
    /// A value in the next argument; further letters may follow in this word.
    Next,
    /// The rest of the word, which may be empty.
    Rest,
    /// The rest of the word if it begins with a colon.
    RestAfterColon,
    /// Digits, which may be none; further letters may follow.
    Digits,
    /// It says that no script is run: there is code in an argument, or a command of the interpreter.
    Code,
    /// The path of the script.
    Script,
    /// The name of the module that is run.
    Module,
}

/// What the first argument that is no option stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    /// The path of the script.
    Script,
    /// A class, or the path of a source file.
    Class,
    /// A command of the interpreter. These run the script that follows; without a command, a path is a script.
    Command(&'static [&'static str]),
}

/// How the interpreters of one language are called.
#[derive(Debug)]
pub(super) struct Language {
    /// Extensions of its scripts, which are no part of a program's name.
    pub extensions: &'static [&'static str],
    /// Options of one letter, which may share a word. Empty: there are none.
    pub letters: &'static [(u8, Takes)],
    /// Options of a word.
    words: &'static [(&'static str, Takes)],
    pub operand: Operand,
    /// It is a shell: `-` and `--` end its options, `+o` is one, and a script keeps its whole file name.
    pub is_shell: bool,
}

impl Language {
    /// Returns what the option with this letter takes.
    pub fn letter(&self, letter: u8) -> Option<Takes> {
        self.letters.iter().find(|(own, _)| *own == letter).map(|&(_, takes)| takes)
    }

    /// Returns what this option takes. Node allows `_` for `-`.
    pub fn word(&self, word: &[u8]) -> Option<Takes> {
        let is_same = |own: &str| {
            own.len() == word.len()
                && own.bytes().zip(word).all(|(one, &other)| one == other || (one == b'-' && other == b'_'))
        };
        self.words.iter().find(|(own, _)| is_same(own)).map(|&(_, takes)| takes)
    }
}

/// Returns the language whose interpreter has this file name, with or without a version behind it:
/// `python3.11`, `node-20`.
pub(super) fn language_of(base: &[u8]) -> Option<&'static Language> {
    let is_version = |byte: &u8| byte.is_ascii_digit() || b".-".contains(byte);
    let len = base.iter().rposition(|byte| !is_version(byte)).map_or(0, |at| at + 1);
    Some(match base.get(..len)? {
        b"sh" | b"bash" | b"rbash" | b"dash" | b"ash" | b"hush" | b"zsh" | b"ksh" | b"mksh" | b"lksh"
        | b"yash" | b"csh" | b"tcsh" => &SHELL,
        b"fish" => &FISH,
        b"node" | b"nodejs" => &NODE,
        b"python" | b"pythonw" | b"pypy" | b"graalpy" => &PYTHON,
        b"java" => &JAVA,
        b"perl" => &PERL,
        b"ruby" | b"jruby" | b"truffleruby" => &RUBY,
        b"deno" => &DENO,
        b"bun" => &BUN,
        b"php" => &PHP,
        b"lua" | b"luajit" | b"texlua" => &LUA,
        b"R" | b"Rscript" => &R,
        _ => return None,
    })
}

static SHELL: Language = Language {
    extensions: &[],
    letters: &[(b'c', Code), (b's', Code), (b'o', Next), (b'O', Next)],
    words: &[("--rcfile", Value), ("--init-file", Value), ("--emulate", Value)],
    operand: Operand::Script,
    is_shell: true,
};

static FISH: Language = Language {
    letters: &[
        (b'c', Code),
        (b'C', Value),
        (b'd', Value),
        (b'D', Value),
        (b'f', Value),
        (b'o', Value),
        (b'p', Value),
    ],
    words: &[
        ("--command", Code),
        ("--init-command", Value),
        ("--debug", Value),
        ("--debug-output", Value),
        ("--debug-stack-frames", Value),
        ("--features", Value),
        ("--profile", Value),
        ("--profile-startup", Value),
    ],
    extensions: &[],
    operand: Operand::Script,
    is_shell: true,
};

const JS: [&str; 9] = ["js", "mjs", "cjs", "jsx", "ts", "mts", "cts", "tsx", "wasm"];

static NODE: Language = Language {
    extensions: &JS,
    letters: &[(b'e', Code), (b'p', Code), (b'r', Value), (b'C', Value)],
    words: &[
        ("--allow-fs-read", Value),
        ("--allow-fs-write", Value),
        ("--build-snapshot-config", Value),
        ("--conditions", Value),
        ("--cpu-prof-dir", Value),
        ("--cpu-prof-interval", Value),
        ("--cpu-prof-name", Value),
        ("--debug-port", Value),
        ("--diagnostic-dir", Value),
        ("--disable-proto", Value),
        ("--disable-warning", Value),
        ("--dns-result-order", Value),
        ("--env-file", Value),
        ("--env-file-if-exists", Value),
        ("--es-module-specifier-resolution", Value),
        ("--eval", Code),
        ("--experimental-config-file", Value),
        ("--experimental-default-type", Value),
        ("--experimental-loader", Value),
        ("--experimental-sea-config", Code),
        ("--heap-prof-dir", Value),
        ("--heap-prof-interval", Value),
        ("--heap-prof-name", Value),
        ("--heapsnapshot-near-heap-limit", Value),
        ("--heapsnapshot-signal", Value),
        ("--icu-data-dir", Value),
        ("--import", Value),
        ("--input-type", Value),
        ("--inspect-port", Value),
        ("--inspect-publish-uid", Value),
        ("--loader", Value),
        ("--localstorage-file", Value),
        ("--max-http-header-size", Value),
        ("--max-old-space-size-percentage", Value),
        ("--network-family-autoselection-attempt-timeout", Value),
        ("--openssl-config", Value),
        ("--print", Code),
        ("--redirect-warnings", Value),
        ("--report-dir", Value),
        ("--report-directory", Value),
        ("--report-filename", Value),
        ("--report-signal", Value),
        ("--require", Value),
        ("--run", Code),
        ("--secure-heap", Value),
        ("--secure-heap-min", Value),
        ("--security-revert", Value),
        ("--snapshot-blob", Value),
        ("--test", Code),
        ("--title", Value),
        ("--tls-cipher-list", Value),
        ("--tls-keylog", Value),
        ("--trace-event-categories", Value),
        ("--trace-event-file-pattern", Value),
        ("--trace-require-module", Value),
        ("--unhandled-rejections", Value),
        ("--v8-pool-size", Value),
        ("--watch-path", Value),
    ],
    operand: Operand::Script,
    is_shell: false,
};

static PYTHON: Language = Language {
    extensions: &["py", "pyw", "pyc", "pyz", "pex"],
    letters: &[(b'c', Code), (b'm', Module), (b'W', Value), (b'X', Value)],
    words: &[("--check-hash-based-pycs", Value)],
    operand: Operand::Script,
    is_shell: false,
};

static JAVA: Language = Language {
    extensions: &["jar", "war", "java"],
    letters: &[],
    words: &[
        ("-jar", Script),
        ("-m", Module),
        ("--module", Module),
        ("-cp", Value),
        ("-classpath", Value),
        ("--class-path", Value),
        ("-p", Value),
        ("--module-path", Value),
        ("--upgrade-module-path", Value),
        ("--add-exports", Value),
        ("--add-modules", Value),
        ("--add-opens", Value),
        ("--add-reads", Value),
        ("--enable-native-access", Value),
        ("--limit-modules", Value),
        ("--patch-module", Value),
        ("--source", Value),
        ("-d", Code),
        ("--describe-module", Code),
        ("--list-modules", Code),
        ("-version", Code),
        ("--version", Code),
    ],
    operand: Operand::Class,
    is_shell: false,
};

static PERL: Language = Language {
    extensions: &["pl", "pm", "t"],
    letters: &[
        (b'e', Code),
        (b'E', Code),
        (b'I', Value),
        (b'M', Rest),
        (b'm', Rest),
        (b'C', Rest),
        (b'D', Rest),
        (b'F', Rest),
        (b'V', Rest),
        (b'i', Rest),
        (b'x', Rest),
        (b'd', RestAfterColon),
        (b'0', Digits),
        (b'l', Digits),
    ],
    words: &[],
    operand: Operand::Script,
    is_shell: false,
};

static RUBY: Language = Language {
    extensions: &["rb", "rbw"],
    letters: &[
        (b'e', Code),
        (b'I', Value),
        (b'r', Value),
        (b'C', Value),
        (b'E', Value),
        (b'F', Rest),
        (b'K', Rest),
        (b'i', Rest),
        (b'x', Rest),
        (b'0', Digits),
        (b'T', Digits),
        (b'W', RestAfterColon),
    ],
    words: &[
        ("--encoding", Value),
        ("--external-encoding", Value),
        ("--internal-encoding", Value),
        ("--enable", Value),
        ("--disable", Value),
        ("--parser", Value),
    ],
    operand: Operand::Script,
    is_shell: false,
};

static DENO: Language = Language {
    extensions: &JS,
    letters: &[(b'c', Value), (b'L', Value)],
    words: &[
        ("--cert", Value),
        ("--config", Value),
        ("--ext", Value),
        ("--host", Value),
        ("--import", Value),
        ("--import-map", Value),
        ("--location", Value),
        ("--log-level", Value),
        ("--port", Value),
        ("--preload", Value),
        ("--require", Value),
        ("--seed", Value),
    ],
    operand: Operand::Command(&["run", "serve"]),
    is_shell: false,
};

static BUN: Language = Language {
    extensions: &JS,
    letters: &[
        (b'e', Code),
        (b'p', Code),
        (b'r', Value),
        (b'd', Value),
        (b'F', Value),
        (b'l', Value),
        (b'c', Rest),
    ],
    words: &[
        ("--conditions", Value),
        ("--cwd", Value),
        ("--define", Value),
        ("--drop", Value),
        ("--env-file", Value),
        ("--eval", Code),
        ("--extension-order", Value),
        ("--filter", Value),
        ("--import", Value),
        ("--loader", Value),
        ("--main-fields", Value),
        ("--port", Value),
        ("--preload", Value),
        ("--print", Code),
        ("--require", Value),
        ("--shell", Value),
        ("--title", Value),
        ("--tsconfig-override", Value),
    ],
    operand: Operand::Command(&["run"]),
    is_shell: false,
};

static PHP: Language = Language {
    extensions: &["php", "phar", "phtml"],
    letters: &[
        (b'f', Script),
        (b'F', Script),
        (b'r', Code),
        (b'B', Code),
        (b'R', Code),
        (b'E', Code),
        (b'S', Code),
        (b'a', Code),
        (b'c', Value),
        (b'd', Value),
        (b't', Value),
        (b'z', Value),
    ],
    words: &[
        ("--file", Script),
        ("--process-file", Script),
        ("--run", Code),
        ("--process-begin", Code),
        ("--process-code", Code),
        ("--process-end", Code),
        ("--server", Code),
        ("--interactive", Code),
        ("--php-ini", Value),
        ("--define", Value),
        ("--docroot", Value),
        ("--zend-extension", Value),
    ],
    operand: Operand::Script,
    is_shell: false,
};

static LUA: Language = Language {
    extensions: &["lua"],
    letters: &[(b'e', Value), (b'l', Value), (b'j', Value), (b'O', Rest), (b'b', Code)],
    words: &[],
    operand: Operand::Script,
    is_shell: false,
};

/// Rscript executes R, with the script in `--file=`.
static R: Language = Language {
    extensions: &["R", "r"],
    letters: &[],
    words: &[
        ("--file", Script),
        ("-f", Script),
        ("-e", Code),
        ("-g", Value),
        ("--gui", Value),
        ("--encoding", Value),
        ("--args", Code),
    ],
    operand: Operand::Script,
    is_shell: false,
};
