//! Users in arguments and on screen, by the user database of this machine.

use nix::unistd::{Uid, User};

/// The user that the package's unit runs the daemon as.
const SERVICE_USER: &str = "observer";

/// The user of the service, where there is one.
pub fn of_service() -> Option<u32> {
    User::from_name(SERVICE_USER).ok().flatten().map(|user| user.uid.as_raw())
}

/// The user with name and number, as a part of a sentence.
pub fn named(uid: u32) -> String {
    let name = shown(uid);
    if name == uid.to_string() { format!("user {uid}") } else { format!("user {name} (uid {uid})") }
}

/// The user id that a name or a number stands for.
pub fn parse(typed: &str) -> Result<u32, String> {
    if let Ok(uid) = typed.parse() {
        return Ok(uid);
    }
    match User::from_name(typed) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err("there is no such user: give a name of `getent passwd`, or a number".into()),
        Err(error) => Err(format!("cannot look up the user ({error}): give its number")),
    }
}

/// The name of the user, or the number where there is no name.
pub fn shown(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_name_or_a_number() {
        assert_eq!((parse("root"), parse("0"), parse("4294967294")), (Ok(0), Ok(0), Ok(4_294_967_294)));
        assert_eq!((named(0), named(4_294_967_290)), ("user root (uid 0)".into(), "user 4294967290".into()));
        assert!(parse("no-such-user").is_err_and(|message| message.contains("getent")));
        assert_eq!((shown(0), shown(4_294_967_290)), ("root".into(), "4294967290".into()));
    }
}
