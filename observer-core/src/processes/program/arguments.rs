//! Reads the arguments of an interpreter up to what it runs.

use crate::input::Block;
use crate::processes::program::language::{Language, Operand, Takes};

/// The arguments were not read, or are cut, before the one that was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut;

/// The arguments of a process, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arguments<'a> {
    rest: &'a [u8],
    /// There are more than `rest` holds.
    truncated: bool,
}

impl<'a> Arguments<'a> {
    /// Returns the arguments of `block`. Without one, every argument is cut.
    pub fn new(block: Option<Block<'a>>) -> Self {
        block.map_or(Self { rest: &[], truncated: true }, |block| Self {
            rest: block.bytes,
            truncated: block.truncated,
        })
    }

    /// Returns the next argument, or `None` after the last one.
    pub fn next(&mut self) -> Result<Option<&'a [u8]>, Cut> {
        match self.rest.iter().position(|&byte| byte == 0) {
            Some(end) => {
                let word = self.rest.get(..end);
                self.rest = self.rest.get(end + 1..).unwrap_or_default();
                Ok(word)
            }
            None if self.truncated => Err(Cut),
            None => Ok(Some(core::mem::take(&mut self.rest)).filter(|word| !word.is_empty())),
        }
    }
}

/// What an interpreter runs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Interpreted<'a> {
    /// A script, by its path.
    Script(&'a [u8]),
    /// A module, by its name.
    Module(&'a [u8]),
    /// A class, by its full name.
    Class(&'a [u8]),
    /// Code in an argument or from standard input, or a command of the interpreter.
    Nothing,
}

/// What follows an option.
enum After<'a> {
    /// Further options, or an argument that is none.
    Arguments,
    /// Nothing that matters: the option says what is run.
    Runs(Interpreted<'a>),
}

/// Returns what an interpreter of `language` runs. `arguments` begin behind its own name.
pub(super) fn interpreted<'a>(
    language: &Language,
    arguments: &mut Arguments<'a>,
) -> Result<Interpreted<'a>, Cut> {
    let mut options = true;
    let mut commanded = false;
    while let Some(word) = arguments.next()? {
        match word {
            // A process that wrote a title over its arguments leaves empty ones.
            b"" => return Ok(Interpreted::Nothing),
            b"-" if !language.is_shell => return Ok(Interpreted::Nothing),
            b"-" | b"--" if options => {
                options = false;
                continue;
            }
            [b'-', ..] if options => match option(language, word, arguments)? {
                After::Arguments => continue,
                After::Runs(interpreted) => return Ok(interpreted),
            },
            [b'+', _, ..] if options && language.is_shell => {
                cluster(language, word, arguments)?;
                continue;
            }
            _ => {}
        }
        match language.operand {
            Operand::Script => return Ok(Interpreted::Script(word)),
            // An argument file may hold any options.
            Operand::Class if word.starts_with(b"@") => return Err(Cut),
            Operand::Class if word.ends_with(b".java") => return Ok(Interpreted::Script(word)),
            Operand::Class => return Ok(Interpreted::Class(word)),
            Operand::Command(run) if !commanded && run.iter().any(|it| it.as_bytes() == word) => {
                commanded = true;
            }
            Operand::Command(_) if word.iter().any(|byte| b"./:".contains(byte)) => {
                return Ok(Interpreted::Script(word));
            }
            Operand::Command(_) => return Ok(Interpreted::Nothing),
        }
    }
    Ok(Interpreted::Nothing)
}

/// Reads one option and its value.
fn option<'a>(language: &Language, word: &'a [u8], arguments: &mut Arguments<'a>) -> Result<After<'a>, Cut> {
    let equals = word.iter().position(|&byte| byte == b'=').filter(|_| word.starts_with(b"--"));
    let (name, value) = match equals {
        Some(at) => (word.get(..at).unwrap_or(word), word.get(at + 1..)),
        None => (word, None),
    };
    match language.word(name) {
        Some(takes) => take(takes, value, arguments),
        None if word.starts_with(b"--") || language.letters.is_empty() => Ok(After::Arguments),
        None => cluster(language, word, arguments),
    }
}

/// Reads a word of options of one letter each, such as `-euo`.
fn cluster<'a>(language: &Language, word: &'a [u8], arguments: &mut Arguments<'a>) -> Result<After<'a>, Cut> {
    let mut rest = word.get(1..).unwrap_or_default();
    let mut values = 0_usize;
    while let Some((&letter, behind)) = rest.split_first() {
        rest = behind;
        match language.letter(letter) {
            None => {}
            Some(Takes::Next) => values += 1,
            Some(Takes::Rest) => break,
            Some(Takes::RestAfterColon) if rest.starts_with(b":") => break,
            Some(Takes::RestAfterColon) => {}
            Some(Takes::Digits) => {
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                rest = rest.get(digits..).unwrap_or_default();
            }
            Some(takes) => return take(takes, Some(rest).filter(|rest| !rest.is_empty()), arguments),
        }
    }
    for _ in 0..values {
        arguments.next()?;
    }
    Ok(After::Arguments)
}

/// Takes the value of an option: `attached`, or the next argument.
fn take<'a>(
    takes: Takes,
    attached: Option<&'a [u8]>,
    arguments: &mut Arguments<'a>,
) -> Result<After<'a>, Cut> {
    let mut value = || match attached {
        Some(value) => Ok(Some(value)),
        None => arguments.next(),
    };
    let of = |value: Option<&'a [u8]>, kind: fn(&'a [u8]) -> Interpreted<'a>| {
        After::Runs(value.map_or(Interpreted::Nothing, kind))
    };
    Ok(match takes {
        Takes::Value | Takes::Next => {
            value()?;
            After::Arguments
        }
        Takes::Code => After::Runs(Interpreted::Nothing),
        Takes::Script => of(value()?, Interpreted::Script),
        Takes::Module => of(value()?, Interpreted::Module),
        Takes::Rest | Takes::RestAfterColon | Takes::Digits => After::Arguments,
    })
}
