//! Warnings about rules that never decide, because what comes before them has the same conditions or fewer.
//!
//! Conditions are compared as they are written, so a warning is certain; of rules that overlap in another way, nothing is said.

use std::collections::BTreeSet;
use std::ops::Range;

use observer_core::rule::Pattern;
use toml::Spanned;

use super::builtin::{NOT_PROGRAM_DEFAULT, WRAPPERS_DEFAULT, not_comm_default};
use super::fault::{ConfigFault, OneOrMore, place};
use super::session::{IgnoreSection, SessionSection};
use crate::text::glob::{Glob, is_literal};

/// Sections of each kind that are compared; of those behind them, nothing is said.
const COMPARED_MAX: usize = 256;

/// The values of a condition; `None` requires nothing.
type Values = Option<Vec<String>>;

/// How the values of a condition are compared.
#[derive(Clone, Copy)]
enum Comparison {
    /// As globs of names.
    Name,
    /// As globs of paths.
    Path,
    /// As they are written.
    Exact,
}

/// What a section requires, as it is written: every condition, in one order.
struct Required(Vec<(Comparison, Values)>);

impl Required {
    fn of(section: &IgnoreSection) -> Self {
        use Comparison::{Exact, Name, Path};
        let IgnoreSection { cwd, tty, comm, program, exe, argv, cgroup, unit, .. } = section;
        let IgnoreSection { container, user, group, mux_socket, mnt_ns, .. } = section;
        // Any terminal, and any mount namespace.
        let unless_any = |values: Values| values.filter(|values| *values != ["any"]);
        let mnt_ns = mnt_ns.as_ref().map(|it| vec![it.get_ref().clone()]);
        let mut all = vec![(Exact, unless_any(values(tty))), (Exact, unless_any(mnt_ns))];
        all.extend([comm, program, argv, unit, container].map(|field| (Name, values(field))));
        all.extend([exe, cgroup, mux_socket].map(|field| (Path, values(field))));
        all.extend([cwd, user, group].map(|field| (Exact, values(field))));
        Self(all)
    }

    /// Whether what meets `later` meets this as well.
    fn covers(&self, later: &Self) -> bool {
        self.0.iter().zip(&later.0).all(|((how, own), (_, later))| match (own, later) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(later)) => later.iter().all(|value| is_covered(*how, own, value)),
        })
    }
}

fn values(field: &Option<Spanned<OneOrMore>>) -> Values {
    let values = OneOrMore::placed(field.as_ref()?);
    Some(values.into_iter().map(Spanned::into_inner).collect())
}

/// Whether one of `globs` matches whatever `value` matches.
fn is_covered(how: Comparison, globs: &[String], value: &str) -> bool {
    let (any, compile) = match how {
        Comparison::Name => (Some("*"), Glob::name as fn(&str) -> Result<Glob, String>),
        Comparison::Path => (None, Glob::path as _),
        Comparison::Exact => {
            let without_slash = |value: &str| value.trim_end_matches('/').to_owned();
            return globs.iter().any(|glob| without_slash(glob) == without_slash(value));
        }
    };
    // What is literal matches itself alone, so it need not be compiled, which is slow.
    let matches = |glob: &str| {
        let may = is_literal(value) && !is_literal(glob);
        may && compile(glob).is_ok_and(|glob| glob.is_match(value.as_bytes()))
    };
    globs.iter().any(|glob| glob == value || Some(glob.as_str()) == any || matches(glob))
}

/// The lists that a session rule has, with what is built in.
struct Lists {
    refused: [BTreeSet<String>; 2],
    wrappers: BTreeSet<String>,
}

impl Lists {
    fn of(section: &SessionSection) -> Self {
        let SessionSection { not_comm, not_comm_only, not_program, not_program_only, .. } = section;
        let SessionSection { wrappers, wrappers_only, .. } = section;
        Self {
            refused: [
                whole(&not_comm_default(), not_comm, not_comm_only),
                whole(&NOT_PROGRAM_DEFAULT, not_program, not_program_only),
            ],
            wrappers: whole(&WRAPPERS_DEFAULT, wrappers, wrappers_only),
        }
    }

    /// Whether a rule with these lists takes what one with the lists `later` takes, as the same.
    fn cover(&self, later: &Self) -> bool {
        let refuses_less = self.refused.iter().zip(&later.refused).all(|(own, later)| own.is_subset(later));
        refuses_less && later.wrappers.is_subset(&self.wrappers)
    }
}

fn whole(
    builtin: &[&str],
    more: &Option<Spanned<OneOrMore>>,
    only: &Option<Spanned<OneOrMore>>,
) -> BTreeSet<String> {
    match values(only) {
        Some(only) => only.into_iter().collect(),
        None => builtin.iter().map(ToString::to_string).chain(values(more).unwrap_or_default()).collect(),
    }
}

/// A session rule that comes before others.
struct Earlier {
    line: usize,
    owner: bool,
    required: Required,
    lists: Lists,
}

impl Earlier {
    /// Whether this rule admits whatever `later` admits.
    fn covers(&self, later: &Self) -> bool {
        (!self.owner || later.owner)
            && self.required.covers(&later.required)
            && self.lists.cover(&later.lists)
    }
}

/// Warnings about session rules of `text` that never decide.
pub fn shadowed(
    text: &str,
    sessions: &[Spanned<SessionSection>],
    ignored: &[Spanned<IgnoreSection>],
) -> Vec<ConfigFault> {
    let line = |span: Range<usize>| place(text, span.start).0;
    let ignored = ignored.iter().take(COMPARED_MAX);
    let ignored: Vec<_> = ignored.map(|it| (line(it.span()), Required::of(it.get_ref()))).collect();
    let mut earlier: Vec<Earlier> = Vec::new();
    let mut warnings = Vec::new();
    for section in sessions.iter().take(COMPARED_MAX) {
        let (span, section) = (section.span(), section.get_ref());
        let rule = Earlier {
            line: line(span.clone()),
            owner: section.owner,
            required: Required::of(&section.conditions()),
            lists: Lists::of(section),
        };
        let ignore = ignored.iter().find(|(_, it)| it.covers(&rule.required));
        let by_ignore = ignore.map(|(line, _)| {
            format!(
                "this rule has no sessions, because the [[ignore]] in line {line} refuses all that it admits: correct one of \
                 them"
            )
        });
        let by_rule = || {
            let first = earlier.iter().find(|it| it.covers(&rule))?;
            Some(format!(
                "this rule never decides, because the rule in line {} comes first and admits all that it admits: put it \
                 before that one, or leave it out",
                first.line
            ))
        };
        let message = by_ignore.or_else(by_rule);
        warnings.extend(message.map(|message| ConfigFault { span: Some(span), message }));
        earlier.push(rule);
    }
    warnings
}
