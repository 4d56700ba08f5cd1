//! Reading and passing on, without keeping anything.

use super::header::Header;
use super::{Fault, Source};

/// What holes are made of.
pub(super) static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Behind the first block of zeros: another, and nothing but zeros, or a second archive would stay unsigned.
pub(super) fn end(source: &mut impl Source) -> Result<(), Fault> {
    if Header::read(source)?.is_some() {
        return Err(Fault::TarTrailing);
    }
    loop {
        let bytes = source.look()?;
        let length = bytes.len();
        match ZEROS.get(..length) {
            Some([]) => return Ok(()),
            Some(zeros) if zeros == bytes => source.take(length),
            Some(_) => return Err(Fault::TarTrailing),
            None if bytes.iter().all(|byte| *byte == 0) => source.take(length),
            None => return Err(Fault::TarTrailing),
        }
    }
}

/// Hands on so many bytes as they come.
pub(super) fn pass(source: &mut impl Source, mut left: u64, mut give: impl FnMut(&[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
    while left > 0 {
        let bytes = source.look()?;
        let piece = bytes.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(bytes);
        if piece.is_empty() {
            return Err(Fault::TarCut);
        }
        give(piece)?;
        let length = piece.len();
        source.take(length);
        left = left.saturating_sub(length as u64);
    }
    Ok(())
}

pub(super) fn zeros(mut left: u64, mut give: impl FnMut(&[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
    while left > 0 {
        let piece = ZEROS.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(&ZEROS);
        give(piece)?;
        left = left.saturating_sub(piece.len() as u64);
    }
    Ok(())
}

/// Reads so many bytes.
pub(super) fn fill(source: &mut impl Source, mut room: &mut [u8]) -> Result<(), Fault> {
    pass(source, room.len() as u64, |piece| {
        // Writing to a slice never fails.
        let _ = std::io::Write::write(&mut room, piece);
        Ok(())
    })
}
