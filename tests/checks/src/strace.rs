//! Lines of `strace -f -y -e trace=%file`: which paths a call names.

/// The paths that one line names, absolute where the call was relative to a directory that strace shows.
///
/// Only a call's own arguments count, not what it returns: `-y` shows the descriptor that opening
/// `/proc/self/maps` gives as `/proc/PID/maps`.
pub(crate) fn paths(line: &str) -> Vec<String> {
    let Some((call, arguments)) = call(line) else { return Vec::new() };
    // Some calls take strings that are not paths after one that is (argv, a link's content coming back).
    let most = match call {
        "getcwd" => 0,
        "rename" | "renameat" | "renameat2" | "link" | "linkat" | "symlink" | "symlinkat" | "pivot_root" => 2,
        _ => 1,
    };
    let mut found = Vec::new();
    let mut directory = None;
    // What is mounted (`none`, `tracefs`, a device) is no path that is opened; where it is mounted is.
    let mut rest = match call {
        "mount" => arguments.split_once(", ").map_or("", |(_, rest)| rest),
        _ => arguments,
    };
    while found.len() < most {
        let Some(at) = rest.find(['"', '<']) else { break };
        let Some(after) = rest.get(at + 1..) else { break };
        if rest.get(at..).is_some_and(|rest| rest.starts_with('<')) {
            let Some(end) = after.find('>') else { break };
            directory = after.get(..end);
            rest = after.get(end + 1..).unwrap_or_default();
        } else {
            let (path, len) = unquote(after);
            // An empty path means the descriptor itself, which was opened by a path of its own.
            if !path.is_empty() {
                found.push(absolute(directory, path));
            } else if directory.is_some() {
                break;
            }
            rest = after.get(len..).unwrap_or_default();
        }
    }
    found
}

fn absolute(directory: Option<&str>, path: String) -> String {
    match directory {
        Some(directory) if !path.starts_with('/') => format!("{}/{path}", directory.trim_end_matches('/')),
        _ => path,
    }
}

/// Name and arguments of the call that a line begins; the line that ends an interrupted call begins none.
fn call(line: &str) -> Option<(&str, &str)> {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    let (name, arguments) = rest.split_once('(')?;
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some((name, arguments))
}

/// The string up to the closing quote, unescaped, and its length as written, quote included.
fn unquote(text: &str) -> (String, usize) {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'"' => break,
            b'\\' => {
                let digits = rest.iter().take(3).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
                let (escape, after) = rest.split_at_checked(digits.max(1)).unwrap_or((rest, &[]));
                rest = after;
                bytes.push(match escape {
                    [b'n'] => b'\n',
                    [b't'] => b'\t',
                    [b'r'] => b'\r',
                    [b'v'] => 0x0b,
                    [b'f'] => 0x0c,
                    digits if digits.iter().all(|byte| (b'0'..=b'7').contains(byte)) => {
                        digits.iter().fold(0u8, |value, byte| value.wrapping_mul(8).wrapping_add(byte - b'0'))
                    }
                    [other, ..] => *other,
                    [] => b'\\',
                });
            }
            other => bytes.push(other),
        }
    }
    (String::from_utf8_lossy(&bytes).into_owned(), text.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_its_arguments_and_not_its_result() {
        let line = r#"77 openat(AT_FDCWD</w>, "/proc/self/maps", O_RDONLY|O_CLOEXEC) = 3</proc/77/maps>"#;
        assert_eq!(paths(line), ["/proc/self/maps"]);
        assert_eq!(paths(r#"77 readlink("/proc/self/exe", "/usr/bin/x", 4096) = 10"#), ["/proc/self/exe"]);
        assert_eq!(paths(r#"77 execve("/bin/sh", ["sh", "-c", "/x"], 0x7f /* 3 vars */) = 0"#), ["/bin/sh"]);
        assert_eq!(
            paths(r#"77 mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, NULL) = 0"#),
            ["/sys/kernel/tracing"]
        );
        assert_eq!(paths(r#"77 getcwd("/w", 512) = 3"#), [""; 0]);
    }

    #[test]
    fn a_relative_path_is_joined_to_its_directory() {
        assert_eq!(
            paths(r#"77 openat(5</proc>, "4242/cwd", O_PATH) = -1 ENOENT (No such file)"#),
            ["/proc/4242/cwd"]
        );
        assert_eq!(paths(r#"77 stat("4242/cwd", {st_mode=S_IFDIR}) = 0"#), ["4242/cwd"]);
        let line = r#"77 renameat2(AT_FDCWD</a>, "b", 3</c>, "d", RENAME_EXCHANGE) = 0"#;
        assert_eq!(paths(line), ["/a/b", "/c/d"]);
    }

    #[test]
    fn a_descriptor_alone_names_nothing() {
        assert!(
            paths(r#"77 newfstatat(3</proc/1/cwd>, "", {st_mode=S_IFREG|0644, ...}, AT_EMPTY_PATH) = 0"#)
                .is_empty()
        );
    }

    #[test]
    fn interrupted_calls_count_once_and_other_lines_never() {
        assert_eq!(
            paths(r#"77 openat(AT_FDCWD</>, "/etc/passwd", O_RDONLY <unfinished ...>"#),
            ["/etc/passwd"]
        );
        assert!(paths(r#"77 <... readlink resumed>"/usr/bin/x", 4096) = 10"#).is_empty());
        assert!(paths("77 +++ exited with 0 +++").is_empty());
    }

    #[test]
    fn escapes_come_back_as_bytes() {
        assert_eq!(paths(r#"7 stat("/a\"b\\c\n\33x", 0x7f) = 0"#), ["/a\"b\\c\n\u{1b}x"]);
    }
}
