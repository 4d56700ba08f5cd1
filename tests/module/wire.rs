//! What `tests/hsm.rs` and `tests/module/remote.rs` say to each other: a number, how many pieces follow, and each with its length.

use std::io::{self, Read, Write};
use std::net::TcpStream;

pub(crate) const INITIALIZE: u64 = 1;
pub(crate) const FINALIZE: u64 = 2;
pub(crate) const SLOTS: u64 = 3;
pub(crate) const TOKEN: u64 = 4;
pub(crate) const OPEN: u64 = 5;
pub(crate) const CLOSE: u64 = 6;
pub(crate) const LOGIN: u64 = 7;
pub(crate) const FIND_INIT: u64 = 8;
pub(crate) const FIND: u64 = 9;
pub(crate) const FIND_FINAL: u64 = 10;
pub(crate) const ATTRIBUTE: u64 = 11;
pub(crate) const SIGN_INIT: u64 = 12;
pub(crate) const SIGN: u64 = 13;
pub(crate) const GENERATE: u64 = 14;

pub(crate) fn write(connection: &mut TcpStream, head: u64, pieces: &[&[u8]]) -> io::Result<()> {
    let mut message = [head, pieces.len() as u64].map(u64::to_ne_bytes).concat();
    for piece in pieces {
        message.extend((piece.len() as u64).to_ne_bytes());
        message.extend(*piece);
    }
    connection.write_all(&message)
}

pub(crate) fn read(connection: &mut TcpStream) -> io::Result<(u64, Vec<Vec<u8>>)> {
    let mut next = |length: u64| {
        let mut piece = vec![0; length as usize];
        connection.read_exact(&mut piece).map(|()| piece)
    };
    let (head, count) = (number(&next(8)?), number(&next(8)?));
    let pieces = (0..count).map(|_| next(8).and_then(|length| next(number(&length)))).collect::<io::Result<_>>()?;
    Ok((head, pieces))
}

pub(crate) fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_ne_bytes)
}
