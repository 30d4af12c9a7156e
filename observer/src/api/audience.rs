//! Who reads JSON: that decides which arguments of processes it has. A program that is given a secret as an argument overwrites
//! it, so that no other user finds it; what the exec was given has it all the same.

use observer_core::process::Argv;

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Root, to whom nothing is hidden.
    Root,
    /// A user without privilege.
    User(u32),
    /// Whoever comes to read it.
    Anyone,
}

impl Audience {
    /// The user with this id.
    pub const fn of_user(uid: u32) -> Self {
        if uid == 0 { Self::Root } else { Self::User(uid) }
    }

    /// Whether it sees all arguments of programs that this user executed.
    pub fn sees_arguments_of(self, uid: u32) -> bool {
        match self {
            Self::Root => true,
            Self::User(reader) => reader == uid,
            Self::Anyone => false,
        }
    }

    /// Whether it sees all of these arguments, and not only the first.
    pub fn sees(self, argv: &Argv) -> bool {
        !argv.has_more_than_name() || self.sees_arguments_of(argv.uid)
    }
}

/// Whose user sees all arguments of a process; `None`: everyone does, because there are none beside the first.
pub fn sees_all(argv: Option<&Argv>) -> Option<u32> {
    argv.filter(|argv| argv.has_more_than_name()).map(|argv| argv.uid)
}

#[cfg(test)]
mod tests {
    use observer_core::process::ArgvSource;

    use super::*;

    #[test]
    fn root_and_who_executed_the_program_see_its_arguments() {
        let argv = |bytes: &[u8]| Argv {
            bytes: bytes.into(),
            truncated: false,
            source: ArgvSource::Exec,
            uid: 1000,
        };
        let all = [Audience::of_user(0), Audience::of_user(1000), Audience::of_user(1001), Audience::Anyone];
        let secret = argv(b"mysql\0-phunter2\0");
        assert_eq!(all.map(|audience| audience.sees(&secret)), [true, true, false, false]);
        assert_eq!(sees_all(Some(&secret)), Some(1000));
        for bytes in [&b"mysql\0"[..], b"mysql", b"\0", b""] {
            assert!(all.iter().all(|audience| audience.sees(&argv(bytes))), "{bytes:?}");
            assert_eq!(sees_all(Some(&argv(bytes))), None, "{bytes:?}");
        }
    }
}
