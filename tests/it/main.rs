//! Tests on real parts: sshd, SoftHSM, journald, gpgv, sqv. They run as root inside `tests/inside.sh`, where nothing they do stays.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, missing_docs, unreachable_pub)]

mod admin;
mod audit;
mod chain;
mod config;
mod docs;
mod killed;
mod ledger;
mod load;
mod packagers;
mod refuses;
mod sandbox;
mod separation;
mod signs;
mod sshd;
mod token;
mod world;
