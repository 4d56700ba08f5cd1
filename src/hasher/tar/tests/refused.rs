//! What is refused, and by which name.

use super::*;

/// The fault, and the name that is known by then.
fn refusal(archive: &[u8]) -> (Fault, String) {
    let mut tar = Tar::new();
    let (_, end) = walk(&mut tar, &mut Pieces { rest: archive, piece: 4096, come: 0 }, u64::MAX);
    (end.expect_err(&archive.escape_ascii().to_string()), String::from_utf8_lossy(tar.name()).into_owned())
}

#[track_caller]
fn assert_refused(parts: &[Vec<u8>], fault: Fault, name: &str) {
    assert_eq!(refusal(&archive(parts)), (fault, name.to_owned()), "{}", parts.concat().escape_ascii());
}

#[test]
fn what_is_no_file() {
    let kinds = [(Fault::TarLink, &b"12"[..]), (Fault::TarDevice, b"346"), (Fault::TarKind, b"VMDNIXAE89z\x01\xff")];
    for (fault, kind) in kinds.into_iter().flat_map(|(fault, kinds)| kinds.iter().map(move |kind| (fault, *kind))) {
        for magic in [b"", USTAR, GNU] {
            assert_refused(&[file(b"good", b"1"), entry(b"d/bad", kind, magic, b"")], fault, "d/bad");
        }
        assert_refused(&[entry(b"@", b'L', GNU, b"long\0"), entry(b"bad", kind, GNU, b"")], fault, "long");
        assert_refused(&[pax(b'x', &[("path", b"long")]), entry(b"bad", kind, USTAR, b"")], fault, "long");
    }
    // Files that are said to lead elsewhere.
    let linked = [(157, &b"elsewhere"[..])];
    assert_refused(&[header(b"bad", b'0', 0, USTAR, &linked)], Fault::TarLink, "bad");
    assert_refused(&[entry(b"@", b'K', GNU, b"elsewhere\0"), file(b"bad", b"")], Fault::TarLink, "bad");
    assert_refused(&[pax(b'x', &[("linkpath", b"elsewhere")]), file(b"bad", b"")], Fault::TarLink, "bad");
    // A directory with data, which are the next entry to some.
    assert_refused(&[entry(b"bad", b'5', USTAR, b"data")], Fault::TarAmbiguous, "bad");
    assert_refused(&[entry(b"bad/", b'0', b"", b"data")], Fault::TarAmbiguous, "bad/");
    assert_refused(&[pax(b'x', &[("size", b"4")]), entry(b"bad", b'5', USTAR, b"")], Fault::TarAmbiguous, "bad");
}

