//! Inflates zlib streams that are completely in memory, in one go (RFC 1950, RFC 1951).
//!
//! In: the bytes from the beginning of a stream on. Out: its content, or nothing: a malformed or incomplete stream is
//! left to the general decoder, which reports the error. That decoder is made for long streams that arrive in pieces.
//! Most streams in a pack have a few hundred bytes, for which building the tables takes most of the time.

use super::bits::BitReader;
use super::codes::{Codes, DISTANCE_BITS, END, FIXED, LITERAL, LITERAL_BITS, OwnCodes, RARE, SECOND};

/// Room after the content that is written to with meaningless bytes: a literal or two, the longest match, and the rest
/// of the last piece it was copied by.
pub(super) const SLACK_BYTES: usize = 320;

/// A match is copied in pieces of this many bytes.
const PIECE: usize = 16;

/// The result of inflating a stream.
pub(super) struct Inflated {
    /// How many bytes were written.
    pub filled: usize,
    /// The length of the stream, if it ended with these bytes; its checksum matches then.
    pub stream: Option<usize>,
}

/// The decoder, reused for each stream.
pub(super) struct AtOnce {
    own: OwnCodes,
}

impl AtOnce {
    pub(super) fn new() -> Box<Self> {
        Box::new(AtOnce { own: OwnCodes::new() })
    }

    /// Inflates the stream that `input` begins with into `out`, except its last [`SLACK_BYTES`], until the stream ends
    /// or has more content than that. `None` if the stream is malformed or cut off before.
    pub(super) fn inflate(&mut self, input: &[u8], out: &mut [u8]) -> Option<Inflated> {
        let room = out.len().checked_sub(SLACK_BYTES)?;
        let (head, body) = input.split_first_chunk::<2>()?;
        // Only deflate, a window of at most 32 KiB, no dictionary.
        if head[0] & 15 != 8 || head[0] >> 4 > 7 || head[1] & 0x20 != 0 || u16::from_be_bytes(*head) % 31 != 0 {
            return None;
        }
        let mut bits = BitReader::new(body);
        let mut filled = 0;
        loop {
            bits.refill()?;
            let last = bits.take(1) == 1;
            let (now, ended) = match bits.take(2) {
                0 => stored(&mut bits, input, out, filled, room)?,
                1 => block(&mut bits, &FIXED, out, filled, room)?,
                2 => {
                    self.own.read(&mut bits)?;
                    block(&mut bits, &self.own.codes, out, filled, room)?
                }
                _ => return None,
            };
            if !ended {
                // Fails if bits beyond the end of the input were used.
                bits.position(input)?;
                return Some(Inflated { filled: room, stream: None });
            }
            filled = now;
            if last {
                break;
            }
        }
        let end = bits.position(input)?;
        let sum = input.get(end..)?.first_chunk::<4>()?;
        let is_sound = u32::from_be_bytes(*sum) == zlib_rs::adler32::adler32(1, &out[..filled]);
        is_sound.then_some(Inflated { filled, stream: Some(end + sum.len()) })
    }
}

/// Copies a stored block. Returns how much is filled after it, and whether all of it had room.
fn stored<'a>(
    bits: &mut BitReader<'a>,
    input: &'a [u8],
    out: &mut [u8],
    filled: usize,
    room: usize,
) -> Option<(usize, bool)> {
    let (head, rest) = input.get(bits.position(input)?..)?.split_first_chunk::<4>()?;
    let length = u16::from_le_bytes([head[0], head[1]]);
    if length != !u16::from_le_bytes([head[2], head[3]]) {
        return None;
    }
    let (content, rest) = rest.split_at_checked(length.into())?;
    let fits = content.len().min(room - filled);
    out[filled..filled + fits].copy_from_slice(&content[..fits]);
    *bits = BitReader::new(rest);
    Some((filled + fits, fits == content.len()))
}

