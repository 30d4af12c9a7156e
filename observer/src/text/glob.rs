//! Globs, compiled once, matched against bytes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobMatcher};
use observer_core::rule::Pattern;

/// A glob that is matched against the bytes of a path (`*` and `?` do not cross `/`) or of a name.
#[derive(Debug)]
pub struct Glob(Matcher);

#[derive(Debug)]
enum Matcher {
    /// A glob without wildcards: comparing bytes costs a hundredth of running a matcher.
    Literal(Box<[u8]>),
    Wild(GlobMatcher),
}

/// What makes a glob more than the bytes it stands for.
const WILD: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

impl Glob {
    /// A glob for paths: `*` stays within a component, `**` crosses components.
    pub fn path(glob: &str) -> Result<Self, String> {
        Self::compile(glob, true)
    }

    /// A glob for names such as comm.
    pub fn name(glob: &str) -> Result<Self, String> {
        Self::compile(glob, false)
    }

    fn compile(glob: &str, is_path: bool) -> Result<Self, String> {
        GlobBuilder::new(glob)
            .literal_separator(is_path)
            .backslash_escape(true)
            .build()
            .map(|compiled| {
                let literal = is_literal(glob);
                Self(if literal {
                    Matcher::Literal(glob.as_bytes().into())
                } else {
                    Matcher::Wild(compiled.compile_matcher())
                })
            })
            .map_err(|error| format!("{glob:?} is not a glob: {}: correct it", error.kind()))
    }
}

impl Pattern for Glob {
    fn is_match(&self, bytes: &[u8]) -> bool {
        match &self.0 {
            Matcher::Literal(literal) => **literal == *bytes,
            Matcher::Wild(matcher) => matcher.is_match(Path::new(OsStr::from_bytes(bytes))),
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
