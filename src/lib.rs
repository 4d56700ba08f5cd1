//! sigsh, a login shell that only signs.
//!
//! ```text
//! sshd ─▶ monitor  sees neither artifact bytes nor secrets: it decides and records
//!           ├─ hasher   sees the bytes, has no secrets
//!           └─ token    has the secrets, never sees a byte of the artifact
//! ```
//!
//! The modules, in the order in which a session passes through them: [`session`] tells the story; [`request`] is what is asked,
//! [`identity`] who asks, [`config`] what the operator has written, [`policy`] whether it may be, [`warrant`] who vouches for it where a
//! key demands that. [`batch`] is the rest:
//! [`hasher`] turns bytes into a [`hash_state`], [`openpgp`] puts the trailer on it, [`token`] has it signed, [`openpgp`] checks
//! the result, [`audit`] records it, [`output`] lets it go, as a [`response`] where a state was sent. [`failure`] translates
//! whatever goes wrong. Beneath: [`process`] and [`channel`] between the three, [`sandbox`] around each, [`trusted`] for the
//! files that all rests on, [`state`] for what sessions share, [`limits`] for how much of anything they get.

pub mod audit;
pub mod batch;
pub mod channel;
pub mod config;
pub mod failure;
pub mod hash_state;
pub mod hasher;
pub mod identity;
pub mod limits;
pub mod openpgp;
pub mod output;
pub mod policy;
pub mod process;
pub mod request;
pub mod response;
pub mod sandbox;
pub mod session;
pub mod state;
pub mod sys;
pub mod tar;
pub mod token;
pub mod trusted;
pub mod warrant;
