//! Parses the header of a qcow2 image: only the fields that decide whether it may be attached to a machine.
//!
//! The layout is in QEMU's `docs/interop/qcow2.rst`, "Header". QEMU reads the rest of the file itself, as the machine's
//! user; the header must not make it open another file of the host.

/// The number of bytes that are parsed: version 3's header with its one optional field.
pub const HEADER_LENGTH: usize = 112;

/// The largest virtual size; sums of sizes stay far from an overflow.
const LARGEST_DISK: u64 = 1 << 50;

/// Bits of `incompatible_features`; a reader must refuse unknown bits.
mod incompatible {
    pub const DIRTY: u64 = 1 << 0;
    pub const CORRUPT: u64 = 1 << 1;
    pub const EXTERNAL_DATA: u64 = 1 << 2;
    pub const COMPRESSION_TYPE: u64 = 1 << 3;
    pub const EXTENDED_L2: u64 = 1 << 4;
    pub const KNOWN: u64 = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2;
}

/// The header of an acceptable image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The size that a guest sees, in bytes.
    pub virtual_size: u64,
}

/// Why a header is not acceptable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No qcow2 header.
    #[error("it does not begin with a qcow2 header")]
    NotQcow2,
    /// The header is incomplete.
    #[error("its header is truncated")]
    Short,
    /// An unsupported version.
    #[error("it has qcow2 version {0}; versions 2 and 3 are supported")]
    Version(u32),
    /// It needs a backing file.
    #[error("it has a backing file, which would be another file of this host")]
    BackingFile,
    /// It needs a data file.
    #[error("it has an external data file, which would be another file of this host")]
    ExternalData,
    /// It is encrypted.
    #[error("it is encrypted")]
    Encrypted,
    /// It is marked as corrupt.
    #[error("it is marked as corrupt")]
    Corrupt,
    /// Unknown incompatible features.
    #[error("it needs unknown qcow2 features (incompatible bits {0:#x})")]
    UnknownFeatures(u64),
    /// The virtual size is 0 or too large.
    #[error("invalid virtual size: {0} bytes")]
    Size(u64),
    /// Another invalid field.
    #[error("invalid header: {0}")]
    Invalid(&'static str),
}

impl HeaderError {
    /// The remedy.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::BackingFile | Self::ExternalData => {
                "convert it to a single file: qemu-img convert -O qcow2 IMAGE FLAT.qcow2"
            }
            Self::Encrypted => "decrypt it first: qemu-img convert -O qcow2, with the secret",
            Self::Corrupt => "repair it: qemu-img check -r all IMAGE",
            Self::NotQcow2 => "give the right format; a plain disk image is `raw`",
            Self::UnknownFeatures(_) | Self::Version(_) => {
                "convert it: qemu-img convert -O qcow2 -o compat=1.1 IMAGE NEW.qcow2"
            }
            Self::Short | Self::Size(_) | Self::Invalid(_) => {
                "check it with `qemu-img info` and `qemu-img check`; it may be truncated"
            }
        }
    }
}

/// Parses a header, and refuses images that need another file.
///
/// # Errors
/// Why the image is refused.
pub fn read(bytes: &[u8]) -> Result<Header, HeaderError> {
    let fields = Fields(bytes);
    if !bytes.starts_with(b"QFI\xfb") {
        return Err(HeaderError::NotQcow2);
    }
    let version = fields.u32(4)?;
    if version != 2 && version != 3 {
        return Err(HeaderError::Version(version));
    }
    if fields.u64(8)? != 0 || fields.u32(16)? != 0 {
        return Err(HeaderError::BackingFile);
    }
    let cluster_bits = fields.u32(20)?;
    if !(9..=21).contains(&cluster_bits) {
        return Err(HeaderError::Invalid("the cluster size is not between 512 bytes and 2 MiB"));
    }
    let virtual_size = fields.u64(24)?;
    if virtual_size == 0 || virtual_size > LARGEST_DISK {
        return Err(HeaderError::Size(virtual_size));
    }
    if fields.u32(32)? != 0 {
        return Err(HeaderError::Encrypted);
    }
    let cluster = 1u64 << cluster_bits;
    if !fields.u64(40)?.is_multiple_of(cluster) || !fields.u64(48)?.is_multiple_of(cluster) {
        return Err(HeaderError::Invalid("the tables do not begin on a cluster"));
    }
    if version == 3 {
        read_version_3(&fields, cluster)?;
    }
    Ok(Header { virtual_size })
}