#[test]
fn names_that_lead_elsewhere() {
    for name in ["/etc/passwd", "/", "..", "../a", "a/../b", "a/..", "./..", "a/", "a/.", ".", "./", "//"] {
        assert_refused(&[file(name.as_bytes(), b"")], Fault::TarName, name);
        assert_refused(&[entry(b"@", b'L', GNU, name.as_bytes()), entry(b"good", b'0', GNU, b"")], Fault::TarName, name);
        assert_refused(&[pax(b'x', &[("path", name.as_bytes())]), file(b"good", b"")], Fault::TarName, name);
    }
    // Directories, too, but they may end with a slash.
    for name in ["/", "/x", "..", "../", "../a", "a/../b/", "a/..", ""] {
        for magic in [USTAR, GNU] {
            assert_refused(&[entry(name.as_bytes(), b'5', magic, b"")], Fault::TarName, name);
        }
        assert_refused(&[pax(b'x', &[("path", name.as_bytes())]), entry(b"good", b'5', USTAR, b"")], Fault::TarName, name);
    }
    assert_refused(&[entry(b"../a/", b'0', b"", b"")], Fault::TarName, "../a/");
    assert_refused(&[entry(b"@", b'L', GNU, b"a\0b\0"), entry(b"good", b'5', GNU, b"")], Fault::TarName, "a\0b");
    assert_reads::<&[u8]>(&archive(&[".", "./", "a/", "a//", "./a/."].map(|name| entry(name.as_bytes(), b'5', USTAR, b""))), &[]);
    assert_refused(&[header(b"", b'0', 0, USTAR, &[(345, b"prefix")])], Fault::TarName, "prefix/");
    assert_refused(&[header(b"etc", b'0', 0, USTAR, &[(345, b"/")])], Fault::TarName, "//etc");
    assert_refused(&[file(b"", b"")], Fault::TarName, "");
    assert_refused(&[pax(b'x', &[("path", b"")]), file(b"good", b"")], Fault::TarName, "");
    assert_refused(&[entry(b"@", b'L', GNU, b""), file(b"good", b"")], Fault::TarName, "");
    assert_refused(&[entry(b"@", b'L', GNU, b"a\0b\0"), file(b"good", b"")], Fault::TarName, "a\0b");
    assert_refused(&[entry(b"@", b'L', GNU, b"a\0\0"), file(b"good", b"")], Fault::TarName, "a\0");
    assert_refused(&[pax(b'x', &[("path", b"a\0")]), file(b"good", b"")], Fault::TarName, "a\0");
    let (longest, longer) = ([b'n'; MAX_NAME], [b'n'; MAX_NAME + 1]);
    for (name, is_good) in [(&longest[..], true), (&longer, false)] {
        for parts in [[entry(b"@", b'L', GNU, name), file(b"a", b"")], [pax(b'x', &[("path", name)]), file(b"a", b"")]] {
            match is_good {
                true => assert_reads(&archive(&parts), &[(name, b"")]),
                false => assert_refused(&parts, Fault::TarName, ""),
            }
        }
    }
    // These stay where they are.
    for name in ["...", "..a", "a../b", "./a", "a//b", "a/./b", "-rf", "a\\b", " ", "\n"] {
        assert_reads(&archive(&[file(name.as_bytes(), b"1")]), &[(name, b"1")]);
    }
}

#[test]
fn headers_that_are_broken() {
    for at in [0, 99, 130, 148, 156, 257, 344, 500, 511] {
        let mut bad = file(b"a", b"");
        bad[at] ^= 1;
        assert_refused(&[bad], Fault::TarHeader, "");
    }
    assert_refused(&[vec![b'x'; 20 * BLOCK]], Fault::TarHeader, "");
    assert_refused(&[b"\x1f\x8b\x08".to_vec(), vec![7; 600]], Fault::TarHeader, "");
    for size in [
        &b"\0\0\0\0\0\0\0\0\0\0\0\0"[..],
        b"            ",
        b"-0000000001\0",
        b"00000000008\0",
        b"0000 0000 0\0",
        b"00000000000\x01",
        b"0000000000a\0",
        b"0x000000000\0",
        b"\x80\0\0\0\x80\0\0\0\0\0\0\0",
        b"\x80\0\0\x01\0\0\0\0\0\0\0\0",
        b"\x81\0\0\0\0\0\0\0\0\0\0\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert_refused(&[header(b"a", b'0', 0, GNU, &[(124, size)])], Fault::TarHeader, "a");
        assert_refused(&[header(b"a", b'L', 0, GNU, &[(124, size)])], Fault::TarHeader, "");
    }
    for size in
        [&b"000000000003"[..], b"3           ", b"         3 \0", b"3\0\0\0\0\0\0\0\0\0\0\0", b"\x80\0\0\0\0\0\0\0\0\0\0\x03"]
    {
        assert_reads(&archive(&[header(b"a", b'0', 0, GNU, &[(124, size)]), padded(b"abc")]), &[("a", b"abc")]);
    }
    for magic in [&b"ustar"[..], b"ustar ", b"ustar  x", b"ustarx"] {
        // The one has the version's two bytes as zeros, and is none of these.
        let fault = (magic != b"ustar").then_some(Fault::TarAmbiguous);
        assert_eq!(read(&archive(&[entry(b"a", b'0', magic, b"")])).err(), fault, "{magic:?}");
    }
}

