//! The header of a qcow2 image.

use image::qcow2::read as header;

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "qcow2",
    reads: "the header of a qcow2 image",
    read,
    words: &[
        "QFI\u{1}",
        "\u{0}\u{0}\u{0}\u{3}",
        "\u{0}\u{0}\u{0}\u{2}",
        "\u{0}\u{0}\u{0}\u{10}",
        "\u{0}\u{0}\u{0}p",
    ],
    longest: 512,
};

fn read(bytes: &[u8]) -> Kind {
    let read = header(bytes);
    match &read {
        Ok(found) => {
            let all_zero = |from: usize, to: usize| {
                bytes.iter().skip(from).take(to - from).all(|byte| *byte == 0)
            };
            assert!(all_zero(8, 20), "an image with a backing file is accepted");
            assert!(all_zero(32, 36), "an encrypted image is accepted");
            let version = bytes.get(7).copied();
            assert!(
                version != Some(3) || bytes.get(79).is_some_and(|bits| bits & 0b110 == 0),
                "an external data file"
            );
            assert!((1..=1 << 50).contains(&found.virtual_size));
        }
        Err(error) => assert!(!error.remedy().is_empty()),
    }
    Kind::of_result(&read.map(|_| "accepted"))
}
