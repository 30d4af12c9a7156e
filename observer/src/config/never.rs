//! Warnings about what can never match.

use std::ops::Range;

use observer_common::limits::COMM_LEN;
use observer_core::cgroup::unit;
use observer_core::rule::{Conditions, Pattern};
use toml::Spanned;

use super::fault::{ConfigFault, OneOrMore};
use crate::text::bytes::quoted;
use crate::text::glob::{bytes_min, is_literal};

/// Variables in which tmux and screen name themselves.
const MUX_VARIABLES: [&str; 2] = ["TMUX", "STY"];

fn warning(span: Range<usize>, message: String) -> ConfigFault {
    ConfigFault { span: Some(span), message }
}

/// The warning about a glob that matches no comm, because the kernel keeps fewer bytes.
pub fn never_a_comm(glob: &Spanned<String>) -> Option<ConfigFault> {
    let (text, longest) = (glob.get_ref(), COMM_LEN - 1);
    (bytes_min(text) > longest).then(|| {
        let message = format!(
            "{} matches no comm, because the kernel cuts comm to {longest} bytes: shorten it, or use `program`",
            quoted(text)
        );
        warning(glob.span(), message)
    })
}

/// Warnings about globs that match no systemd unit. Without wildcards, that is all but the whole name of one that has processes.
pub fn never_units(field: Option<&Spanned<OneOrMore>>) -> Vec<ConfigFault> {
    let is_unit = |value: &Spanned<String>| {
        let name = value.get_ref();
        unit(format!("/{name}").as_bytes()) == Some(name.as_bytes())
    };
    let never = literals(field).into_iter().filter(|value| !is_unit(value)).map(|value| {
        let message = format!(
            "{} matches no unit that has processes: write the whole name, such as \"nginx.service\", or use `cgroup` for \
             a slice",
            quoted(value.get_ref())
        );
        warning(value.span(), message)
    });
    never.collect()
}

/// The values of a field that match nothing but themselves.
pub fn literals(field: Option<&Spanned<OneOrMore>>) -> Vec<Spanned<String>> {
    let values = field.map(OneOrMore::placed).unwrap_or_default();
    values.into_iter().filter(|value| is_literal(value.get_ref())).collect()
}

/// Warnings about values that the rule requires and that stand in its `list` of those that are never the session.
pub fn refused(values: &[Spanned<String>], list: &str, refusing: &[Box<dyn Pattern>]) -> Vec<ConfigFault> {
    let is_refused = |value: &&Spanned<String>| {
        refusing.iter().any(|pattern| pattern.is_match(value.get_ref().as_bytes()))
    };
    let refused = values.iter().filter(is_refused).map(|value| {
        let message = format!(
            "{} is never the session, because it is in the list {list}: write that list as {list}_only, without it",
            quoted(value.get_ref())
        );
        warning(value.span(), message)
    });
    refused.collect()
}

/// Warnings about globs that hold a NUL, which ends every string of the kernel.
pub fn with_nul(field: Option<&Spanned<OneOrMore>>) -> Vec<ConfigFault> {
    let values = field.map(OneOrMore::placed).unwrap_or_default();
    let with_nul = values.into_iter().filter(|value| value.get_ref().contains('\0')).map(|value| {
        let message = format!(
            "{} matches nothing, because a NUL ends an argument: match one argument",
            quoted(value.get_ref())
        );
        warning(value.span(), message)
    });
    with_nul.collect()
}

/// Warnings about globs that match no program, whose name has at least one byte and no NUL.
pub fn never_programs(field: Option<&Spanned<OneOrMore>>) -> Vec<ConfigFault> {
    let values = field.map(OneOrMore::placed).unwrap_or_default();
    let is_never = |value: &&Spanned<String>| value.get_ref().is_empty() || value.get_ref().contains('\0');
    let never = values.iter().filter(is_never).map(|value| {
        let message = format!(
            "{} matches no program, because each has a name, without NUL: write that name",
            quoted(value.get_ref())
        );
        warning(value.span(), message)
    });
    never.collect()
}

/// The warning about a rule for a pane of processes that have no terminal.
pub fn pane_without_tty(
    mux_socket: Option<&Spanned<OneOrMore>>,
    tty: Option<&Spanned<OneOrMore>>,
) -> Option<ConfigFault> {
    let is_none = |tty: &&Spanned<OneOrMore>| OneOrMore::placed(tty).iter().any(|it| it.get_ref() == "none");
    let (mux_socket, _) = mux_socket.zip(tty.filter(is_none))?;
    let message =
        "mux_socket matches nothing with tty = \"none\", because a pane is a terminal: leave one out";
    Some(warning(mux_socket.span(), message.into()))
}

/// The warning about owners of directories in other mount namespaces.
pub fn owner_elsewhere(mnt_ns: Option<&Spanned<String>>) -> Option<ConfigFault> {
    let mnt_ns = mnt_ns.filter(|mnt_ns| mnt_ns.get_ref() == "any")?;
    let message = "with owner = true, users have no session in other mount namespaces, because owners of directories \
                   are read in the host's own only: write \"host\", or leave owner out";
    Some(warning(mnt_ns.span(), message.into()))
}

/// The warning about a group that nobody is in.
pub fn without_members(group: &str, span: Range<usize>) -> ConfigFault {
    let message = format!(
        "group {} has no members, so it admits nobody: add some, and have the rules read again \
         (`systemctl reload observer`)",
        quoted(group)
    );
    warning(span, message)
}

/// The warning about users of whom none is in the groups that are required, too.
pub fn users_outside_groups(conditions: &Conditions, span: Range<usize>) -> Option<ConfigFault> {
    let Conditions { uids, members, .. } = conditions;
    let members = members.as_ref().filter(|members| !members.is_empty())?;
    (!uids.iter().any(|uid| members.contains(uid))).then(|| {
        let message =
            "none of these users is a member of `group`, and both are required: add a member, or leave one out";
        warning(span, message.into())
    })
}

/// The warning about a field of which nothing is known, because the variables are not kept that tell it.
pub fn unknown_panes(env: &[String], mux_socket: Option<&Spanned<OneOrMore>>) -> Option<ConfigFault> {
    let mux_socket =
        mux_socket.filter(|_| !MUX_VARIABLES.iter().any(|name| env.iter().any(|it| it == name)))?;
    let message = "mux_socket matches nothing, because `env` of [daemon] keeps neither TMUX nor STY: add TMUX, \
                   TMUX_PANE, STY and WINDOW";
    Some(warning(mux_socket.span(), message.into()))
}