/// libarchive unpacks what it finds in there, which is another archive.
#[test]
fn what_begins_like_something_else() {
    for name in [
        &b"\x1f\x8b\x08\x04"[..],
        b"\x1f\x9d",
        b"BZh91AY&SY",
        b"\xfd7zXZ",
        b"\x89LZO",
        b"LZIP\x01\x0c",
        b"LRZI\0\x06",
        b"GRZipII",
        b"\x04\x22\x4d\x18",
        b"\x02\x21\x4c\x18",
        b"\x50\x2a\x4d\x18",
        b"\x28\xb5\x2f\xfd",
        b"\xed\xab\xee\xdb",
        b"]\0\0\x80\0",
        b"x\nbegin 644 a",
        b"begin-base64 644 a",
    ] {
        for kind in *b"0xg5" {
            assert_refused(&[entry(name, kind, USTAR, b""), file(b"a", b"")], Fault::TarAmbiguous, "");
        }
        let second = archive(&[file(b"a", b""), file(name, b"")]);
        assert_eq!(read(&second).map(|found| found.len()), Ok(2), "{name:?}");
    }
    for name in ["LZIP", "begin", "begin 2026", "begin to end", "BZh91", "]"] {
        assert_reads(&archive(&[file(name.as_bytes(), b"")]), &[(name, b"")]);
    }
    // ISO 9660 has its header in what are data here.
    for at in [100, 108, 116, 136, 329, 337] {
        assert_refused(&[header(b"a", b'0', 0, USTAR, &[(at, b"x")])], Fault::TarAmbiguous, "");
        for number in [&b"\xff\xff"[..], b"\0x", b"     7 \0"] {
            assert_reads(&archive(&[header(b"a", b'0', 0, USTAR, &[(at, number)])]), &[("a", b"")]);
        }
    }
}

#[test]
fn sizes_that_tell_of_two_files() {
    let long = |header: &[u8]| {
        let entry = super::header(b"a", b'0', 0, USTAR, &[(124, header)]);
        [pax(b'x', &[("size", b"8589934592")]), entry].concat()
    };
    for size in [&b"\0\0\0\0\0\0\0\0\0\0\0\0"[..], b"00000000000\0", b"77777777777\0", b"\x80\0\0\0\0\0\0\x02\0\0\0\0"] {
        assert_eq!(refusal(&long(size)), (Fault::TarCut, "a".to_owned()), "{size:?}");
    }
    assert_eq!(refusal(&long(b"00000000001\0")), (Fault::TarAmbiguous, "a".to_owned()));
    let short = |records: &[(&str, &[u8])]| [pax(b'x', records), file(b"a", b"abcd")];
    assert_reads(&archive(&short(&[("size", b"4")])), &[("a", b"abcd")]);
    for size in [&b"0"[..], b"3", b"5", b"8589934592"] {
        assert_refused(&short(&[("size", size)]), Fault::TarAmbiguous, "a");
    }
    for size in [&b""[..], b"-1", b"+4", b" 4", b"4 ", b"0x4", b"4a", b"9223372036854775808", b"99999999999999999999999"] {
        assert_refused(&short(&[("size", size)]), Fault::TarHeader, "");
    }
    assert_refused(&short(&[("size", b"4"), ("size", b"4")]), Fault::TarAmbiguous, "");
}

