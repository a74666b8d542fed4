//! The seed: a small read-only disk that configures the guest at its first boot, as cloud-init's NoCloud data source
//! expects it (<https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html>).

mod iso9660;

use model::Seed;

/// The volume's name, by which the guest finds it.
const LABEL: &str = "cidata";

/// The disk's contents.
#[must_use]
pub fn image(seed: &Seed) -> Vec<u8> {
    iso9660::image(
        LABEL,
        &[
            iso9660::File { name: "meta-data", contents: seed.meta_data.as_bytes() },
            iso9660::File { name: "user-data", contents: seed.user_data.as_bytes() },
            iso9660::File { name: "vendor-data", contents: seed.vendor_data.as_bytes() },
        ],
    )
}
