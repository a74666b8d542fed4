//! Writes an ISO 9660 image with a few files in its root directory (ECMA-119), with the long names that Linux reads (Rock
//! Ridge: SUSP 1.10, RRIP 1.10) and those that Windows reads (Joliet).

/// The size of a block, in bytes.
const BLOCK: usize = 2048;

/// The blocks before the files.
const SYSTEM_AREA: usize = 16;
const PRIMARY: usize = 16;
const JOLIET: usize = 17;
const TERMINATOR: usize = 18;
const PATHS: usize = 19;
const JOLIET_PATHS: usize = 21;
const ROOT: usize = 23;
const JOLIET_ROOT: usize = 24;
const FILES: usize = 25;

/// The length of a path table with the root directory only, in bytes.
const PATH_TABLE: u32 = 10;

/// 1 January 2000, 0:00 UTC, in a directory record (ECMA-119, 9.1.5). The same seed is the same image.
const DATE: [u8; 7] = [100, 1, 1, 0, 0, 0, 0];

/// A file in the root directory.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// Its name: ASCII letters, digits and hyphens. All names together must fit in one block of records, which about
    /// ten do; the first eight letters and digits must differ.
    pub name: &'a str,
    /// Its contents.
    pub contents: &'a [u8],
}

/// A file and where its contents are.
#[derive(Clone, Copy, Debug)]
struct Placed<'a> {
    file: File<'a>,
    block: u32,
}

/// An image with this volume name and these files.
pub fn image(label: &str, files: &[File<'_>]) -> Vec<u8> {
    let mut next = number(FILES);
    let mut placed = Vec::new();
    for file in files {
        placed.push(Placed { file: *file, block: next });
        next += number(file.contents.len().div_ceil(BLOCK));
    }
    let mut image = vec![0; SYSTEM_AREA * BLOCK];
    image.extend(descriptor(Tree::Primary, label, next));
    image.extend(descriptor(Tree::Joliet, label, next));
    image.extend(whole_blocks(b"\xffCD001\x01".to_vec()));
    for tree in [Tree::Primary, Tree::Joliet] {
        image.extend(path_table(tree, u32::to_le_bytes, u16::to_le_bytes));
        image.extend(path_table(tree, u32::to_be_bytes, u16::to_be_bytes));
    }
    image.extend(directory(Tree::Primary, &placed));
    image.extend(directory(Tree::Joliet, &placed));
    for file in files {
        image.extend(whole_blocks(file.contents.to_vec()));
    }
    debug_assert_eq!((PRIMARY, JOLIET, TERMINATOR), (SYSTEM_AREA, PRIMARY + 1, JOLIET + 1));
    image
}

/// The two directory trees, which share the files' contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tree {
    /// Short names, and long ones as Rock Ridge.
    Primary,
    /// Long names in UTF-16.
    Joliet,
}

impl Tree {
    const fn root(self) -> usize {
        match self {
            Self::Primary => ROOT,
            Self::Joliet => JOLIET_ROOT,
        }
    }

    const fn paths(self) -> usize {
        match self {
            Self::Primary => PATHS,
            Self::Joliet => JOLIET_PATHS,
        }
    }

    /// Text in a descriptor, filled with spaces.
    fn text(self, text: &str, length: usize) -> Vec<u8> {
        let mut bytes = match self {
            Self::Primary => text.as_bytes().to_vec(),
            Self::Joliet => utf16(text),
        };
        let space = match self {
            Self::Primary => b" ".to_vec(),
            Self::Joliet => utf16(" "),
        };
        while bytes.len() < length {
            bytes.extend(&space);
        }
        bytes.truncate(length);
        bytes
    }

    /// A file's name in a record.
    fn file_name(self, name: &str) -> Vec<u8> {
        match self {
            Self::Primary => {
                let plain = name.chars().filter(char::is_ascii_alphanumeric);
                let short: String = plain.take(8).collect();
                format!("{}.;1", short.to_ascii_uppercase()).into_bytes()
            }
            Self::Joliet => utf16(name),
        }
    }
}

