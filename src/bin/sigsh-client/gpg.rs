//! The gpg front end: which call of gpg is ours, and what gpg would answer.
//!
//! [`call`] says what a command line asks, by [`words`] and [`options`]; [`spec`] whose key it means; [`listing`] and [`status`]
//! write what gpg would write, [`facts`] being what a certificate has to say. Nothing here reads or writes a file.

pub(crate) mod call;
pub(crate) mod facts;
#[cfg(test)]
mod home;
pub(crate) mod listing;
mod options;
pub(crate) mod spec;
pub(crate) mod status;
mod words;
