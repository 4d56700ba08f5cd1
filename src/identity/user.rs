//! The unix user that the process belongs to.

use crate::config::who::{UnixUser, account, passwd};
use crate::request::encode;
use nix::unistd::getuid;

/// The longest name in a record, in bytes after encoding.
const MAX_NAME: usize = 64;

/// The unix user that the process belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    id: u32,
    /// Its names in /etc/passwd.
    names: Vec<String>,
}

impl User {
    /// The real user of this process.
    pub(super) fn current() -> User {
        User::find(getuid().as_raw(), &passwd())
    }

    fn find(id: u32, passwd: &str) -> User {
        let ours = passwd.lines().filter_map(account).filter(|(_, uid)| *uid == id);
        // Of two lines with one name the first counts, as in getpwnam(3).
        let first =
            |name: &String| passwd.lines().filter_map(account).find(|(other, _)| other == name).is_some_and(|(_, uid)| uid == id);
        User { id, names: ours.map(|(name, _)| name).filter(first).collect() }
    }

    /// Whether it is this one.
    pub fn is(&self, user: &UnixUser) -> bool {
        match user {
            UnixUser::Name(name) => self.names.contains(name),
            UnixUser::Id(id) => self.id == *id,
        }
    }

    /// For a record: its first name, or its number.
    pub(super) fn name(&self) -> String {
        self.names.first().map_or_else(|| self.id.to_string(), |name| encode(name.as_bytes(), MAX_NAME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_the_first_line_of_its_name() {
        let passwd = "root:x:0:0::/:/bin/sh\nsigner:x:990:990::/:/bin/sh\nsigner:x:991:991::/:/bin/sh\nalias:x:991:991::/:/bin/sh\n\nbroken\n";
        let is = |id, user: &str| User::find(id, passwd).is(&UnixUser::try_from(user.to_owned()).unwrap());
        assert!(is(990, "signer") && is(990, "990") && is(991, "alias") && is(4711, "4711"));
        assert!(!is(991, "signer") && !is(990, "alias") && !is(990, "root") && !is(990, "991") && !is(0, "broken"));
        assert_eq!((User::find(991, passwd).name(), User::find(5, passwd).name()), ("alias".to_owned(), "5".to_owned()));
    }
}