/// Checks the fields that only version 3 has.
fn read_version_3(fields: &Fields<'_>, cluster: u64) -> Result<(), HeaderError> {
    let features = fields.u64(72)?;
    let unknown = features & !incompatible::KNOWN;
    if unknown != 0 {
        return Err(HeaderError::UnknownFeatures(unknown));
    }
    if features & incompatible::EXTERNAL_DATA != 0 {
        return Err(HeaderError::ExternalData);
    }
    if features & incompatible::CORRUPT != 0 {
        return Err(HeaderError::Corrupt);
    }
    let length = u64::from(fields.u32(100)?);
    if length < 104 || length > cluster || !length.is_multiple_of(8) {
        return Err(HeaderError::Invalid("the header length is invalid"));
    }
    if features & incompatible::COMPRESSION_TYPE != 0 && (length < 112 || fields.u8(104)? > 1) {
        return Err(HeaderError::Invalid("the compression is neither zlib nor zstd"));
    }
    Ok(())
}

/// Big-endian numbers at fixed places.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn at<const N: usize>(&self, offset: usize) -> Result<[u8; N], HeaderError> {
        self.0
            .get(offset..)
            .and_then(|rest| rest.first_chunk::<N>())
            .copied()
            .ok_or(HeaderError::Short)
    }

    fn u8(&self, offset: usize) -> Result<u8, HeaderError> {
        self.at::<1>(offset).map(|[byte]| byte)
    }

    fn u32(&self, offset: usize) -> Result<u32, HeaderError> {
        self.at(offset).map(u32::from_be_bytes)
    }

    fn u64(&self, offset: usize) -> Result<u64, HeaderError> {
        self.at(offset).map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An acceptable header of version 3, 64 KiB clusters, 1 GiB.
    fn header() -> Vec<u8> {
        let mut bytes = vec![0; HEADER_LENGTH];
        bytes[..4].copy_from_slice(b"QFI\xfb");
        put(&mut bytes, 4, &3u32.to_be_bytes());
        put(&mut bytes, 20, &16u32.to_be_bytes());
        put(&mut bytes, 24, &(1u64 << 30).to_be_bytes());
        put(&mut bytes, 40, &0x30000u64.to_be_bytes());
        put(&mut bytes, 48, &0x10000u64.to_be_bytes());
        put(&mut bytes, 100, &112u32.to_be_bytes());
        bytes
    }

    fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
        bytes[offset..offset + value.len()].copy_from_slice(value);
    }

    fn with(offset: usize, value: &[u8]) -> Result<Header, HeaderError> {
        let mut bytes = header();
        put(&mut bytes, offset, value);
        read(&bytes)
    }

    #[test]
    fn a_plain_image_is_taken_in_both_versions() {
        assert_eq!(read(&header()).unwrap().virtual_size, 1 << 30);
        let mut old = header();
        put(&mut old, 4, &2u32.to_be_bytes());
        assert_eq!(read(&old[..72]).unwrap().virtual_size, 1 << 30);
    }

    #[test]
    fn references_to_other_files_are_refused() {
        assert_eq!(with(8, &8192u64.to_be_bytes()), Err(HeaderError::BackingFile));
        assert_eq!(with(16, &7u32.to_be_bytes()), Err(HeaderError::BackingFile));
        assert_eq!(with(72, &4u64.to_be_bytes()), Err(HeaderError::ExternalData));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert_eq!(
            with(72, &(1u64 << 40).to_be_bytes()),
            Err(HeaderError::UnknownFeatures(1 << 40))
        );
        assert_eq!(with(72, &2u64.to_be_bytes()), Err(HeaderError::Corrupt));
        assert_eq!(with(32, &2u32.to_be_bytes()), Err(HeaderError::Encrypted));
        assert_eq!(with(24, &u64::MAX.to_be_bytes()), Err(HeaderError::Size(u64::MAX)));
        assert_eq!(with(24, &0u64.to_be_bytes()), Err(HeaderError::Size(0)));
        assert_eq!(with(4, &4u32.to_be_bytes()), Err(HeaderError::Version(4)));
        assert_eq!(with(0, b"KDMV"), Err(HeaderError::NotQcow2));
        assert!(with(20, &63u32.to_be_bytes()).is_err());
        assert_eq!(read(&header()[..90]), Err(HeaderError::Short));
    }

    #[test]
    fn a_dirty_image_and_zstd_are_fine() {
        assert!(with(72, &1u64.to_be_bytes()).is_ok());
        let mut zstd = header();
        put(&mut zstd, 72, &8u64.to_be_bytes());
        zstd[104] = 1;
        assert!(read(&zstd).is_ok());
        zstd[104] = 2;
        assert!(read(&zstd).is_err());
    }

    proptest! {
        #[test]
        fn no_header_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn no_change_of_a_good_header_panics_or_lets_a_backing_file_in(
            changes in proptest::collection::vec((0..HEADER_LENGTH, any::<u8>()), 0..12),
        ) {
            let mut bytes = header();
            for (offset, value) in changes {
                bytes[offset] = value;
            }
            if let Ok(header) = read(&bytes) {
                prop_assert!(bytes[8..20].iter().all(|byte| *byte == 0));
                prop_assert!(header.virtual_size <= LARGEST_DISK);
            }
        }
    }
}
