//! The program of a process: what a person would call it.
//!
//! An interpreter is named by the script that it runs (`node /usr/local/bin/gemini` is `gemini`), everything
//! else by the file that was executed. A name is always a part of the executable's path, of the name given to
//! exec, or of the arguments, so that nothing is invented. Where the arguments were not read, or were cut before
//! the script, the program of an interpreter is not known.

mod arguments;
mod language;
mod name;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use crate::input::Block;

use self::arguments::{Arguments, Cut, Interpreted, interpreted};
use self::language::{Language, language_of};

/// Executables that are called by the names of many programs.
const MULTICALL: [&str; 9] =
    ["bun", "busybox", "coreutils", "gawk", "kmod", "mawk", "systemctl", "toybox", "vim"];

/// Returns the program of a process, or `None` where it is not known.
///
/// `exe` is the path of the executable, `filename` the name given to the exec if that was observed, `argv` the
/// arguments if they were read. The work is linear in their lengths. comm has no part in it: a process may set
/// it, and Node sets it to the name of a thread.
pub(crate) fn program_name<'a>(
    exe: Option<&'a [u8]>,
    filename: Option<&'a [u8]>,
    argv: Option<Block<'a>>,
) -> Option<&'a [u8]> {
    // These names lead to an open file, whose own path is the executable's.
    let filename = filename.filter(|name| !name::is_descriptor(name) && !name::is_in_procfs(name));
    let image = exe.map(name::without_deleted).filter(|exe| *exe != b"/").or(filename)?;
    if let Some(memfd) = image.strip_prefix(b"/memfd:") {
        return Some(memfd).filter(|memfd| !memfd.is_empty());
    }
    let mut arguments = Arguments::new(argv);
    let zeroth = arguments.next().ok().flatten();
    let called = Called { image, filename, zeroth };
    let base = name::base(image)?;
    if matches!(base, b"busybox" | b"toybox") {
        return of_multicall(&called, arguments);
    }
    match language_of(base) {
        // It runs a package, not a script.
        Some(_) if called.name() == Some(b"bunx") => Some(b"bunx"),
        Some(language) => of_interpreter(&called, language, arguments),
        None => called.name(),
    }
}

/// The program that the first line of most scripts names.
pub(crate) const ENV: &[u8] = b"env";

/// Returns whether `program`, as [`program_name`] gave it for `exe`, is a script that a shell runs.
pub(crate) fn is_shell_script(exe: &[u8], program: &[u8]) -> bool {
    let language = name::base(name::without_deleted(exe)).and_then(language_of);
    language.is_some_and(|language| language.is_shell) && language_of(program).is_none()
}

/// Returns whether arguments may decide what the program of the executable `exe` is called.
pub(crate) fn is_named_by_arguments(exe: &[u8]) -> bool {
    let Some(base) = name::base(name::without_deleted(exe)) else { return true };
    let stem = base.split(|&byte| byte == b'.').next().unwrap_or(base);
    language_of(base).is_some() || MULTICALL.iter().any(|it| it.as_bytes() == stem) || name::has_parts(base)
}

/// Returns the names that the executable `exe` may be called by, whatever its arguments are, where no exec of it was observed.
/// `None`: any name.
pub(crate) fn possible_names(exe: &[u8]) -> Option<Vec<&[u8]>> {
    let image = name::without_deleted(exe);
    if let Some(memfd) = image.strip_prefix(b"/memfd:") {
        return Some(Vec::from([memfd]));
    }
    let base = name::base(image)?;
    let stem = base.split(|&byte| byte == b'.').next().unwrap_or(base);
    if language_of(base).is_some() || MULTICALL.iter().any(|it| it.as_bytes() == stem) {
        return None;
    }
    let mut names = name::parts(base)?;
    names.extend(name::executable(image));
    Some(names)
}

