//! Globs, compiled once, matched against bytes.

use std::fmt::Display;

use globset::GlobBuilder;
use observer_core::rule::Pattern;
use regex_automata::meta::Regex;
use regex_automata::util::syntax;

use super::bytes::quoted;

/// Bytes of a glob as a person writes it.
pub const GLOB_BYTES_MAX: usize = 256;
/// Bytes of a compiled glob. One whose directory is resolved is longer than it was written.
const GLOB_COMPILED_BYTES_MAX: usize = 1 << 20;
/// Bytes of the states of a glob that are kept between matches.
const GLOB_CACHE_BYTES_MAX: usize = 1 << 18;

/// A glob that is matched against the bytes of a path (`*` and `?` do not cross `/`) or of a name.
#[derive(Debug)]
pub struct Glob(Matcher);

#[derive(Debug)]
enum Matcher {
    /// A glob without wildcards: comparing bytes costs a hundredth of running a matcher.
    Literal(Box<[u8]>),
    Wild(Regex),
}

/// What makes a glob more than the bytes it stands for.
const WILD: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

impl Glob {
    /// A glob for paths: `*` stays within a component, `**` crosses components.
    pub fn path(glob: &str) -> Result<Self, String> {
        Self::compile(bounded(glob)?, true)
    }

    /// A glob for names such as comm.
    pub fn name(glob: &str) -> Result<Self, String> {
        Self::compile(bounded(glob)?, false)
    }

    /// A glob for paths that a person wrote shorter: the directories of its first components are resolved.
    pub fn resolved_path(glob: &str) -> Result<Self, String> {
        Self::compile(glob, true)
    }

    fn compile(glob: &str, is_path: bool) -> Result<Self, String> {
        let fault = |why: &dyn Display| format!("{} is not a glob: {why}: correct it", quoted(glob));
        let mut builder = GlobBuilder::new(glob);
        let compiled = builder.literal_separator(is_path).backslash_escape(true).build();
        let compiled = compiled.map_err(|error| fault(error.kind()))?;
        if is_literal(glob) {
            return Ok(Self(Matcher::Literal(glob.as_bytes().into())));
        }
        // As globset compiles it, but with bounds of our own.
        let config = Regex::config()
            .utf8_empty(false)
            .nfa_size_limit(Some(GLOB_COMPILED_BYTES_MAX))
            .hybrid_cache_capacity(GLOB_CACHE_BYTES_MAX);
        let bytes = syntax::Config::new().utf8(false).dot_matches_new_line(true);
        let regex = Regex::builder().syntax(bytes).configure(config).build(compiled.regex());
        regex.map(|regex| Self(Matcher::Wild(regex))).map_err(|error| match error.size_limit() {
            Some(_) => format!(
                "{} is too large a glob: compiled it has more than {GLOB_COMPILED_BYTES_MAX} bytes: simplify it",
                quoted(glob)
            ),
            None => fault(&error),
        })
    }
}

/// The glob that a person wrote, if it is not too long.
pub fn bounded(glob: &str) -> Result<&str, String> {
    match glob.len() {
        0..=GLOB_BYTES_MAX => Ok(glob),
        bytes => Err(format!(
            "{} is too long a glob: it has {bytes} bytes, and at most {GLOB_BYTES_MAX} are taken: shorten it with `*`",
            quoted(glob)
        )),
    }
}

impl Pattern for Glob {
    fn is_match(&self, bytes: &[u8]) -> bool {
        match &self.0 {
            Matcher::Literal(literal) => **literal == *bytes,
            Matcher::Wild(regex) => regex.is_match(bytes),
        }
    }
}

/// Whether the glob matches nothing but its own text.
pub fn is_literal(glob: &str) -> bool {
    !glob.contains(WILD)
}

/// The bytes that a name has at least if the glob matches it. Alternatives in braces count as none.
pub fn bytes_min(glob: &str) -> usize {
    let mut chars = glob.chars();
    let mut bytes = 0;
    while let Some(c) = chars.next() {
        bytes += match c {
            '*' => 0,
            '?' => 1,
            '\\' => chars.next().map_or(0, char::len_utf8),
            '[' => chars.find(|&c| c == ']').map_or(0, |_| 1),
            '{' => chars.find(|&c| c == '}').map_or(0, |_| 0),
            c => c.len_utf8(),
        };
    }
    bytes
}

