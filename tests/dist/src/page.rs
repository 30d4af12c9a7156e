//! observer.toml(5), from the comments of `packaging/observer.toml`.

use std::fmt::Write as _;

/// One block of the file: lines of prose, and the line below them that could be used.
#[derive(Debug, Default, PartialEq, Eq)]
struct Block<'a> {
    prose: Vec<&'a str>,
    setting: Option<&'a str>,
}

/// The blocks: prose begins with "# ", what could be used with "#" alone.
fn blocks(toml: &str) -> Vec<Block<'_>> {
    let (mut blocks, mut block) = (Vec::new(), Block::default());
    for line in toml.lines().chain([""]) {
        match line.strip_prefix('#') {
            Some(prose) if prose.is_empty() || prose.starts_with(' ') => block.prose.push(prose.trim_end()),
            Some(setting) => block.setting = Some(setting),
            None if block != Block::default() => blocks.push(std::mem::take(&mut block)),
            None => {}
        }
    }
    blocks
}

/// The page in roff.
pub(crate) fn page(toml: &str, version: &str, day: &str) -> String {
    let mut page = format!(
        ".TH observer.toml 5 \"{}\" \"observer {}\"\n.SH NAME\nobserver.toml \\- the configuration of observer(1)\n.SH \
         SYNOPSIS\n.I /etc/observer/observer.toml\n",
        escaped(day),
        escaped(version)
    );
    page.push_str(".SH DESCRIPTION\n");
    for block in blocks(toml) {
        match block.setting {
            Some(section) if section.starts_with('[') => {
                let _ = writeln!(page, ".SH \"{}\"", escaped(section).to_uppercase());
                prose(&mut page, &block.prose);
            }
            Some(setting) => {
                let _ = write!(page, ".TP\n.B {}\n", text(setting));
                prose(&mut page, &block.prose);
            }
            None => prose(&mut page, &block.prose),
        }
    }
    page.push_str(".SH SEE ALSO\n.BR observer (1),\n.BR observer\\-run (1),\n.BR observer\\-rules (1)\n");
    page
}

/// Writes paragraphs. A line that is indented, as a command is, stays a line of its own.
fn prose(page: &mut String, lines: &[&str]) {
    for line in lines {
        let line = line.strip_prefix(' ').unwrap_or(line);
        match line.split_once(":   ") {
            Some((what, command)) => {
                let _ = write!(page, ".PP\n{}:\n.br\n.B {}\n", text(what), text(command.trim()));
            }
            None if line.is_empty() => page.push_str(".PP\n"),
            None => {
                page.push_str(&text(line));
                page.push('\n');
            }
        }
    }
}

/// The text of a line that begins with no request.
fn text(line: &str) -> String {
    let escaped = escaped(line);
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq").replace('"', "\\(dq")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = "# What it is.\n#\n# Check it:   observer check\n\n# A section.\n#[daemon]\n\n# A key,\n# \
                        \"explained\".\n#max-age = '90d'\n";

    #[test]
    fn each_section_and_each_key_is_explained() {
        let page = page(TOML, "0.1.0", "2026-11-29");
        let expected = ".SH DESCRIPTION\nWhat it is.\n.PP\n.PP\nCheck it:\n.br\n.B observer check\n.SH \"[DAEMON]\"\nA \
                        section.\n.TP\n.B max\\-age = \\(aq90d\\(aq\nA key,\n\\(dqexplained\\(dq.\n.SH SEE ALSO\n";
        assert!(page.contains(expected), "{page}");
        assert!(page.starts_with(".TH observer.toml 5 \"2026\\-11\\-29\" \"observer 0.1.0\"\n"), "{page}");
    }

    #[test]
    fn a_line_does_not_become_a_request() {
        assert_eq!(text(".so /etc/passwd"), "\\&.so /etc/passwd");
    }
}
