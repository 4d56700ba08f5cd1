//! A tar: however it is cut into pieces, the same names and sizes or the same fault; each file as long as its size says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sigsh::hasher::tar::{MAX_NAME, Tar};
use sigsh::hasher::{Fault, Source};

struct Pieces<'a>(&'a [u8], usize);

impl Source for Pieces<'_> {
    fn look(&mut self) -> Result<&[u8], Fault> {
        Ok(self.0.get(..self.1).unwrap_or(self.0))
    }

    fn take(&mut self, bytes: usize) {
        self.0 = &self.0[bytes..];
    }
}

/// More than this no file may have here: a hole may be of any size.
const LIMIT: u64 = 1 << 20;

/// A name, a size, and a sum of the content that depends on order.
type Found = (Vec<u8>, u64, u64);

/// All files, and what ended it.
fn read(tar: &mut Tar, bytes: &[u8], piece: usize) -> (Vec<Found>, Result<(), Fault>) {
    let (mut source, mut found) = (Pieces(bytes, piece), Vec::new());
    loop {
        let (mut size, mut sum) = (0, 0u64);
        let step = tar.next(&mut source).and_then(|more| {
            tar.content(&mut source, |piece| {
                size += piece.len() as u64;
                sum = piece.iter().fold(sum, |sum, byte| sum.rotate_left(7) ^ u64::from(*byte));
                if size > LIMIT { Err(Fault::Overlong) } else { Ok(()) }
            })?;
            Ok(more)
        });
        match step {
            Ok(true) => {
                let name = tar.name();
                assert_eq!(size, tar.size());
                assert!(!name.is_empty() && name.len() <= MAX_NAME && !name.starts_with(b"/") && !name.ends_with(b"/"));
                assert!(!name.contains(&0) && name.split(|byte| *byte == b'/').all(|part| part != b".."));
                found.push((name.to_vec(), size, sum));
            }
            Ok(false) => {
                assert!(source.0.is_empty());
                return (found, Ok(()));
            }
            Err(fault) => return (found, Err(fault)),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    // Mutations would never find the sum of a header: it is put right where there looks to be one.
    let mut bytes = rest.to_vec();
    if first & 1 == 1 {
        for block in bytes.chunks_exact_mut(512) {
            let sum = block.iter().map(|byte| u32::from(*byte)).sum::<u32>();
            let own = block[148..156].iter().map(|byte| u32::from(*byte)).sum::<u32>();
            if block[154] == 0 && block[155] == b' ' {
                block[148..154].copy_from_slice(format!("{:06o}", sum - own + 256).as_bytes());
            }
        }
    }
    let whole = read(&mut Tar::new(), &bytes, usize::MAX);
    assert_eq!(read(&mut Tar::new(), &bytes, usize::from(*first) + 1), whole);
});
