//! Compares streams of all kinds, sound and not, with the general decoder.

use super::*;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use proptest::prelude::*;

fn deflated(content: &[u8], level: u32) -> Vec<u8> {
    let mut stream = vec![0; content.len() + content.len() / 8 + 64];
    let mut state = Compress::new(Compression::new(level), true);
    assert_eq!(state.compress(content, &mut stream, FlushCompress::Finish).unwrap(), Status::StreamEnd);
    stream.truncate(state.total_out() as usize);
    stream
}

/// The first `room` bytes, and the length of the stream if it ends with them.
fn inflated(decoder: &mut AtOnce, stream: &[u8], room: usize) -> Option<(Vec<u8>, Option<usize>)> {
    let mut out = vec![b'?'; room + SLACK_BYTES];
    let inflated = decoder.inflate(stream, &mut out)?;
    out.truncate(inflated.filled);
    Some((out, inflated.stream))
}

/// The result of the general decoder.
fn expected(stream: &[u8], room: usize) -> Option<(Vec<u8>, usize)> {
    let (mut state, mut out) = (Decompress::new(true), vec![0; room + 1]);
    let ended = matches!(state.decompress(stream, &mut out, FlushDecompress::Finish), Ok(Status::StreamEnd));
    out.truncate(state.total_out() as usize);
    (ended && out.len() <= room).then_some((out, state.total_in() as usize))
}

fn check_sound(decoder: &mut AtOnce, content: &[u8], mut stream: Vec<u8>) {
    let length = stream.len();
    for behind in [0, 1, 9] {
        stream.resize(length + behind, 0xa5);
        assert!(inflated(decoder, &stream, content.len()) == Some((content.to_vec(), Some(length))), "{behind}");
        assert!(inflated(decoder, &stream, content.len() + 7) == Some((content.to_vec(), Some(length))));
    }
    for room in [0, 1, content.len() / 3, content.len().saturating_sub(1)] {
        if room < content.len() {
            assert!(inflated(decoder, &stream, room) == Some((content[..room].to_vec(), None)), "{room}");
        }
    }
}

fn check_content(decoder: &mut AtOnce, content: &[u8]) {
    (0..10).for_each(|level| check_sound(decoder, content, deflated(content, level)));
}

/// Pseudo-random numbers.
fn numbers() -> impl Iterator<Item = usize> {
    let step = |n: &u64| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
    std::iter::successors(Some(1_u64), step).map(|n| (n >> 40) as usize)
}

#[test]
fn every_kind_of_block_is_read() {
    let decoder = &mut *AtOnce::new();
    for content in [&b""[..], b"a", b"hello hello hello hello", &[0; 3000], &[7; 70_000]] {
        check_content(decoder, content);
    }
    let all: Vec<u8> = (0..=255).cycle().take(5000).collect();
    check_content(decoder, &all);
    // Only one code for distances, and none.
    let one: Vec<u8> = (0..4000_u32).map(|n| (n / 1000 * 60 + n % 3) as u8).collect();
    check_content(decoder, &one);
    check_content(decoder, &(0..200).collect::<Vec<u8>>());
}

#[test]
fn long_codes_are_read_through_a_second_table() {
    let decoder = &mut *AtOnce::new();
    // A few bytes are much rarer than the others.
    let rare = |n: usize| if n.is_multiple_of(500) { 200 + n / 500 % 50 } else { n % 200 };
    let content: Vec<u8> = numbers().map(|n| rare(n) as u8).take(10_000).collect();
    check_content(decoder, &content);
    decoder.inflate(&deflated(&content, 9), &mut vec![0; content.len() + SLACK_BYTES]).expect("is sound");
    assert!(decoder.own.codes.literals.iter().any(|entry| entry & SECOND == SECOND && entry & LITERAL == 0));
    // Usually four bytes repeat those 300 bytes before, and sometimes those at another distance.
    let mut far = content[..2000].to_vec();
    for n in numbers().take(6000) {
        let from = far.len() - if n.is_multiple_of(40) { 5 + n / 40 % (far.len() - 5) } else { 300 };
        far.extend_from_within(from..from + 4);
        far.push(n as u8);
    }
    check_content(decoder, &far);
    decoder.inflate(&deflated(&far, 9), &mut vec![0; far.len() + SLACK_BYTES]).expect("is sound");
    assert!(decoder.own.codes.distances.iter().any(|entry| entry & SECOND == SECOND));
}

