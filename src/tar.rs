//! Headers of a tar, as we write them: GNU's format, for names of any bytes.

use std::time::SystemTime;

/// The unit of a tar, in bytes.
pub const BLOCK: usize = 512;

/// How long a name fits into a header, in bytes.
const SHORT: usize = 100;

/// What stands before a file's content, which is then filled up with zeros to whole blocks. A name that is too long for its header has
/// one of its own before it, as GNU tar writes it: that one takes any bytes, while pax demands UTF-8.
pub fn head(name: &[u8], size: u64, time: SystemTime) -> Vec<u8> {
    let mut tar = Vec::new();
    if name.len() > SHORT {
        tar.extend(header(b"././@LongLink", name.len() as u64 + 1, 0, b'L'));
        tar.extend(name);
        // Ended by a NUL, at least.
        tar.resize((tar.len() + 1).next_multiple_of(BLOCK), 0);
    }
    let time = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    tar.extend(header(name, size, time, b'0'));
    tar
}

/// One header: the name is cut to what fits. `time` in seconds since 1970, `kind` the type flag.
pub fn header(name: &[u8], size: u64, time: u64, kind: u8) -> Vec<u8> {
    let name = name.get(..SHORT).unwrap_or(name);
    let fields = |sum: String| {
        let mode = format!("0000644\0{:07o}\0{:07o}\0", 0, 0);
        let rest = format!("{time:011o}\0{sum:>8}");
        let mut header = [name, &vec![0; SHORT - name.len()], mode.as_bytes(), &number(size), rest.as_bytes(), &[kind]].concat();
        header.resize(header.len() + SHORT, 0);
        header.extend(b"ustar  \0");
        header.resize(BLOCK, 0);
        header
    };
    let sum: u32 = fields(String::new()).iter().copied().map(u32::from).sum();
    fields(format!("{sum:06o}\0 "))
}

/// Octal digits, or, from 8 GiB on, GNU's binary.
fn number(size: u64) -> Vec<u8> {
    if size < 1 << 33 { format!("{size:011o}\0").into_bytes() } else { [&[0x80, 0, 0, 0], &size.to_be_bytes()[..]].concat() }
}
