//! The PAX records before an entry: what the fields of a header are too small for.

use crate::layer_problem::LayerProblem;

/// The prefix of an extended attribute.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What the records of one entry say.
#[derive(Debug, Default)]
pub struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    /// Seconds since 1970, and nanoseconds.
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Sparse,
}

/// What the records say of a sparse file.
#[derive(Debug, Default)]
pub struct Sparse {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    pub map: Option<Vec<u8>>,
    /// The form whose map is in repeated records.
    pub repeated: bool,
}

/// Reads records: `LENGTH KEY=VALUE\n`, where the length counts all of the record. Values can have any bytes.
pub fn parse(mut data: &[u8]) -> Result<Pax, LayerProblem> {
    let mut pax = Pax::default();
    while !data.is_empty() {
        let (record, rest) = record(data).ok_or(LayerProblem::BadRecord)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or(LayerProblem::BadRecord)?;
        let (key, value) = record.split_at(equals);
        let value = value.get(1..).unwrap_or_default();
        // An empty value takes back a record that describes all entries.
        if !value.is_empty() || key.starts_with(XATTR) {
            pax.set(key, value)?;
        }
        data = rest;
    }
    Ok(pax)
}

/// The first record without its length and line end, and what follows.
fn record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = data.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(data.get(..space)?)?).ok()?;
    let record = data.get(..length)?;
    let content = record.get(space + 1..)?.strip_suffix(b"\n")?;
    Some((content, data.get(length..)?))
}

/// A decimal number.
pub fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl Pax {
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), LayerProblem> {
        let count = || number(value).map(Some).ok_or(LayerProblem::BadRecord);
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = count()?,
            b"uid" => self.uid = count()?,
            b"gid" => self.gid = count()?,
            b"mtime" => self.mtime = Some(time(value).ok_or(LayerProblem::BadRecord)?),
            b"GNU.sparse.major" => self.sparse.major = count()?,
            b"GNU.sparse.minor" => self.sparse.minor = count()?,
            b"GNU.sparse.name" => self.sparse.name = Some(value.to_vec()),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse.real_size = count()?,
            b"GNU.sparse.map" => self.sparse.map = Some(value.to_vec()),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.repeated = true,
            key => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    // A later record of the same name counts.
                    self.xattrs.retain(|(known, _)| known != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// Seconds with a fraction, which can be negative.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(number(parts.next()?)?).ok()?;
    let mut digits = parts.next().unwrap_or_default().to_vec();
    digits.resize(9, b'0');
    let nanos = u32::try_from(number(&digits)?).ok()?;
    Some(match (negative, nanos) {
        (false, nanos) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, nanos) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_can_have_line_ends_and_zeros() {
        let value = b"\x01\n=\x00\n2";
        let mut data = b"".to_vec();
        let body = [b" SCHILY.xattr.security.capability=".as_slice(), value, b"\n"].concat();
        data.extend_from_slice(format!("{}", body.len() + 2).as_bytes());
        data.extend_from_slice(&body);
        data.extend_from_slice(b"19 mtime=-1.250000\n");
        let pax = parse(&data).unwrap();
        assert_eq!(pax.xattrs, [(b"security.capability".to_vec(), value.to_vec())]);
        assert_eq!(pax.mtime, Some((-2, 750_000_000)));
    }

    #[test]
    fn broken_records_are_refused() {
        for broken in
            ["7 a=b\n", "0 a=b\n", "6 a=b", "x a=b\n", "8 size=x\n", "99999999999999999999 a=b\n"]
        {
            assert!(parse(broken.as_bytes()).is_err(), "{broken:?}");
        }
    }
}
