//! The maps of sparse files: of GNU archives, and of POSIX archives in the forms 0.1 and 1.0.

use std::io::Read;

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::block::{BLOCK, read_block};
use super::pax::{Sparse, number};
use crate::layer_problem::LayerProblem;

/// The most parts of one file.
const MOST_SEGMENTS: usize = 1 << 17;

/// A range of a file that has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub length: u64,
}

/// Where the data of a file belongs.
#[derive(Debug)]
pub struct Map {
    /// The size of the file.
    pub size: u64,
    pub segments: Vec<Segment>,
}

impl Map {
    /// The map of a file without holes.
    pub fn whole(size: u64) -> Self {
        let all = Segment { offset: 0, length: size };
        Self { size, segments: Some(all).filter(|all| all.length > 0).into_iter().collect() }
    }

    fn push(&mut self, offset: u64, length: u64) -> Result<(), LayerProblem> {
        if self.segments.len() >= MOST_SEGMENTS {
            return Err(LayerProblem::BadSparse);
        }
        if length > 0 {
            self.segments.push(Segment { offset, length });
        }
        Ok(())
    }

    /// Checks that the parts are in order, within the file, and are all of the data.
    pub fn expect_sound(&self, stored: u64) -> Result<(), LayerProblem> {
        let (mut at, mut total) = (0u64, 0u64);
        for segment in &self.segments {
            let end = segment.offset.checked_add(segment.length).ok_or(LayerProblem::BadSparse)?;
            if segment.offset < at || end > self.size {
                return Err(LayerProblem::BadSparse);
            }
            at = end;
            total += segment.length;
        }
        if total == stored { Ok(()) } else { Err(LayerProblem::BadSparse) }
    }
}

/// The map in the header of a GNU archive, and in the blocks that continue it.
pub fn of_gnu(header: &Header, inner: &mut impl Read) -> Result<Map, LayerProblem> {
    let gnu = header.as_gnu().ok_or(LayerProblem::BadSparse)?;
    let size = gnu.real_size().map_err(LayerProblem::unreadable)?;
    let mut map = Map { size, segments: Vec::new() };
    add(&mut map, &gnu.sparse)?;
    let mut more = gnu.is_extended();
    while more {
        let mut block = [0; BLOCK];
        if !read_block(inner, &mut block)? {
            return Err(LayerProblem::Truncated);
        }
        let mut next = GnuExtSparseHeader::new();
        next.as_mut_bytes().copy_from_slice(&block);
        add(&mut map, &next.sparse)?;
        more = next.is_extended();
    }
    Ok(map)
}

fn add(map: &mut Map, parts: &[GnuSparseHeader]) -> Result<(), LayerProblem> {
    for part in parts.iter().filter(|part| !part.is_empty()) {
        let offset = part.offset().map_err(LayerProblem::unreadable)?;
        map.push(offset, part.length().map_err(LayerProblem::unreadable)?)?;
    }
    Ok(())
}

/// The map that PAX records say, if the file is sparse. `left` is what is stored; the map of form 1.0 is at its beginning.
pub fn of_pax(
    sparse: &Sparse,
    inner: &mut impl Read,
    left: &mut u64,
) -> Result<Option<Map>, LayerProblem> {
    if sparse.repeated && sparse.map.is_none() {
        return Err(LayerProblem::BadSparse);
    }
    let Some(size) = sparse.real_size else { return Ok(None) };
    let mut map = Map { size, segments: Vec::new() };
    match (sparse.major.unwrap_or(0), &sparse.map) {
        (0, Some(text)) => {
            let numbers: Option<Vec<u64>> = text.split(|byte| *byte == b',').map(number).collect();
            let numbers = numbers.ok_or(LayerProblem::BadSparse)?;
            for pair in numbers.chunks(2) {
                let [offset, length] = pair else { return Err(LayerProblem::BadSparse) };
                map.push(*offset, *length)?;
            }
        }
        (1, None) => read_map(&mut map, inner, left)?,
        _ => return Err(LayerProblem::BadSparse),
    }
    Ok(Some(map))
}

/// Reads the map before the data: lines with the number of parts, and with the offset and length of each.
fn read_map(map: &mut Map, inner: &mut impl Read, left: &mut u64) -> Result<(), LayerProblem> {
    let mut lines = Lines { block: [0; BLOCK], at: BLOCK };
    let count = lines.next(inner, left)?;
    for _ in 0..count {
        let offset = lines.next(inner, left)?;
        map.push(offset, lines.next(inner, left)?)?;
    }
    Ok(())
}

/// Numbers in lines, in whole blocks.
struct Lines {
    block: [u8; BLOCK],
    at: usize,
}

impl Lines {
    fn next(&mut self, inner: &mut impl Read, left: &mut u64) -> Result<u64, LayerProblem> {
        let mut digits = Vec::new();
        loop {
            if self.at == BLOCK {
                *left = left.checked_sub(BLOCK as u64).ok_or(LayerProblem::BadSparse)?;
                if !read_block(inner, &mut self.block)? {
                    return Err(LayerProblem::Truncated);
                }
                self.at = 0;
            }
            let byte = self.block.get(self.at).copied().unwrap_or_default();
            self.at += 1;
            match byte {
                b'\n' if !digits.is_empty() => {
                    return number(&digits).ok_or(LayerProblem::BadSparse);
                }
                b'0'..=b'9' if digits.len() < 20 => digits.push(byte),
                _ => return Err(LayerProblem::BadSparse),
            }
        }
    }
}