#[test]
fn extended_headers_that_are_not_plain() {
    let name = || pax(b'x', &[("path", b"b")]);
    let (long, link) = (|| entry(b"@", b'L', GNU, b"long\0"), || entry(b"@", b'K', GNU, b"long\0"));
    let global = || pax(b'g', &[("comment", b"c")]);
    for two in [
        [name(), name()],
        [name(), long()],
        [long(), name()],
        [long(), long()],
        [link(), link()],
        [link(), name()],
        [name(), link()],
        [name(), global()],
        [long(), global()],
    ] {
        assert_eq!(refusal(&archive(&[two.concat(), file(b"a", b"")])).0, Fault::TarAmbiguous);
    }
    for last in [name(), long(), link()] {
        assert_eq!(refusal(&archive(&[file(b"a", b""), last])).0, Fault::TarAmbiguous);
    }
    assert_reads::<&[u8]>(&archive(&[global(), global()]), &[]);
    let globals = |number| std::iter::repeat_with(global).take(number).collect::<Vec<_>>().concat();
    assert_reads(&archive(&[globals(16), file(b"a", b""), globals(15), name(), file(b"a", b"")]), &[("a", b""), ("b", b"")]);
    for last in [global(), name(), long(), link()] {
        assert_refused(&[globals(16), last, file(b"a", b"")], Fault::TarAmbiguous, "");
    }
    // A NUL, where libarchive once ended, and what it would not have seen.
    let (nul, path) = (("SCHILY.xattr.user.x", &b"a\0"[..]), ("path", &b"b"[..]));
    assert_reads(&archive(&[pax(b'x', &[path, nul, ("mtime", b"1")]), file(b"a", b"")]), &[("b", b"")]);
    for key in ["path", "linkpath", "size", "GNU.sparse.major"] {
        assert_refused(&[pax(b'x', &[nul, (key, b"1")]), file(b"a", b"1")], Fault::TarAmbiguous, "");
    }
    for key in ["path", "linkpath", "size", "GNU.sparse.map", "GNU.sparse.anything", "SCHILY.realsize"] {
        assert_refused(&[pax(b'g', &[("comment", b""), (key, b"1")]), file(b"a", b"")], Fault::TarAmbiguous, "");
    }
    for key in ["GNU.sparse.anything", "GNU.volume.size", "GNU.dumpdir", "SCHILY.realsize", "SCHILY.filetype", "SUN.holesdata"] {
        assert_refused(&[pax(b'x', &[(key, b"1")]), file(b"a", b"")], Fault::TarAmbiguous, "");
    }
    for twice in ["path", "linkpath"] {
        assert_refused(&[pax(b'x', &[(twice, b"1"), (twice, b"1")]), file(b"a", b"")], Fault::TarAmbiguous, "");
    }
    for records in [
        &b"x"[..],
        b"\n",
        b"10 note=b",
        b"11 note=b\n\0",
        b"8 note=b\n",
        b"12 note=b\n",
        b"11 note\0b=\n",
        b" 10 note=b\n",
        b"10  note=\n",
        b"10\tnote=b\n",
        b"11 \tnote=b\n",
        b"-1 note=b\n",
        b"0 note=b\n",
        b"7 note\n",
        b"6 =bb\n",
        b"99999999999999999999 note=b\n",
        b"10 note=b\n\0\0",
        b"10 note=b\n5 ",
    ] {
        for kind in *b"xg" {
            assert_refused(&[entry(b"p", kind, USTAR, records), file(b"a", b"")], Fault::TarHeader, "");
        }
    }
    assert_reads(&archive(&[entry(b"p", b'x', USTAR, b""), file(b"a", b"")]), &[("a", b"")]);
    assert_reads(&archive(&[entry(b"p", b'x', USTAR, b"011 path=b\n"), file(b"a", b"")]), &[("b", b"")]);
    for kind in *b"xgLK" {
        let large = entry(b"@", kind, GNU, &vec![b'1'; MAX_EXTENSION + 1]);
        assert_refused(&[large, file(b"a", b"")], Fault::TarLarge, "");
        assert_refused(&[header(b"@", kind, 0o7777777777, GNU, &[])], Fault::TarLarge, "");
    }
    let largest = MAX_EXTENSION - b"65536 comment=\n".len();
    assert_reads(&archive(&[pax(b'x', &[("comment", &vec![b'c'; largest])]), file(b"a", b"")]), &[("a", b"")]);
}

