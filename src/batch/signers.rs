//! The token processes of a batch: one for each token, or several where it bears as many sessions at once.

use crate::channel::Channel;
use crate::config::values::Name;
use crate::config::{self, Config, Input};
use crate::failure::Failure;
use crate::limits::LimitError;
use crate::openpgp::{Public, Scheme};
use crate::output;
use crate::policy::Grant;
use crate::state::State;
use crate::token::queue::Queue;
use crate::token::{Setup, Token, TokenError};
use nix::errno::Errno;
use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

/// How many token processes a session has at most, but for one for each token.
const MAX_PROCESSES: u64 = 8;

/// How many signatures a process may owe. It begins with one in work and one that waits: nobody is asked for what a client that has gone
/// meanwhile, or is revoked, does not get any more. A process that was idle while others waited may owe twice as many, if it is quick.
pub(super) const DEPTHS: [usize; 2] = [2, 64];

/// In what time a quick process has made all that it owed.
const QUICK: Duration = Duration::from_secs(1);

/// A token process to be.
pub struct Plan<'a> {
    name: &'a Name,
    token: &'a config::Token,
    /// The grant's keys that are in it.
    keys: Vec<usize>,
    queue: Option<Queue>,
    /// Whether it is the first of its token, and waits for its turn.
    first: bool,
}

impl Plan<'_> {
    /// Which processes a grant needs. A single artifact needs one, and so does a token that does not say how many sessions it bears.
    ///
    /// # Errors
    /// [`LimitError::State`].
    pub fn of<'a>(config: &'a Config, grant: &Grant<'a>, state: &State) -> Result<Vec<Plan<'a>>, LimitError> {
        let mut plans: Vec<Plan<'a>> = Vec::new();
        let tokens = grant.keys.iter().map(|granted| config.token_name(granted.key)).collect::<BTreeSet<_>>().len() as u64;
        let most = (MAX_PROCESSES / tokens).max(1);
        for (index, granted) in grant.keys.iter().enumerate() {
            let name = config.token_name(granted.key);
            let mut known = plans.iter_mut().filter(|plan| plan.name == name).peekable();
            if known.peek().is_some() {
                known.for_each(|plan| plan.keys.push(index));
                continue;
            }
            let sessions = if grant.input == Input::Artifact { 1 } else { granted.token.sessions().unwrap_or(1).min(most) };
            for number in 0..sessions {
                let queue = Queue::open(state, name, granted.token)?;
                plans.push(Plan { name, token: granted.token, keys: vec![index], queue, first: number == 0 });
            }
        }
        // All take their turns in one order: nobody keeps one token while waiting for another that keeps the other.
        plans.sort_by(|one, other| one.name.cmp(other.name));
        Ok(plans)
    }

    /// Forks the process, which loads its module at once.
    ///
    /// # Errors
    /// What `fork(2)` says.
    pub fn fork(
        self,
        grant: &Grant<'_>,
        state: &Path,
        mac_file: Option<&Path>,
        run: fn(Channel, Setup<'_>),
    ) -> Result<Signer, Errno> {
        let keys = self.keys.iter().filter_map(|index| grant.keys.get(*index)).map(|granted| &granted.key.uri).collect::<Vec<_>>();
        let setup = Setup { name: self.name, token: self.token, keys: &keys, state, mac_file };
        let token = Token::fork(setup, self.queue, run)?;
        let [depth, _] = DEPTHS;
        let (asked, since) = (VecDeque::new(), Instant::now());
        Ok(Signer { token, keys: self.keys, first: self.first, asked, since, depth, held_back: false })
    }
}

/// A token process, and what it has been asked for.
pub struct Signer {
    /// The process.
    pub token: Token,
    keys: Vec<usize>,
    first: bool,
    asked: VecDeque<u64>,
    /// Since when it owes anything, without a pause.
    since: Instant,
    depth: usize,
    held_back: bool,
}

impl Signer {
    /// Takes the turn at its token. Only the first of a token waits for it; the others are done without.
    ///
    /// # Errors
    /// What [`Token::take_turn`] says.
    pub fn take_turn(&mut self) -> Result<bool, Failure> {
        if self.first { self.token.take_turn(output::has_reader).map(|()| true) } else { Ok(self.token.try_turn()?) }
    }

    /// Has it log in: the public halves of its keys, with their places in the grant.
    ///
    /// # Errors
    /// Any [`TokenError`].
    pub fn open(&mut self) -> Result<Vec<(usize, Option<Public>)>, TokenError> {
        Ok(self.keys.iter().copied().zip(self.token.open()?).collect())
    }

    /// How busy it is, if it has this key and may be asked for one more.
    pub fn room(&mut self, key: usize) -> Option<usize> {
        if !self.keys.contains(&key) {
            return None;
        }
        if self.asked.is_empty() && std::mem::take(&mut self.held_back) && self.since.elapsed() < QUICK {
            let [_, deepest] = DEPTHS;
            self.depth = self.depth.saturating_mul(2).min(deepest);
        }
        let busy = self.asked.len();
        self.held_back |= busy >= self.depth;
        (busy < self.depth).then_some(busy)
    }

    /// Asks it for a signature.
    ///
    /// # Errors
    /// Any [`TokenError`].
    pub fn ask(&mut self, number: u64, key: usize, scheme: Scheme, data: Vec<u8>) -> Result<(), TokenError> {
        let index = self.keys.iter().position(|own| *own == key).and_then(|index| index.try_into().ok()).unwrap_or(u8::MAX);
        if self.asked.is_empty() {
            self.since = Instant::now();
        }
        self.asked.push_back(number);
        self.token.sign(index, scheme, data)
    }

    /// The signature that it is to make next.
    pub fn next(&self) -> Option<u64> {
        self.asked.front().copied()
    }

    /// Takes it, if it is there.
    ///
    /// # Errors
    /// Any [`TokenError`].
    pub fn look(&mut self) -> Result<Option<Vec<u8>>, TokenError> {
        let signature = self.token.look()?;
        if signature.is_some() {
            self.asked.pop_front();
        }
        Ok(signature)
    }
}
