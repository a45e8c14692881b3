//! The content of an object: in memory, or in a temporary file.
//!
//! In: bases and deltas that may be too large for memory. Out: results in chunks. Never holds more than a chunk,
//! whatever the numbers in a delta say.

use super::Fault;
use super::store::{Store, Temporary};
use crate::odb::delta;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// The number of bytes handled at a time.
pub(super) const CHUNK_LEN: usize = 64 << 10;

/// The content of an object.
pub(super) enum Content {
    /// In memory.
    Memory(Vec<u8>),
    /// In a file, which is removed on drop, with its length.
    File(Temporary, u64),
}

/// Receives content part by part.
pub(super) type Each<'a> = dyn FnMut(&[u8]) -> Result<(), Fault> + 'a;

impl Content {
    /// The size of the content in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(_, len) => *len,
        }
    }

    /// The bytes of memory it occupies.
    pub fn held(&self) -> u64 {
        match self {
            Content::Memory(bytes) => bytes.capacity() as u64,
            Content::File(..) => 0,
        }
    }

    /// Appends a part of the content to `out`.
    fn append(&self, offset: u64, size: usize, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Content::Memory(bytes) => {
                let from = usize::try_from(offset).map_err(io::Error::other)?;
                let part = bytes.get(from..).and_then(|rest| rest.get(..size));
                out.extend_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            Content::File(temporary, _) => {
                let start = out.len();
                out.resize(start + size, 0);
                temporary.file.read_exact_at(&mut out[start..], offset)
            }
        }
    }
}

/// Reads the sizes at the beginning of a delta, of its base and of its result; `None` if they are malformed.
pub(super) fn sizes(delta: &mut dyn Read) -> io::Result<Option<(u64, u64)>> {
    let mut head = Vec::new();
    let mut ends = 0;
    // Two numbers of at most ten bytes each.
    while ends < 2 && head.len() < 20 {
        let Some(byte) = next_byte(delta)? else { return Ok(None) };
        ends += u32::from(byte & 0x80 == 0);
        head.push(byte);
    }
    Ok(delta::sizes(&head).ok().map(|(base, result, _)| (base, result)))
}

/// Applies the instructions of a delta, which must make `result_len` bytes. Returns `false` if they are malformed, or
/// make more or fewer.
pub(super) fn apply(base: &Content, delta: &mut dyn Read, result_len: u64, each: &mut Each<'_>) -> Result<bool, Fault> {
    let mut out = Vec::with_capacity(CHUNK_LEN);
    let mut left = result_len;
    while let Some(code) = next_byte(delta)? {
        if code & 0x80 == 0 {
            let size = usize::from(code);
            if code == 0 || u64::from(code) > left {
                return Ok(false);
            }
            if out.len() + size > CHUNK_LEN {
                each(&out)?;
                out.clear();
            }
            let start = out.len();
            out.resize(start + size, 0);
            match delta.read_exact(&mut out[start..]) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                outcome => outcome?,
            }
            left -= u64::from(code);
            continue;
        }
        let Some((mut offset, mut size)) = copy(code, delta)? else { return Ok(false) };
        if size > left || offset + size > base.len() {
            return Ok(false);
        }
        left -= size;
        while size > 0 {
            if out.len() == CHUNK_LEN {
                each(&out)?;
                out.clear();
            }
            let part = usize::try_from(size).unwrap_or(CHUNK_LEN).min(CHUNK_LEN - out.len());
            base.append(offset, part, &mut out)?;
            offset += part as u64;
            size -= part as u64;
        }
    }
    each(&out)?;
    Ok(left == 0)
}

/// Reads the offset and the size of a copy instruction.
fn copy(code: u8, delta: &mut dyn Read) -> io::Result<Option<(u64, u64)>> {
    let (mut offset, mut size) = (0_u64, 0_u64);
    for bit in 0..7 {
        if code & (1 << bit) == 0 {
            continue;
        }
        let Some(byte) = next_byte(delta)? else { return Ok(None) };
        if bit < 4 {
            offset |= u64::from(byte) << (8 * bit);
        } else {
            size |= u64::from(byte) << (8 * (bit - 4));
        }
    }
    Ok(Some((offset, if size == 0 { 0x10000 } else { size })))
}

fn next_byte(from: &mut dyn Read) -> io::Result<Option<u8>> {
    let mut byte = [0];
    loop {
        match from.read(&mut byte) {
            Ok(read) => return Ok((read > 0).then_some(byte[0])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A part of a pack, read in order.
pub(super) struct Part<'a> {
    pub store: &'a Store,
    pub at: u64,
    pub end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size =
            usize::try_from(self.end.saturating_sub(self.at)).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.store.read_at(self.at, &mut buffer[..size])?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(base: &[u8], delta: &[u8], expected: Option<&[u8]>) {
        let mut whole = Vec::new();
        let same = delta::apply(base, delta, 1 << 30, &mut whole).ok().map(|()| whole);
        assert_eq!(same.as_deref(), expected, "{delta:?}");
        let mut made = Vec::new();
        let mut rest = delta;
        let base = Content::Memory(base.to_vec());
        let made = match sizes(&mut rest).unwrap() {
            Some((base_len, len)) if base_len == base.len() => apply(&base, &mut rest, len, &mut |part| {
                assert!(part.len() <= CHUNK_LEN);
                made.extend_from_slice(part);
                Ok(())
            })
            .unwrap()
            .then_some(made),
            _ => None,
        };
        assert_eq!(made.as_deref(), expected, "{delta:?}");
    }

    #[test]
    fn deltas_make_the_same_in_chunks_as_at_once() {
        check(b"hello world", &[11, 11, 0x91, 6, 5, 1, b' ', 0x90, 5], Some(b"world hello"));
        check(b"abc", &[3, 0], Some(b""));
        let base: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let turned = [&base[100_000..], &base[..100_000], b"!"].concat();
        let delta = [
            &[0xc0, 0x9a, 0x0c, 0xc1, 0x9a, 0x0c][..],
            &[0xf7, 0xa0, 0x86, 0x01, 0xa0, 0x86, 0x01],
            &[0xf0, 0xa0, 0x86, 0x01],
            &[1, b'!'],
        ];
        check(&base, &delta.concat(), Some(&turned));
        check(&base, &[0xc0, 0x9a, 0x0c, 0x80, 0x80, 0x04, 0x80], Some(&base[..0x10000]));
    }

    #[test]
    fn deltas_that_do_not_fit_are_refused_in_chunks_as_at_once() {
        for delta in [
            &[][..],
            &[3],
            &[4, 1, 1, b'x'],
            &[3, 1, 0],
            &[3, 1, 2, b'x'],
            &[3, 1, 2, b'x', b'y'],
            &[3, 2, 1, b'x'],
            &[3, 2, 0x91, 2, 2],
            &[3, 2, 0x91],
            &[3, 1, 0x9f, 0xff, 0xff, 0xff, 0xff, 1],
            &[3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, b'x'],
        ] {
            check(b"abc", delta, None);
        }
    }
}
