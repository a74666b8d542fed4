//! Changes of an input.

use super::random::Random;

/// Numbers at the edges of types, as text.
const NUMBERS: [&str; 14] = [
    "0",
    "-1",
    "1",
    "127",
    "255",
    "256",
    "65535",
    "65536",
    "2147483648",
    "4294967295",
    "9223372036854775807",
    "18446744073709551615",
    "99999999999999999999999",
    "1e400",
];

/// Texts that readers of texts often get wrong.
const TEXTS: [&str; 16] = [
    "\0",
    "\n",
    "\r",
    "\u{1b}[2J",
    "\t",
    " ",
    "..",
    "/",
    "//",
    "\\",
    "\"",
    "'",
    "\u{feff}",
    "ß",
    "\u{202e}",
    "\u{10ffff}",
];

/// The most bytes that a repetition adds.
const MOST_REPEATED: usize = 1 << 16;

/// Changes an input a few times. `other` is another input, for parts of it.
pub fn mutated(
    input: &[u8],
    other: &[u8],
    words: &[&str],
    longest: usize,
    random: &mut Random,
) -> Vec<u8> {
    let mut bytes = input.to_vec();
    // Mostly a single change; now and then up to sixteen.
    let turns = 1 << random.below(5).min(random.below(5));
    for _ in 0..turns {
        change(&mut bytes, other, words, random);
    }
    bytes.truncate(longest);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], words: &[&str], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    match random.below(16) {
        0 => flip(bytes, at, random),
        1 => set(bytes, at, random),
        2 => drop(bytes.drain(range(bytes.len(), at, random))),
        3 => bytes.truncate(at),
        4 | 5 => insert(bytes, at, random.pick(words).copied().unwrap_or_default().as_bytes()),
        6 => replace(bytes, at, random.pick(words).copied().unwrap_or_default().as_bytes(), random),
        7 => replace_number(bytes, at, random),
        8 => binary_number(bytes, at, random),
        9 => {
            let part = other.get(range(other.len(), random.below(other.len() + 1), random));
            insert(bytes, at, part.unwrap_or_default());
        }
        10 => splice(bytes, at, other, random),
        11 => repeat(bytes, at, random),
        12 => line(bytes, other, random),
        13 => insert(bytes, at, random.pick(&TEXTS).copied().unwrap_or_default().as_bytes()),
        14 => swap(bytes, at, random),
        _ => insert(bytes, at, &[u8::try_from(random.below(256)).unwrap_or_default()]),
    }
}

/// A short range that begins at `at`; rarely a long one.
fn range(length: usize, at: usize, random: &mut Random) -> std::ops::Range<usize> {
    let most = if random.below(8) == 0 { length } else { 16 };
    at..(at + 1 + random.below(most)).min(length).max(at)
}

fn insert(bytes: &mut Vec<u8>, at: usize, part: &[u8]) {
    bytes.splice(at..at, part.iter().copied());
}

fn replace(bytes: &mut Vec<u8>, at: usize, part: &[u8], random: &mut Random) {
    // Mostly as long as before, so that lengths elsewhere stay right.
    let end = if random.below(2) == 0 { at + part.len() } else { at + random.below(12) };
    bytes.splice(at..end.min(bytes.len()), part.iter().copied());
}

fn flip(bytes: &mut [u8], at: usize, random: &mut Random) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

fn set(bytes: &mut [u8], at: usize, random: &mut Random) {
    let value = random.pick(&[0, 1, 0x7f, 0x80, 0xff, b' ', b'0', b'\n']).copied();
    if let (Some(byte), Some(value)) = (bytes.get_mut(at), value) {
        *byte = value;
    }
}

/// Replaces the digits at or after a place by another number.
fn replace_number(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let digit = |byte: &u8| byte.is_ascii_digit();
    let begin = bytes.iter().skip(at).position(digit).map_or(at, |found| at + found);
    let length = bytes.iter().skip(begin).take_while(|byte| digit(byte)).count();
    let number = random.pick(&NUMBERS).copied().unwrap_or_default();
    bytes.splice(begin..begin + length, number.bytes());
}

/// Writes a binary number of one to eight bytes: an edge of its type, or one more or less than before.
fn binary_number(bytes: &mut [u8], at: usize, random: &mut Random) {
    let width = 1 << random.below(4);
    let Some(place) = bytes.get_mut(at..at + width) else { return };
    let big = random.below(2) == 0;
    let mut number = [0; 8];
    for (index, byte) in place.iter().enumerate() {
        let index = if big { width - 1 - index } else { index };
        if let Some(to) = number.get_mut(index) {
            *to = *byte;
        }
    }
    let now = u64::from_le_bytes(number);
    let bits = 8 * u32::try_from(width).unwrap_or(8);
    let most = u64::MAX >> (64 - bits);
    let edges = [0, 1, most, most >> 1, (most >> 1) + 1, 16, 64, 4096];
    let next = match random.below(4) {
        0 => now.wrapping_add(1),
        1 => now.wrapping_sub(1),
        2 => now.wrapping_mul(2),
        _ => random.pick(&edges).copied().unwrap_or_default(),
    };
    for (index, byte) in place.iter_mut().enumerate() {
        let index = if big { width - 1 - index } else { index };
        *byte = next.to_le_bytes().get(index).copied().unwrap_or_default();
    }
}

/// The beginning of this input, and the end of another.
fn splice(bytes: &mut Vec<u8>, at: usize, other: &[u8], random: &mut Random) {
    bytes.truncate(at);
    bytes.extend(other.iter().skip(random.below(other.len() + 1)));
}

/// Repeats a part, sometimes so often that a recursive reader would run out of stack.
fn repeat(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let part = bytes.get(range(bytes.len(), at, random)).unwrap_or_default().to_vec();
    let times = if random.below(16) == 0 { 4096 } else { 1 + random.below(8) };
    insert(bytes, at, &part.repeat(times.min(MOST_REPEATED / part.len().max(1))));
}

/// Removes, repeats or replaces a line.
fn line(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let others: Vec<&[u8]> = other.split(|byte| *byte == b'\n').collect();
    let at = random.below(lines.len());
    match random.below(3) {
        0 => drop(lines.remove(at)),
        1 => {
            lines.insert(random.below(lines.len() + 1), lines.get(at).copied().unwrap_or_default())
        }
        _ => lines.insert(at, random.pick(&others).copied().unwrap_or_default()),
    }
    *bytes = lines.join(&b'\n');
}

/// Exchanges two parts.
fn swap(bytes: &mut [u8], at: usize, random: &mut Random) {
    let (other, length) = (random.below(bytes.len() + 1), 1 + random.below(16));
    let (one, other) = (at.min(other), at.max(other));
    if one + length <= other
        && other + length <= bytes.len()
        && let (head, tail) = bytes.split_at_mut(other)
        && let (Some(head), Some(tail)) = (head.get_mut(one..one + length), tail.get_mut(..length))
    {
        head.swap_with_slice(tail);
    }
}