#[test]
fn a_stream_that_breaks_off_or_means_nothing_is_left_to_the_general_decoder() {
    let decoder = &mut *AtOnce::new();
    let content: Vec<u8> = numbers().map(|n| (n % 50) as u8).take(2000).collect();
    for level in [0, 1, 9] {
        let stream = deflated(&content, level);
        for cut in (0..20).chain([stream.len() / 2]).chain(stream.len() - 20..stream.len()) {
            assert!(inflated(decoder, &stream[..cut], content.len()).is_none(), "{level} {cut}");
        }
    }
    for stream in [
        // Another method, too large a window, a dictionary, a wrong header checksum, a reserved block type.
        &[0x77, 0x85, 3, 0, 0, 0, 0, 1][..],
        &[0x88, 0x1c, 3, 0, 0, 0, 0, 1],
        &[0x78, 0xbb, 3, 0, 0, 0, 0, 1],
        &[0x78, 0x02, 3, 0, 0, 0, 0, 1],
        &[0x78, 0x01, 7, 0, 0, 0, 0, 1],
        // A match before the beginning, a wrong checksum, a stored length without its complement.
        &[0x78, 0x01, 0x03, 0x02, 0, 0, 0, 0, 1],
        &[0x78, 0x01, 3, 0, 0, 0, 0, 2],
        &[0x78, 0x01, 1, 1, 0, 0xff, 0xff, b'a', 0, 0x62, 0, 0x62],
    ] {
        assert!(inflated(decoder, stream, 100).is_none(), "{stream:x?}");
    }
    assert_eq!(inflated(decoder, &[0x78, 0x01, 3, 0, 0, 0, 0, 1], 100), Some((Vec::new(), Some(8))));
}

/// A block of the letter a three times, where the codes of that letter and of the end have this many bits.
fn three(length: usize) -> Vec<u8> {
    let (mut stream, mut bits, mut count) = (vec![0x78, 0x01], 0_u32, 0);
    let mut put = |value: u32, more: u32| {
        bits |= value << count;
        count += more;
        while count >= 8 {
            stream.push(bits as u8);
            (bits, count) = (bits >> 8, count - 8);
        }
    };
    // The last block, with codes of its own: 257 literals and 1 distance, and 18 code-length codes, of which those for
    // 18, 0, 2 and 1 are in use.
    for (value, bits) in [(1, 1), (2, 2), (0, 5), (0, 5), (14, 4)] {
        put(value, bits);
    }
    for bits in [0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2] {
        put(bits, 3);
    }
    let (of_one, of_two, of_zeros) = ((0b10, 2), (0b01, 2), (0b11, 2));
    let of_length = if length == 1 { of_one } else { of_two };
    let lengths = [of_zeros, (97 - 11, 7), of_length, of_zeros, (127, 7), of_zeros, (9, 7), of_length, of_one];
    for (value, bits) in lengths {
        put(value, bits);
    }
    (0..3).for_each(|_| put(0, length as u32));
    put(1 << (length - 1), length as u32);
    put(0, 7);
    stream.extend_from_slice(&zlib_rs::adler32::adler32(1, b"aaa").to_be_bytes());
    stream
}

#[test]
fn codes_of_which_some_are_nobodys_are_refused() {
    let decoder = &mut *AtOnce::new();
    check_sound(decoder, b"aaa", three(1));
    assert_eq!(expected(&three(1), 3), Some((b"aaa".to_vec(), three(1).len())));
    assert_eq!([inflated(decoder, &three(2), 3).map(drop), expected(&three(2), 3).map(drop)], [None; 2]);
}

proptest! {
    #[test]
    fn contents_come_back(
        words in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
        level in 0_u32..10,
    ) {
        let content: Vec<u8> = order.iter().flat_map(|word| word.get(&words).iter().copied()).collect();
        check_sound(&mut AtOnce::new(), &content, deflated(&content, level));
    }

    /// It may decode less than the general decoder, but nothing else.
    #[test]
    fn of_damaged_streams_nothing_is_said_that_the_general_decoder_does_not_say(
        words in prop::collection::vec("[a-e]{1,9}", 1..30),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..300),
        level in 0_u32..10,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let content: String = order.iter().map(|word| word.get(&words).as_str()).collect();
        let mut stream = deflated(content.as_bytes(), level);
        for (at, with) in damage {
            *at.get_mut(&mut stream) ^= with;
        }
        let room = content.len();
        if let Some((out, Some(length))) = inflated(&mut AtOnce::new(), &stream, room) {
            prop_assert_eq!(Some((out, length)), expected(&stream, room));
        }
    }

    #[test]
    fn of_any_bytes_nothing_is_said_that_the_general_decoder_does_not_say(
        mut stream in prop::collection::vec(any::<u8>(), 2..300),
    ) {
        stream[..2].copy_from_slice(&[0x78, 0x01]);
        if let Some((out, Some(length))) = inflated(&mut AtOnce::new(), &stream, 1000) {
            prop_assert_eq!(Some((out, length)), expected(&stream, 1000));
        }
    }
}