/// Returns whether `exe` is env(1), which becomes the program that its arguments name.
pub(crate) fn is_env(exe: &[u8]) -> bool {
    name::base(name::without_deleted(exe)) == Some(ENV)
}

/// Returns the program of an executable that holds many: that of its applet.
fn of_multicall<'a>(called: &Called<'a>, mut arguments: Arguments<'a>) -> Option<&'a [u8]> {
    let mut applet = called.name()?;
    if name::base(called.image) == Some(applet) {
        match arguments.next() {
            Ok(Some(word)) if !word.starts_with(b"-") => applet = name::base(word)?,
            Ok(_) => return Some(applet),
            Err(Cut) => return None,
        }
    }
    match language_of(applet) {
        Some(language) => match interpreted(language, &mut arguments) {
            Ok(Interpreted::Script(path)) => name::script(path, language).or(Some(applet)),
            Ok(_) => Some(applet),
            Err(Cut) => None,
        },
        None => Some(applet),
    }
}

/// Returns the program of an interpreter: that of the script, module or class that it runs, or its own name
/// where it runs none.
fn of_interpreter<'a>(
    called: &Called<'a>,
    language: &'static Language,
    mut arguments: Arguments<'a>,
) -> Option<&'a [u8]> {
    let found = match interpreted(language, &mut arguments) {
        Ok(Interpreted::Script(path)) => name::script(path, language),
        Ok(Interpreted::Module(module)) => name::module(module),
        Ok(Interpreted::Class(class)) => name::class(class),
        Ok(Interpreted::Nothing) => None,
        // The kernel may have been given the script itself.
        Err(Cut) => {
            let script = called.filename.filter(|path| name::base(path).and_then(language_of).is_none());
            return name::script(script?, language);
        }
    };
    if found.is_some() {
        return found;
    }
    match called.title(language) {
        Some(title) => name::title(title),
        None => called.name(),
    }
}

/// How a program was called.
struct Called<'a> {
    /// Path of the executable.
    image: &'a [u8],
    filename: Option<&'a [u8]>,
    /// The first argument, which is the program's name by convention only.
    zeroth: Option<&'a [u8]>,
}

impl<'a> Called<'a> {
    /// Returns the name of the executed file: as given to exec, or as argv has it where the executable's path
    /// confirms that, or that of the executable.
    fn name(&self) -> Option<&'a [u8]> {
        let given = self.filename.and_then(name::base).filter(|base| !name::is_version(base));
        let given = given.or_else(|| self.confirmed());
        given.map(name::unwrapped).or_else(|| name::executable(self.image))
    }

    /// Returns the name in argv, if the executable's path shows that it is a name of that executable.
    fn confirmed(&self) -> Option<&'a [u8]> {
        let zeroth = self.zeroth?;
        let zeroth = name::base(zeroth.strip_prefix(b"-").unwrap_or(zeroth))?;
        let base = name::base(self.image)?;
        // Debian's vim is vim.basic, vim.tiny or vim.nox.
        let stem = base.split(|&byte| byte == b'.').next().unwrap_or(base);
        let is_confirmed = name::is_part(zeroth, base)
            || MULTICALL.iter().any(|it| it.as_bytes() == stem)
            || language_of(zeroth)
                .is_some_and(|it| language_of(base).is_some_and(|own| core::ptr::eq(it, own)));
        (name::is_plain(zeroth) && is_confirmed).then_some(zeroth)
    }

    /// Returns the title that the process wrote over its arguments, if it seems to have done so: the first one
    /// does not name the interpreter. The script's name is lost then.
    fn title(&self, language: &'static Language) -> Option<&'a [u8]> {
        let zeroth = self.zeroth.filter(|zeroth| !zeroth.is_empty() && !zeroth.starts_with(b"-"))?;
        let names_itself = name::base(zeroth)
            .is_some_and(|base| language_of(base).is_some() || name::base(self.image) == Some(base));
        (!language.is_shell && self.filename.is_none() && !names_itself).then_some(zeroth)
    }
}
