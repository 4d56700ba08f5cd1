//! sigsh: runs one session.

use sigsh::session::{self, Processes};
use sigsh::{hasher, token};

fn main() {
    session::run(Processes { hasher: hasher::run, token: token::run })
}