/// Sparse files of version 1.0, 0.1, 0.0, and GNU's old ones, of the same map.
fn sparse(size: u64, regions: &[(u64, u64)], stored: usize) -> Vec<Vec<u8>> {
    let data = vec![b'd'; stored];
    let (number, size_text) = (regions.len().to_string(), size.to_string());
    let numbers = regions.iter().flat_map(|(offset, length)| [offset.to_string(), length.to_string()]).collect::<Vec<_>>();
    let map = format!("{number}\n{}\n", numbers.join("\n"));
    let new = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"a"),
        ("GNU.sparse.realsize", size_text.as_bytes()),
    ];
    let old = [("GNU.sparse.size", size_text.as_bytes()), ("GNU.sparse.numblocks", number.as_bytes())];
    let list = numbers.join(",");
    let pairs =
        numbers.chunks(2).flat_map(|pair| [("GNU.sparse.offset", pair[0].as_bytes()), ("GNU.sparse.numbytes", pair[1].as_bytes())]);
    let mut table =
        regions.iter().map(|(offset, length)| format!("{offset:011o}\0{length:011o}\0").into_bytes()).collect::<Vec<_>>();
    let rest = table.split_off(table.len().min(4));
    let mut fields =
        vec![(386, table.concat()), (482, vec![u8::from(!rest.is_empty())]), (483, format!("{size:011o}\0").into_bytes())];
    fields.retain(|(_, field)| !field.is_empty());
    let fields = fields.iter().map(|(at, field)| (*at, &field[..])).collect::<Vec<_>>();
    let blocks = rest.chunks(21).enumerate().flat_map(|(at, entries)| {
        let mut block = padded(&entries.concat());
        block[504] = u8::from((at + 1) * 21 < rest.len());
        block
    });
    vec![
        [pax(b'x', &new), file(b"GNU/a", &[padded(map.as_bytes()), data.clone()].concat())].concat(),
        [pax(b'x', &[&old[..], &[("GNU.sparse.map", list.as_bytes())]].concat()), file(b"a", &data)].concat(),
        [pax(b'x', &old.into_iter().chain(pairs).collect::<Vec<_>>()), file(b"a", &data)].concat(),
        [header(b"a", b'S', stored, GNU, &fields), blocks.collect(), padded(&data)].concat(),
    ]
}

#[test]
fn maps_of_sparse_files() {
    let in_blocks = |bytes: &[u8]| bytes.iter().flat_map(|byte| [*byte; BLOCK]).collect::<Vec<_>>();
    for (size, regions, content) in [
        (0, &[(0, 0)][..], &b""[..]),
        (4, &[(4, 0)], b"\0\0\0\0"),
        (4, &[(0, 4)], b"dddd"),
        (3060, &[(512, 1024), (1536, 0), (1536, 512), (2560, 500)], &in_blocks(b"\0ddd\0d")[..3060]),
        (88 * 512, &(0..30).map(|n| (3 * n * 512, 512)).collect::<Vec<_>>(), &in_blocks(&b"d\0\0".repeat(30)[..88])),
    ] {
        let stored = content.iter().filter(|byte| **byte == b'd').count();
        for (version, part) in sparse(size, regions, stored).into_iter().enumerate() {
            let found = read(&archive(&[part])).unwrap_or_else(|fault| panic!("{version}: {size} {regions:?}: {fault}"));
            assert_eq!(found, [(b"a".to_vec(), size, sha512(content))], "{version}: {size} {regions:?}");
        }
    }
    let most = i64::MAX.cast_unsigned();
    for (size, regions, stored) in [
        (4, &[][..], 0),
        (4, &[], 4),
        (4, &[(0, 4)], 3),
        (4, &[(0, 3)], 4),
        // GNU tar makes a file of three bytes.
        (4, &[(0, 3)], 3),
        // It looks for the second in the next block.
        (6, &[(1, 2), (5, 1)], 3),
        (4, &[(1, 4)], 4),
        (4, &[(5, 0)], 0),
        (4, &[(2, 1), (0, 1)], 2),
        (4, &[(0, 2), (1, 1)], 3),
        (most, &[(most, most)], 0),
        (most, &[(0, most), (most, most)], 0),
    ] {
        for (version, part) in sparse(size, regions, stored).into_iter().enumerate() {
            // No number of these goes into a field of eleven octal digits.
            if version == 3 && size == most {
                continue;
            }
            let (fault, _) = refusal(&archive(&[part]));
            assert_eq!(fault, Fault::TarSparse, "{version}: {size} {regions:?} {stored}");
        }
    }
}

