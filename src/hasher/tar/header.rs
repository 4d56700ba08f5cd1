//! A header block: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar's manual, "Basic Tar Format".

use super::read::fill;
use super::{Fault, Source};

/// Everything in a tar comes in blocks of so many bytes.
pub(super) const BLOCK: usize = 512;

/// The greatest size that eleven octal digits can say.
const MOST_IN_OCTAL: u64 = 0o777_7777_7777;

/// Who laid the header out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    V7,
    Ustar,
    Gnu,
}

/// A header whose sum is right.
pub(super) struct Header {
    pub(super) block: [u8; BLOCK],
    pub(super) format: Format,
}

impl Header {
    /// The next block. None if it is all zeros.
    pub(super) fn read(source: &mut impl Source) -> Result<Option<Header>, Fault> {
        let mut block = [0; BLOCK];
        fill(source, &mut block)?;
        if block == [0; BLOCK] {
            return Ok(None);
        }
        let mut header = Header { block, format: Format::V7 };
        if !header.is_sum_right() {
            return Err(Fault::TarHeader);
        }
        header.format = match header.bytes(257, 8) {
            b"ustar  \0" => Format::Gnu,
            [b'u', b's', b't', b'a', b'r', 0, ..] => Format::Ustar,
            // libarchive takes it for ustar, GNU tar for v7: the name would have a prefix, or none.
            [b'u', b's', b't', b'a', b'r', ..] => return Err(Fault::TarAmbiguous),
            _ => Format::V7,
        };
        Ok(Some(header))
    }

    /// So many bytes of it.
    pub(super) fn bytes(&self, start: usize, length: usize) -> &[u8] {
        self.block.get(start..start.saturating_add(length)).unwrap_or_default()
    }

    /// The first byte of a field.
    pub(super) fn byte(&self, at: usize) -> u8 {
        self.block.get(at).copied().unwrap_or_default()
    }

    pub(super) fn kind(&self) -> u8 {
        self.byte(156)
    }

    /// What the header says, and the part of the name that goes before it with a slash, or nothing.
    pub(super) fn name(&self) -> (&[u8], &[u8]) {
        let prefix = if self.format == Format::Ustar { self.bytes(345, 155) } else { b"" };
        (text(prefix), text(self.bytes(0, 100)))
    }

    pub(super) fn has_link(&self) -> bool {
        self.byte(157) != 0
    }

    /// Whether it says anything that libarchive takes for a sparse file's, whatever kind of entry it is.
    pub(super) fn is_sparse(&self) -> bool {
        self.format == Format::Gnu && (self.byte(386) != 0 || self.byte(482) != 0 || self.byte(483) != 0)
    }

    /// Whether an extended header can make it a sparse file: GNU tar goes by the format, of which it knows one more.
    pub(super) fn is_posix(&self) -> bool {
        let is_time = |at, end| matches!(self.byte(at), b'0'..=b'7') && self.byte(end) == b' ';
        let is_star = self.byte(475) == 0 && is_time(476, 487) && is_time(488, 499);
        self.format == Format::Ustar && !is_star
    }

    /// Whether libarchive takes what begins with it for a tar. By the name it may take it for something compressed or encoded, and
    /// where a number is bad for another kind of archive; and unpack what is in there.
    pub(super) fn begins_tar(&self) -> bool {
        let is_number = |at, length| {
            let field = self.bytes(at, length);
            let mut rest = field.iter().skip_while(|byte| **byte == b' ').skip_while(|byte| matches!(byte, b'0'..=b'7'));
            matches!(field, [0 | 0x80 | 0xff, ..]) || rest.all(|byte| matches!(byte, 0 | b' '))
        };
        let numbers = [(100, 8), (108, 8), (116, 8), (136, 12), (329, 8), (337, 8)];
        let is_compressed = match &self.block {
            [0x1f, 0x8b | 0x9d, ..]
            | [b'B', b'Z', b'h', _, b'1', b'A', ..]
            | [b'B', b'Z', b'h', _, 0x17, ..]
            | [0xfd, b'7', b'z', ..]
            | [0x89, b'L', b'Z', ..] => true,
            [b'L', b'Z', b'I', b'P', 0 | 1, 1..=255, ..]
            | [b'L', b'R', b'Z', b'I', 0, 1..=255, ..]
            | [b'G', b'R', b'Z', b'i', b'p', ..] => true,
            [_, 0x21 | 0x22, 0x4c | 0x4d, 0x18, ..] | [_, 0x2a, 0x4d, 0x18, ..] => true,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0xed, 0xab, 0xee, 0xdb, ..] => true,
            // The size of lzma's dictionary, which needs bytes behind the name's end.
            [_, 0, rest @ ..] => rest.iter().take(3).any(|byte| *byte != 0),
            block => block.windows(10).any(|text| match text {
                [b'b', b'e', b'g', b'i', b'n', b' ', mode @ .., b' '] => mode.iter().all(u8::is_ascii_digit),
                text => text == b"begin-base",
            }),
        };
        !is_compressed && numbers.into_iter().all(|(at, length)| is_number(at, length))
    }

    /// How many bytes are stored, where an extended header may have said so, too.
    pub(super) fn size(&self, said: Option<u64>) -> Result<u64, Fault> {
        let field = self.bytes(124, 12);
        match said {
            None => number(field),
            // What tars write that have no room: GNU tar nothing, Python zero, others the most there is room for.
            Some(said) if said > MOST_IN_OCTAL && field.iter().all(|byte| *byte == 0) => Ok(said),
            Some(said) => match number(field)? {
                size if size == said => Ok(said),
                0 | MOST_IN_OCTAL if said > MOST_IN_OCTAL => Ok(said),
                // Who does not know extended headers goes on elsewhere.
                _ => Err(Fault::TarAmbiguous),
            },
        }
    }

    /// The sum of all bytes, its own being blanks. Some old tars took them for signed ones.
    fn is_sum_right(&self) -> bool {
        let Ok(said) = number(self.bytes(148, 8)) else { return false };
        let own = self.bytes(148, 8);
        let blanks = 8 * u64::from(b' ');
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        let unsigned = u64::from(sum(&self.block) - sum(own)) + blanks;
        let high = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(byte >> 7)).sum::<u32>();
        let signed = unsigned.checked_sub(256 * u64::from(high(&self.block) - high(own)));
        said == unsigned || Some(said) == signed
    }
}

/// How much there is between data of such a length and the next header.
pub(super) fn padding(length: u64) -> u64 {
    let block = BLOCK as u64;
    (block - length % block) % block
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number in octal digits, or GNU's in binary, as all programs read it: they do not agree on fields that have nothing, or more.
pub(super) fn number(field: &[u8]) -> Result<u64, Fault> {
    let value = match field {
        [0x80, 0, 0, 0, value @ ..] => value.try_into().ok().map(u64::from_be_bytes),
        _ => octal(field),
    };
    value.filter(|value| i64::try_from(*value).is_ok()).ok_or(Fault::TarHeader)
}

fn octal(field: &[u8]) -> Option<u64> {
    let blanks = field.iter().take_while(|byte| **byte == b' ').count();
    let mut bytes = field.iter().skip(blanks);
    let mut value: Option<u64> = None;
    for byte in bytes.by_ref() {
        match byte {
            b'0'..=b'7' => value = Some(value.unwrap_or_default().checked_mul(8)? + u64::from(byte - b'0')),
            0 | b' ' => break,
            _ => return None,
        }
    }
    value.filter(|_| bytes.all(|byte| matches!(byte, 0 | b' ')))
}
