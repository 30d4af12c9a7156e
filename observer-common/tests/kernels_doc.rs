//! The part of docs/kernels.md that lists what observer uses of a kernel is generated from the list itself.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use observer_common::hooks::{Argument, CONSTANTS, FIXED, HOOKS, Hook, Point, Without};
use observer_common::offsets::{CType, KernelMember, MEMBERS, OPTIONAL};

const BEGIN: &str =
    "<!-- written by `OBSERVER_WRITE_DOCS=1 cargo test -p observer-common --test kernels_doc`: from here -->";
const END: &str = "<!-- what is used: to here -->";

fn ctype(ctype: CType) -> String {
    match ctype {
        CType::Int(1) => "integer of 1 byte".into(),
        CType::Int(bytes) => format!("integer of {bytes} bytes"),
        CType::Ptr("") => "pointer".into(),
        CType::Ptr(name) => format!("`struct {name} *`"),
        CType::Struct(name) => format!("`struct {name}`"),
        CType::Text(bytes) => format!("`char[{bytes}]`"),
        CType::TextFrom(bytes) => format!("`char[{bytes}]` or longer"),
        CType::PtrsFrom(count, name) => format!("`struct {name} *[{count}]` or longer"),
        CType::Structs(name) => format!("`struct {name}[]`"),
    }
}

fn hook(hook: &Hook) -> String {
    let point = match hook.point {
        Point::Tracepoint(name) => format!("tracepoint `{name}`"),
        Point::Function(name) => format!("function `{name}`"),
        Point::Entry(name) => format!("entry of the function `{name}`"),
        Point::Syscall(name) => format!("function `__x64_sys_{name}`, on aarch64 `__arm64_sys_{name}`"),
        Point::Compat(name) => format!("function `{name}`, if there is one"),
        Point::Iterator(name) => format!("iterator `{name}`"),
    };
    let take = |take: &Argument| match *take {
        Argument::At(index, of) => format!("{index}: {}", ctype(of)),
        Argument::MayBeAt(index, of) => format!("{index}, where there is one: {}", ctype(of)),
        Argument::EitherAt(index, one, other) => format!("{index}: {} or {}", ctype(one), ctype(other)),
        Argument::Found(of) => format!("at an index that is looked up: {}", ctype(of)),
        Argument::ReturnedAfter(count) => format!("what it returns, after {count}"),
    };
    let takes: Vec<_> = hook.arguments.iter().map(take).collect();
    let without = match hook.without {
        Without::Refused => "observer does not start",
        Without::Fallback => "exits of system calls report it",
        Without::Blind if hook.fact.is_read_again() => "read again when asked: a blind spot",
        Without::Blind => "not known: a blind spot",
    };
    let takes = if takes.is_empty() { "none".into() } else { takes.join("; ") };
    format!("| {} | {point} | {takes} | {without} |\n", hook.fact.name())
}

fn members(of: &str) -> String {
    let member = |kernel_member: &KernelMember| {
        let names: Vec<_> = kernel_member.names.iter().map(|name| format!("`{name}`")).collect();
        format!("{} ({})", names.join(" or "), ctype(kernel_member.ctype))
    };
    let members: Vec<_> = MEMBERS.iter().filter(|kernel_member| kernel_member.of == of).map(member).collect();
    format!("| `{of}` | {} |\n", members.join(", "))
}

/// The section as it should be.
fn section() -> String {
    let mut text = String::from("| fact | hook | arguments taken | without it |\n|---|---|---|---|\n");
    text.extend(HOOKS.iter().map(hook));
    text.push_str("\n| struct | members |\n|---|---|\n");
    let mut structs: Vec<_> = MEMBERS.iter().map(|kernel_member| kernel_member.of).collect();
    structs.dedup();
    text.extend(structs.iter().map(|of| members(of)));
    text.push_str("\nMembers that observer can do without:");
    for KernelMember { of, names, ctype: expected, .. } in OPTIONAL {
        let _ = write!(text, " `{of}.{}` ({});", names.join("` or `"), ctype(*expected));
    }
    text.pop();
    text.push_str(".\n\nCompiled in, and compared with BTF at start:");
    for fixed in FIXED {
        let _ = write!(text, " `{}.{}` at byte {};", fixed.of, fixed.member, fixed.offset);
    }
    let constants: Vec<_> =
        CONSTANTS.iter().map(|(_, name, value)| format!(" `{name}` is {value}")).collect();
    text.push_str(&constants.join(";"));
    text.push_str(".\n");
    text
}

#[test]
fn the_kernels_page_says_what_the_list_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kernels.md");
    let page = fs::read_to_string(&file).expect("read docs/kernels.md");
    let (before, rest) = page.split_once(BEGIN).expect("docs/kernels.md has the mark where the list begins");
    let (found, after) = rest.split_once(END).expect("docs/kernels.md has the mark where the list ends");
    let expected = format!("\n\n{}\n", section());
    if std::env::var_os("OBSERVER_WRITE_DOCS").is_some() {
        fs::write(&file, format!("{before}{BEGIN}{expected}{END}{after}")).expect("write docs/kernels.md");
        return;
    }
    assert!(
        found == expected,
        "docs/kernels.md is not what observer-common/src/{{hooks,offsets}}.rs say: run `OBSERVER_WRITE_DOCS=1 cargo test \
         -p observer-common --test kernels_doc` to write it"
    );
}

#[test]
fn members_of_one_struct_stand_together() {
    let mut structs: Vec<_> = MEMBERS.iter().map(|kernel_member| kernel_member.of).collect();
    structs.dedup();
    let count = structs.len();
    structs.sort_unstable();
    structs.dedup();
    assert_eq!(structs.len(), count, "a struct's row would be written twice");
}
