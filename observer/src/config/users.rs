//! The user database: which users a rule means, and how they are called.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::unistd::{Gid, Group, User};
use observer_core::rule::UserNames;

use super::resolve::within;
use crate::text::bytes::quoted;

/// How long the user database may take to list its users.
pub const USERS_WAIT_MAX: Duration = Duration::from_secs(2);
/// Users that are listed. The names and primary groups of others are not known.
pub const USERS_MAX: usize = 65_536;

/// A user as the database lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: Vec<u8>,
    /// Its user id.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
}

/// The user database of this machine. Its users are listed when a rule needs that, and once.
#[derive(Debug, Default)]
pub struct UserDatabase {
    listed: OnceCell<Option<Vec<Account>>>,
    /// The users that were looked up one by one.
    looked_up: RefCell<BTreeMap<u32, Vec<u8>>>,
}

impl UserDatabase {
    /// A database that lists these users.
    #[cfg(test)]
    pub fn of(accounts: Vec<Account>) -> Self {
        Self { listed: OnceCell::from(Some(accounts)), ..Self::default() }
    }

    /// The id of the user that has this name, or this number.
    pub fn uid(&self, user: &str) -> Result<u32, String> {
        match User::from_name(user) {
            Ok(Some(known)) => {
                let uid = known.uid.as_raw();
                self.looked_up.borrow_mut().insert(uid, known.name.into_bytes());
                Ok(uid)
            }
            Ok(None) => user.parse().map_err(|_| {
                format!(
                    "there is no user {} on this machine: create it, correct the name, or write its number",
                    quoted(user)
                )
            }),
            Err(error) => {
                Err(format!("user {} cannot be looked up: {error}; write its number instead", quoted(user)))
            }
        }
    }

    /// The ids of the members of the group that has this name, or this number: whose primary group it is, and whom it
    /// lists.
    pub fn members(&self, group: &str) -> Result<Vec<u32>, String> {
        let failed = |error| {
            format!("group {} cannot be looked up: {error}; write the users instead (`user`)", quoted(group))
        };
        let unknown = |_| {
            format!(
                "there is no group {} on this machine: create it, correct the name, or write its number",
                quoted(group)
            )
        };
        let (gid, listed) = match Group::from_name(group).map_err(failed)? {
            Some(known) => (known.gid.as_raw(), known.mem),
            None => {
                let gid: u32 = group.parse().map_err(unknown)?;
                let known = Group::from_gid(Gid::from_raw(gid)).map_err(failed)?;
                (gid, known.map(|known| known.mem).unwrap_or_default())
            }
        };
        let accounts = self.accounts().unwrap_or_default();
        let mut members: Vec<u32> =
            accounts.iter().filter(|account| account.gid == gid).map(|account| account.uid).collect();
        // A group may list users who are gone.
        members.extend(listed.iter().filter_map(|name| self.uid_of_listed(name)));
        members.sort_unstable();
        members.dedup();
        Ok(members)
    }

    fn uid_of_listed(&self, name: &str) -> Option<u32> {
        let accounts = self.accounts().unwrap_or_default();
        let known = accounts.iter().find(|account| account.name == name.as_bytes());
        match known {
            Some(account) => Some(account.uid),
            None => User::from_name(name).ok().flatten().map(|user| {
                let uid = user.uid.as_raw();
                self.looked_up.borrow_mut().insert(uid, user.name.into_bytes());
                uid
            }),
        }
    }

    /// The names of the users that the database lists, and of those that were looked up.
    pub fn names(&self) -> Arc<UserNames> {
        let mut names = UserNames::new();
        // Of users with the same id, the first counts, as for getpwuid(3).
        for account in self.accounts().unwrap_or_default() {
            names.entry(account.uid).or_insert_with(|| account.name.as_slice().into());
        }
        for (&uid, name) in &*self.looked_up.borrow() {
            names.entry(uid).or_insert_with(|| name.as_slice().into());
        }
        Arc::new(names)
    }

    /// Whether the users were to be listed, and the database did not answer.
    pub fn is_silent(&self) -> bool {
        matches!(self.listed.get(), Some(None))
    }

    /// The users, in the order of the database; `None` if it does not answer in time.
    fn accounts(&self) -> Option<&[Account]> {
        self.listed.get_or_init(|| within(USERS_WAIT_MAX, list)).as_deref()
    }
}

/// Lists the users of this machine, at most [`USERS_MAX`].
fn list() -> Vec<Account> {
    /// getpwent(3) has one position for the whole process.
    static POSITION: Mutex<()> = Mutex::new(());
    let _position = POSITION.lock().unwrap_or_else(PoisonError::into_inner);
    let mut accounts = Vec::new();
    // SAFETY: nothing else in this program calls the functions of this family, and the lock is held.
    unsafe { libc::setpwent() };
    while accounts.len() < USERS_MAX {
        // SAFETY: as above.
        let entry = unsafe { libc::getpwent() };
        // SAFETY: it is null, or it points to an entry that stays until the next call.
        let Some(entry) = (unsafe { entry.as_ref() }) else { break };
        if entry.pw_name.is_null() {
            continue;
        }
        // SAFETY: the name of an entry is a string that ends with a NUL and stays as long as the entry.
        let name = unsafe { CStr::from_ptr(entry.pw_name) }.to_bytes().to_vec();
        accounts.push(Account { name, uid: entry.pw_uid, gid: entry.pw_gid });
    }
    // SAFETY: as above.
    unsafe { libc::endpwent() };
    accounts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, uid: u32, gid: u32) -> Account {
        Account { name: name.into(), uid, gid }
    }

    #[test]
    fn this_machine_lists_its_users() {
        let root = account("root", 0, 0);
        assert!(list().contains(&root));
        let users = UserDatabase::default();
        assert_eq!(users.members("root").map(|members| members.contains(&0)), Ok(true));
        assert_eq!(users.names().get(&0).map(|name| &**name), Some(b"root".as_slice()));
        assert!(!users.is_silent());
    }

    #[test]
    fn members_of_a_group_are_those_whose_primary_group_it_is() {
        const GID: &str = "4000000001";
        let accounts = vec![
            account("b", 12, 4_000_000_001),
            account("a", 11, 4_000_000_001),
            account("a2", 11, 4_000_000_001),
            account("c", 13, 4_000_000_002),
        ];
        let users = UserDatabase::of(accounts);
        assert_eq!(users.members(GID), Ok(vec![11, 12]));
        assert_eq!(users.members("4000000003"), Ok(Vec::new()));
        assert!(users.members("no-such-group-here").unwrap_err().starts_with("there is no group"));
        assert_eq!(users.names().get(&11).map(|name| &**name), Some(b"a".as_slice()), "the first one");
    }

    #[test]
    fn a_database_that_does_not_answer_leaves_what_was_looked_up() {
        let users = UserDatabase { listed: OnceCell::from(None), ..UserDatabase::default() };
        assert_eq!(users.uid("root"), Ok(0));
        assert!(users.is_silent());
        assert_eq!(users.names().len(), 1);
        assert_eq!(users.members("4000000001"), Ok(Vec::new()));
    }
}
