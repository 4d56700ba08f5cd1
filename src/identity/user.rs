//! The unix user that the process belongs to.

use crate::config::who::UnixUser;
use crate::request::encode;
use crate::trusted;
use nix::unistd::getuid;
use std::path::Path;

/// The longest /etc/passwd in bytes.
const MAX_PASSWD: u64 = 4 << 20;

/// The longest name in a record, in bytes after encoding.
const MAX_NAME: usize = 64;

/// The unix user that the process belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    id: u32,
    /// Its names in /etc/passwd. No name service is asked: that would load libraries and open sockets.
    names: Vec<String>,
}

impl User {
    /// The real user of this process.
    pub(super) fn current() -> User {
        let passwd = trusted::read(Path::new("/etc/passwd"), MAX_PASSWD).unwrap_or_default();
        User::find(getuid().as_raw(), &String::from_utf8_lossy(&passwd))
    }

    /// The user id of this one.
    pub(crate) fn id_of(user: &UnixUser) -> Option<u32> {
        match user {
            UnixUser::Id(id) => Some(*id),
            UnixUser::Name(name) => {
                let passwd = trusted::read(Path::new("/etc/passwd"), MAX_PASSWD).ok()?;
                String::from_utf8_lossy(&passwd).lines().filter_map(words).find(|(other, _)| other == name).map(|(_, id)| id)
            }
        }
    }

    fn find(id: u32, passwd: &str) -> User {
        let ours = passwd.lines().filter_map(words).filter(|(_, uid)| *uid == id);
        // Of two lines with one name the first counts, as in getpwnam(3).
        let first =
            |name: &String| passwd.lines().filter_map(words).find(|(other, _)| other == name).is_some_and(|(_, uid)| uid == id);
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

/// Name and user id in a line of /etc/passwd.
fn words(line: &str) -> Option<(String, u32)> {
    let mut words = line.split(':');
    Some((words.next()?.to_owned(), words.nth(1)?.parse().ok()?))
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