/// A volume descriptor (ECMA-119, 8.4 and 8.5).
fn descriptor(tree: Tree, label: &str, blocks: u32) -> Vec<u8> {
    let mut bytes = match tree {
        Tree::Primary => b"\x01CD001\x01\x00".to_vec(),
        Tree::Joliet => b"\x02CD001\x01\x00".to_vec(),
    };
    bytes.extend(tree.text("", 32));
    bytes.extend(tree.text(label, 32));
    bytes.extend([0; 8]);
    bytes.extend(both(blocks));
    // Level 3 of Joliet's escape sequences.
    let escapes: &[u8] = if tree == Tree::Joliet { b"%/E" } else { b"" };
    bytes.extend(padded(escapes.to_vec(), 32));
    // One volume in the set, this is the first; the size of a block.
    bytes.extend(both_short(1));
    bytes.extend(both_short(1));
    bytes.extend(both_short(2048));
    bytes.extend(both(PATH_TABLE));
    bytes.extend(number(tree.paths()).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(number(tree.paths() + 1).to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(record(&[0], (number(tree.root()), number(BLOCK)), true, &[]));
    // Volume set, publisher, preparer, application; three file names.
    bytes.extend(tree.text("", 4 * 128));
    for _ in 0..3 {
        bytes.extend(tree.text("", 37));
    }
    for _ in 0..4 {
        bytes.extend(b"0000000000000000\x00");
    }
    bytes.push(1);
    whole_blocks(bytes)
}

/// A path table with the root directory (ECMA-119, 9.4).
fn path_table(tree: Tree, four: impl Fn(u32) -> [u8; 4], two: impl Fn(u16) -> [u8; 2]) -> Vec<u8> {
    let mut bytes = vec![1, 0];
    bytes.extend(four(number(tree.root())));
    bytes.extend(two(1));
    bytes.extend([0, 0]);
    whole_blocks(bytes)
}

/// The root directory.
fn directory(tree: Tree, files: &[Placed<'_>]) -> Vec<u8> {
    let itself = (number(tree.root()), number(BLOCK));
    let rock_ridge = tree == Tree::Primary;
    let mut of_root = Vec::new();
    let mut of_parent = Vec::new();
    if rock_ridge {
        // The sharing protocol begins here (SUSP, 5.3), the extension is Rock Ridge (5.5).
        of_root.extend(b"SP\x07\x01\xbe\xef\x00");
        of_root.extend(posix(0o040_555, 2));
        of_root.extend(b"ER\x12\x01\x0a\x00\x00\x01RRIP_1991A");
        of_parent.extend(posix(0o040_555, 2));
    }
    let mut bytes = record(&[0], itself, true, &of_root);
    bytes.extend(record(&[1], itself, true, &of_parent));
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = files
        .iter()
        .map(|Placed { file, block }| {
            let mut of_file = Vec::new();
            if rock_ridge {
                of_file.extend(posix(0o100_400, 1));
                of_file.extend([b'N', b'M', byte(5 + file.name.len()), 1, 0]);
                of_file.extend(file.name.as_bytes());
            }
            let name = tree.file_name(file.name);
            let place = (*block, number(file.contents.len()));
            let record = record(&name, place, false, &of_file);
            (name, record)
        })
        .collect();
    // In the order of their names (ECMA-119, 9.3).
    records.sort();
    bytes.extend(records.into_iter().flat_map(|(_, record)| record));
    debug_assert!(bytes.len() <= BLOCK, "a directory of more than one block");
    whole_blocks(bytes)
}

/// A directory record (ECMA-119, 9.1).
fn record(
    name: &[u8],
    (block, length): (u32, u32),
    is_directory: bool,
    system_use: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(both(block));
    bytes.extend(both(length));
    bytes.extend(DATE);
    bytes.extend([if is_directory { 2 } else { 0 }, 0, 0]);
    bytes.extend(both_short(1));
    bytes.push(byte(name.len()));
    bytes.extend(name);
    if name.len().is_multiple_of(2) {
        bytes.push(0);
    }
    bytes.extend(system_use);
    if !bytes.len().is_multiple_of(2) {
        bytes.push(0);
    }
    bytes[0] = byte(bytes.len());
    bytes
}

/// The mode, links, user and group of a file (RRIP, 4.1.1).
fn posix(mode: u32, links: u32) -> Vec<u8> {
    let mut bytes = b"PX\x24\x01".to_vec();
    for value in [mode, links, 0, 0] {
        bytes.extend(both(value));
    }
    bytes
}

/// A number in both byte orders (ECMA-119, 7.3.3).
fn both(value: u32) -> [u8; 8] {
    let [a, b, c, d] = value.to_le_bytes();
    [a, b, c, d, d, c, b, a]
}

/// The same with 16 bits (ECMA-119, 7.2.3).
fn both_short(value: u16) -> [u8; 4] {
    let [a, b] = value.to_le_bytes();
    [a, b, b, a]
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

fn whole_blocks(bytes: Vec<u8>) -> Vec<u8> {
    let length = bytes.len().next_multiple_of(BLOCK);
    padded(bytes, length)
}

fn padded(mut bytes: Vec<u8>, length: usize) -> Vec<u8> {
    bytes.resize(length, 0);
    bytes
}

/// A seed is far smaller than 4 GiB.
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Records and names are shorter than 256 bytes.
fn byte(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BIG: [u8; 5000] = [b'x'; 5000];

    fn sample() -> Vec<u8> {
        let file = |name, contents| File { name, contents };
        image(
            "cidata",
            &[file("meta-data", b"m: 1\n"), file("user-data", &BIG), file("empty", b"")],
        )
    }

    fn le(bytes: &[u8]) -> usize {
        bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    }

    /// The records of the root directory that a volume descriptor points to: name, contents, the system use field.
    fn read(image: &[u8], descriptor: usize) -> Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> {
        let root = &image[descriptor * BLOCK + 156..];
        let mut rest = &image[le(&root[2..6]) * BLOCK..][..le(&root[10..14])];
        let mut found = Vec::new();
        while rest[0] != 0 {
            let (record, after) = rest.split_at(usize::from(rest[0]));
            let (block, length) = (le(&record[2..6]), le(&record[10..14]));
            let name = record[33..33 + usize::from(record[32])].to_vec();
            let system = 33 + name.len() + usize::from(name.len().is_multiple_of(2));
            let contents = image[block * BLOCK..][..length].to_vec();
            found.push((name, contents, record[system..].to_vec()));
            rest = after;
        }
        found
    }

    #[test]
    fn both_trees_lead_to_the_files() {
        let image = sample();
        assert!(image.len().is_multiple_of(BLOCK));
        let size = le(&image[PRIMARY * BLOCK + 80..][..4]);
        assert_eq!(size * BLOCK, image.len(), "the volume's size");
        assert_eq!(&image[PRIMARY * BLOCK + 40..][..8], b"cidata  ");
        let primary = read(&image, PRIMARY);
        let names: Vec<&[u8]> = primary.iter().map(|(name, ..)| name.as_slice()).collect();
        assert_eq!(names, [b"\0".as_slice(), b"\x01", b"EMPTY.;1", b"METADATA.;1", b"USERDATA.;1"]);
        let long = |name: &[u8]| {
            primary.iter().any(|(.., system)| system.windows(name.len()).any(|part| part == name))
        };
        assert!(long(b"NM\x0e\x01\x00meta-data") && long(b"NM\x0e\x01\x00user-data"));
        let joliet = read(&image, JOLIET);
        let contents = |name: &str| {
            let found = joliet.iter().find(|(there, ..)| *there == utf16(name));
            found.map(|(_, contents, _)| contents.clone()).unwrap()
        };
        assert_eq!(contents("meta-data"), b"m: 1\n");
        assert_eq!(contents("user-data"), BIG);
        assert_eq!(contents("empty"), b"");
        assert_eq!(primary[4].1, BIG);
    }

    #[test]
    fn descriptors_end_with_a_terminator() {
        let image = sample();
        for (block, kind) in [(PRIMARY, 1), (JOLIET, 2), (TERMINATOR, 255)] {
            assert_eq!(image[block * BLOCK], kind);
            assert_eq!(&image[block * BLOCK + 1..][..5], b"CD001");
        }
        assert_eq!(le(&image[PATHS * BLOCK + 2..][..4]), ROOT);
    }
}