/// Splits a path glob into the components before the first one with a wildcard, and the rest.
pub fn split_literal(glob: &str) -> (&str, &str) {
    let wild = glob.find(['*', '?', '[', '{', '\\']).unwrap_or(glob.len());
    if wild == glob.len() {
        return (glob, "");
    }
    let cut = glob.get(..wild).and_then(|literal| literal.rfind('/')).unwrap_or(0);
    (glob.get(..cut).unwrap_or_default(), glob.get(cut..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_globs_stay_within_a_component_and_match_bytes() {
        let agents = Glob::path("/srv/agents/*").unwrap();
        assert!(agents.is_match(b"/srv/agents/a"));
        assert!(agents.is_match(b"/srv/agents/\xff\n"));
        assert!(!agents.is_match(b"/srv/agents/a/b"));
        assert!(!agents.is_match(b"/srv/agents"));
        assert!(Glob::path("/srv/**").unwrap().is_match(b"/srv/a/b"));
        assert!(Glob::name("tmux*").unwrap().is_match(b"tmux: server"));
        assert!(Glob::path("/srv/[").unwrap_err().contains("is not a glob"));
    }

    #[test]
    fn a_glob_is_bounded_in_length_and_compiled_size() {
        let longest = "*a".repeat(GLOB_BYTES_MAX / 2);
        for compile in [Glob::path, Glob::name] {
            assert!(compile(&longest).is_ok());
            for long in [format!("{longest}*"), "x".repeat(65_536)] {
                let error = compile(&long).unwrap_err();
                let expected =
                    format!("is too long a glob: it has {} bytes, and at most 256 are taken", long.len());
                assert!(error.contains(&expected) && error.len() < 200, "{error}");
            }
        }
        let directory = "/a-directory-with-a-name".repeat(170);
        assert!(Glob::resolved_path(&format!("{directory}/*")).is_ok());
        let error = Glob::resolved_path(&"?".repeat(1 << 16)).unwrap_err();
        assert!(
            error.contains("too large a glob: compiled it has more than") && error.len() < 200,
            "{error}"
        );
    }

    #[test]
    fn what_is_no_glob_is_quoted_in_part() {
        let error = Glob::name(&format!("\x1b[2J{}[", "\u{202e}".repeat(60))).unwrap_err();
        assert!(error.starts_with("\"\\u{1b}[2J\\u{202e}") && error.contains("…"), "{error}");
        assert!(!error.contains(['\x1b', '\u{202e}']) && error.contains("is not a glob: "), "{error}");
    }

    #[test]
    fn a_glob_without_wildcards_matches_itself_alone() {
        let vim = Glob::name("vim").unwrap();
        assert!(vim.is_match(b"vim"));
        assert!(
            !vim.is_match(b"vimx") && !vim.is_match(b"vi") && !vim.is_match(b"VIM") && !vim.is_match(b"")
        );
        assert!(Glob::name("a\\*").unwrap().is_match(b"a*"));
        assert!(Glob::path("/srv/a").unwrap().is_match(b"/srv/a"));
        assert!(!Glob::path("/srv/a").unwrap().is_match(b"/srv/a/"));
    }

    #[test]
    fn a_match_has_at_least_the_literal_bytes() {
        for (glob, bytes) in [
            ("", 0),
            ("vim", 3),
            ("a*b?", 3),
            ("[abc]x", 2),
            ("{a,bcd}x", 1),
            (r"\*ü", 3),
            ("[", 0),
            ("{a", 0),
        ] {
            assert_eq!(bytes_min(glob), bytes, "{glob}");
        }
    }

    #[test]
    fn the_literal_part_ends_at_a_component() {
        assert_eq!(split_literal("/srv/agents/*"), ("/srv/agents", "/*"));
        assert_eq!(split_literal("/srv/ag*/x"), ("/srv", "/ag*/x"));
        assert_eq!(split_literal("/srv/agents"), ("/srv/agents", ""));
        assert_eq!(split_literal("/*"), ("", "/*"));
    }
}