/// Decodes a compressed block. Returns how much is filled after it, and whether all of it had room.
#[inline(never)]
fn block(
    from: &mut BitReader<'_>,
    codes: &Codes,
    out: &mut [u8],
    mut filled: usize,
    room: usize,
) -> Option<(usize, bool)> {
    let first = |bits: &BitReader<'_>| codes.literals[bits.peek(LITERAL_BITS)];
    let mut bits = *from;
    bits.refill()?;
    let mut entry = first(&bits);
    while filled <= room {
        // There are at least 48 bits: enough for three literals, or for two and the length of a match.
        let mut before = bits;
        bits.skip(entry);
        if entry & LITERAL != 0 {
            let literal = (entry >> 16) as u8;
            entry = first(&bits);
            before = bits;
            bits.skip(entry);
            out[filled] = literal;
            filled += 1;
            if entry & LITERAL != 0 {
                let literal = (entry >> 16) as u8;
                entry = first(&bits);
                before = bits;
                bits.skip(entry);
                out[filled] = literal;
                filled += 1;
                if entry & LITERAL != 0 {
                    out[filled] = (entry >> 16) as u8;
                    filled += 1;
                    bits.refill()?;
                    entry = first(&bits);
                    continue;
                }
            }
        }
        if entry & RARE != 0 {
            if entry & SECOND == SECOND {
                let at = (entry >> 16) as usize + bits.peek(entry >> 8 & 15);
                entry = codes.literals[at & (codes.literals.len() - 1)];
                before = bits;
                bits.skip(entry);
                if entry & LITERAL != 0 {
                    out[filled] = (entry >> 16) as u8;
                    filled += 1;
                    bits.refill()?;
                    entry = first(&bits);
                    continue;
                }
            }
            if entry & END == END {
                *from = bits;
                return Some((filled, filled <= room));
            }
            if entry & RARE != 0 {
                return None;
            }
        }
        let length = (entry >> 16) as usize + before.extra(entry);

        bits.refill()?;
        let mut entry_far = codes.distances[bits.peek(DISTANCE_BITS)];
        if entry_far & RARE != 0 {
            if entry_far & SECOND != SECOND {
                return None;
            }
            bits.skip(entry_far);
            let at = (entry_far >> 16) as usize + bits.peek(entry_far >> 8 & 15);
            entry_far = codes.distances[at & (codes.distances.len() - 1)];
            if entry_far & RARE != 0 {
                return None;
            }
        }
        let distance = (entry_far >> 16) as usize + bits.extra(entry_far);
        bits.skip(entry_far);
        // A distance takes at most 28 bits, so enough are left for the next look-up.
        entry = first(&bits);
        repeat(out, filled, distance, length)?;
        filled += length;
        bits.refill()?;
    }
    *from = bits;
    Some((filled, false))
}

/// Writes `length` bytes at `at`, and a few more, repeating those `distance` before them. `None` if that is out of
/// bounds.
#[inline(always)]
fn repeat(out: &mut [u8], at: usize, distance: usize, length: usize) -> Option<()> {
    let window = &mut out[at.checked_sub(distance)?..];
    match distance {
        0 => return None,
        1 => {
            let (byte, mut done) = (window[0], 0);
            while done < length {
                *window[1 + done..].first_chunk_mut()? = [byte; PIECE];
                done += PIECE;
            }
        }
        2..8 => (0..length).for_each(|at| window[distance + at] = window[at]),
        8..PIECE => {
            let mut done = 0;
            while done < length {
                pass::<8>(window, done, distance)?;
                done += 8;
            }
        }
        PIECE.. => {
            // Most matches have at most two pieces, and copying the second needlessly costs less than a test.
            pass::<PIECE>(window, 0, distance)?;
            pass::<PIECE>(window, PIECE, distance)?;
            let mut done = 2 * PIECE;
            while done < length {
                pass::<PIECE>(window, done, distance)?;
                done += PIECE;
            }
        }
    }
    Some(())
}

/// Copies a piece of `N` bytes to `distance` bytes further on.
#[inline(always)]
fn pass<const N: usize>(window: &mut [u8], from: usize, distance: usize) -> Option<()> {
    let piece = *window[from..].first_chunk::<N>()?;
    *window[from + distance..].first_chunk_mut()? = piece;
    Some(())
}

#[cfg(test)]
mod tests;