#[test]
fn ways_to_write_maps() {
    let new = |map: &[u8]| {
        let records = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"9")];
        [pax(b'x', &records), file(b"a", map)]
    };
    for map in [
        &b""[..],
        b"1\n0\n0\n",
        &padded(b"\n"),
        &padded(b"1\n0\n"),
        &padded(b"# c\n1\n0\n0\n"),
        &padded(b"1\r\n0\n0\n"),
        &padded(b" 1\n0\n0\n"),
        &padded(b"-1\n0\n0\n"),
        &padded(b"999999999999999999999\n"),
        &padded(&[b'0'; 600]),
    ] {
        assert_refused(&new(map), Fault::TarSparse, "a");
    }
    let many = |number: usize| padded((format!("{number}\n") + &"0\n0\n".repeat(number - 1) + "9\n0\n").as_bytes());
    assert!(read(&archive(&new(&many(65_536)))).is_ok());
    assert_refused(&new(&many(65_537)), Fault::TarLarge, "a");

    let (size, number, map) =
        (("GNU.sparse.size", &b"9"[..]), ("GNU.sparse.numblocks", &b"1"[..]), ("GNU.sparse.map", &b"0,4"[..]));
    let (offset, bytes) = (("GNU.sparse.offset", &b"0"[..]), ("GNU.sparse.numbytes", &b"4"[..]));
    let (major, minor, real) =
        (("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", &b"0"[..]), ("GNU.sparse.realsize", &b"9"[..]));
    for records in [
        &[("GNU.sparse.name", &b"b"[..])][..],
        &[size],
        &[number],
        &[size, number],
        &[number, map],
        &[size, ("GNU.sparse.numblocks", b"2"), map],
        &[size, number, map, ("GNU.sparse.major", b"0"), ("GNU.sparse.minor", b"1")],
        &[size, number, offset],
        &[size, number, bytes],
        &[size, number, bytes, offset],
        &[size, number, offset, bytes, map],
        &[size, number, ("GNU.sparse.map", b"0,4,")],
        &[size, number, ("GNU.sparse.map", b"0")],
        &[size, number, ("GNU.sparse.map", b"")],
        &[size, number, ("GNU.sparse.map", b"0, 4")],
        &[major, minor],
        &[major, real],
        &[minor, real],
        &[("GNU.sparse.major", b"2"), minor, real],
        &[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"1"), real],
        &[major, minor, real, number, map],
        &[major, minor, real, size],
    ] {
        assert_eq!(refusal(&archive(&[pax(b'x', records), file(b"a", b"dddd")])).0, Fault::TarSparse, "{records:?}");
    }
    for records in [
        &[size, offset, number, bytes][..],
        &[size, number, offset, offset],
        &[size, size, number, map],
        &[real, real],
        &[map],
        &[size, map],
        &[size, map, number],
        &[major, minor, real, map],
    ] {
        assert_eq!(refusal(&archive(&[pax(b'x', records), file(b"a", b"dddd")])).0, Fault::TarAmbiguous, "{records:?}");
    }

    // What an extended header says of holes goes for an entry of POSIX, and for files only.
    for version in 0..3 {
        let part = sparse(9, &[(1, 4), (9, 0)], 4).swap_remove(version);
        let at = part.len() - 2 * BLOCK - if version == 0 { BLOCK } else { 0 };
        let changed = |fields: &[(usize, &[u8])]| {
            let mut part = part.clone();
            fields.iter().for_each(|(field, bytes)| part[at + field..][..bytes.len()].copy_from_slice(bytes));
            let block = summed(part[at..][..BLOCK].to_vec());
            part[at..][..BLOCK].copy_from_slice(&block);
            archive(&[part])
        };
        let star = [(476, &b"00000000000 "[..]), (488, b"00000000000 ")];
        let plain = (475, &b"x"[..]);
        assert_eq!(read(&changed(&[])), Ok(vec![(b"a".to_vec(), 9, sha512(b"\0dddd\0\0\0\0"))]));
        assert!(read(&changed(&[star[0], star[1], plain])).is_ok());
        for fields in [&[(257, GNU)][..], &[(257, &[0; 8])], &star, &[(156, b"\0")], &[(156, b"7")], &[(156, b"S")]] {
            assert_eq!(refusal(&changed(fields)).0, Fault::TarAmbiguous, "{version} {fields:?}");
        }
    }

    let region = |at: usize| (at, &b"00000000000\x0000000000000\0"[..]);
    let (size, more) = ((483, &b"00000000009\0"[..]), (482, &b"\x01"[..]));
    for fields in [
        // A gap, what libarchive and GNU tar end at alone, a list that goes on behind its end, and no size.
        &[region(410), size][..],
        &[(398, &b"00000000000\0"[..]), size],
        &[(386, &b"00000000000\0"[..]), size],
        &[region(386), region(434), size],
        &[region(386), more, size],
        &[region(386)],
        &[region(386), (483, b"-0000000009\0")],
    ] {
        assert_refused(&[header(b"a", b'S', 0, GNU, fields)], Fault::TarSparse, "a");
    }
    // A map that only libarchive looks at, or only GNU tar.
    for field in [region(386), size, more] {
        assert_refused(&[header(b"a", b'0', 0, GNU, &[field])], Fault::TarAmbiguous, "a");
    }
    assert_refused(&[header(b"a", b'S', 0, USTAR, &[region(386), size])], Fault::TarAmbiguous, "a");
    assert_refused(&[pax(b'x', &[]), header(b"a", b'S', 0, GNU, &[region(386), size])], Fault::TarAmbiguous, "a");
}

#[test]
fn what_stands_behind_the_end() {
    let good = [file(b"a", b"1"), vec![0; 2 * BLOCK]].concat();
    for (rest, fault) in [
        (good.clone(), Fault::TarTrailing),
        (b"x".to_vec(), Fault::TarTrailing),
        ([&vec![0; 70_000][..], b"\x01"].concat(), Fault::TarTrailing),
    ] {
        assert_eq!(refusal(&[good.clone(), rest].concat()).0, fault);
    }
    // One block of zeros is no end.
    assert_eq!(refusal(&[&[0; BLOCK][..], &good].concat()).0, Fault::TarTrailing);
    assert_eq!(refusal(&[&[0; BLOCK][..], &[b'x'; BLOCK]].concat()).0, Fault::TarHeader);
    assert_eq!(refusal(&[0; BLOCK]).0, Fault::TarCut);
    assert_eq!(refusal(&file(b"a", b"1")).0, Fault::TarCut);
    assert_eq!(refusal(b"").0, Fault::TarCut);
    // At once and in pieces that are longer than our own zeros.
    let long = [good, vec![0; 300_000]].concat();
    assert!(read(&long).is_ok());
    assert_eq!(refusal(&[long, vec![1]].concat()).0, Fault::TarTrailing);
}
