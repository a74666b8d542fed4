//! Extended attributes as they follow an inode.

/// The namespaces and their indexes (`EROFS_XATTR_INDEX_USER`, ...).
const NAMESPACES: [(&[u8], u8); 3] = [(b"user.", 1), (b"trusted.", 4), (b"security.", 6)];

/// Names that are known as a whole.
const WHOLE: [(&[u8], u8); 2] = [(b"system.posix_acl_access", 2), (b"system.posix_acl_default", 3)];

/// What overlayfs keeps of itself. An overlay over the image would follow it (`ovl_get_redirect`, `ovl_path_is_opaque`).
const OF_OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// The size of the header before the entries.
const HEADER: usize = 12;

/// The most bytes of all attributes of a file; Linux has at most 64 KiB in one.
const MOST: usize = 128 << 10;

/// Encodes attributes. Those of namespaces that Linux does not have (macOS's, for example) are left out, and those of overlayfs. `None`
/// if they are too large. Without attributes it is empty.
pub fn encode(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Option<Box<[u8]>> {
    let mut sorted: Vec<_> = xattrs.iter().collect();
    sorted.sort();
    let mut body = Vec::new();
    for (name, value) in sorted {
        if OF_OVERLAY.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let Some((index, name)) = indexed(name) else { continue };
        if body.is_empty() {
            body.resize(HEADER, 0);
        }
        body.extend([u8::try_from(name.len()).ok()?, index]);
        body.extend(u16::try_from(value.len()).ok()?.to_le_bytes());
        body.extend(name);
        body.extend(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    (body.len() <= MOST).then(|| body.into())
}

fn indexed(name: &[u8]) -> Option<(u8, &[u8])> {
    let whole = WHOLE.iter().find(|(known, _)| *known == name);
    let whole = whole.map(|(_, index)| (*index, [].as_slice()));
    whole.or_else(|| {
        NAMESPACES.iter().find_map(|(prefix, index)| {
            let rest = name.strip_prefix(*prefix)?;
            (!rest.is_empty() && !rest.contains(&0)).then_some((*index, rest))
        })
    })
}

/// The field `i_xattr_icount`.
pub fn count(body: &[u8]) -> u16 {
    let units = body.len().saturating_sub(HEADER) / 4;
    if body.is_empty() { 0 } else { u16::try_from(units + 1).unwrap_or(u16::MAX) }
}

/// How many bytes fit inline behind an inode with these attributes. An inline end may not cross into the next block.
pub fn room(body: &[u8]) -> u64 {
    super::BLOCK.saturating_sub((super::INODE + body.len()) as u64)
}

/// The attributes of an encoded body, sorted by their encoding.
#[cfg(test)]
pub fn decode(body: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let mut rest = body.get(HEADER..).unwrap_or_default();
    while let [name_length, index, low, high, after @ ..] = rest {
        let (name, value) =
            (usize::from(*name_length), usize::from(u16::from_le_bytes([*low, *high])));
        let prefix = NAMESPACES.iter().chain(&WHOLE).find(|(_, known)| known == index).unwrap().0;
        let full = [prefix, &after[..name]].concat();
        found.push((full, after[name..name + value].to_vec()));
        rest = &rest[(4 + name + value).next_multiple_of(4)..];
    }
    found
}
