//! Archives changed by chance.

use super::*;

#[test]
fn changed_archives_are_refused_or_read_to_the_end() {
    let mut seed = 1u64;
    let mut next = |below: usize| {
        // Knuth's MMIX generator: a failure repeats.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    const PARTS: [&[u8]; 12] =
        [b"\0", b"\xff", b"\x80", b" ", b"\n", b"0", b"7", b"9", b"x", b"S", b"77777777777", b"GNU.sparse.size="];
    let good = parts();
    let mut tar = Tar::new();
    let before = room(&tar);
    let (mut whole, mut faults) = (0, std::collections::BTreeMap::<_, u32>::new());
    for _ in 0..20_000 {
        let parts = (0..1 + next(3)).map(|_| good[next(good.len())].clone()).collect::<Vec<_>>();
        let mut bytes = archive(&parts);
        let headers = (0..bytes.len() / BLOCK - 2).map(|block| block * BLOCK).filter(|at| bytes[at + 156] != 0);
        let headers = headers.collect::<Vec<_>>();
        if headers.is_empty() {
            continue;
        }
        for _ in 0..1 + next(3) {
            let (part, header) = (PARTS[next(PARTS.len())], headers[next(headers.len())]);
            // Fields of a header, or its data.
            let reach = BLOCK + BLOCK * next(2);
            let at = header + next(reach);
            bytes[at..][..part.len()].copy_from_slice(part);
            if next(10) > 0 {
                let block = summed(bytes[header..][..BLOCK].to_vec());
                bytes[header..][..BLOCK].copy_from_slice(&block);
            }
        }
        if next(20) == 0 {
            let (from, to) = (headers[next(headers.len())], headers[next(headers.len())]);
            bytes.copy_within(from..from + BLOCK, to);
        }
        tar.padding = None;
        // `walk` compares each file's size with what comes.
        match walk(&mut tar, &mut Pieces { rest: &bytes, piece: 1 + next(2000), come: 0 }, 1 << 20).1 {
            Ok(()) => whole += 1,
            Err(fault) => *faults.entry(fault.to_string()).or_default() += 1,
        }
        assert_eq!(room(&tar), before, "it was reallocated");
    }
    assert!(whole > 1000 && faults.len() > 7, "{whole} {faults:?}");
}
