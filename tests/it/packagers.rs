//! Packagers' own tools, unmodified: each finds the front end in its PATH, signs, and what it made is judged by the verifier its users
//! have. Where the signature is refused, the tool fails, and what it leaves is what stands in its test.

mod apt;
mod arch;
mod debian;
mod direct;
mod door;
mod fixture;
mod front;
mod git;
mod gpgme;
mod ostree;
mod parallel;
mod rpm;
