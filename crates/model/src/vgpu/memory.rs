//! What the names and descriptions of vGPU profiles tell: the name that requests use, and the memory.

use crate::MdevType;
use crate::profile_name::own_name;

/// The memory of GPUs with vGPUs on virtual functions, in GiB, by the family of their profiles (NVIDIA, "Virtual GPU
/// Types for Supported GPUs"): the driver offers no file with it.
const BOARDS: [(&str, u64); 24] = [
    ("A2", 16),
    ("A10", 24),
    ("A16", 16),
    ("A30", 24),
    ("A40", 48),
    ("A100", 40),
    ("A100D", 80),
    ("A800", 40),
    ("A800D", 80),
    ("H20", 96),
    ("H100", 80),
    ("H100XM", 80),
    ("H200X", 141),
    ("L2", 24),
    ("L4", 24),
    ("L20", 48),
    ("L40", 48),
    ("L40S", 48),
    ("RTX5000-Ada", 32),
    ("RTX5880-Ada", 48),
    ("RTX6000-Ada", 48),
    ("RTXA5000", 24),
    ("RTXA5500", 24),
    ("RTXA6000", 48),
];

/// The memory of a type of mediated devices, in MiB: by its description, or by its name.
pub(super) fn memory_of(kind: &MdevType) -> Option<u64> {
    let described = kind.description.as_deref().and_then(framebuffer_in);
    described.or_else(|| framebuffer_of(kind.name.as_deref().unwrap_or(&kind.id)))
}

/// The memory in a description such as `num_heads=4, framebuffer=1024M`, in MiB.
fn framebuffer_in(description: &str) -> Option<u64> {
    let (_, rest) = description.split_once("framebuffer=")?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let (number, unit) = rest.split_at(end);
    let number: u64 = number.parse().ok()?;
    if unit.starts_with('G') { number.checked_mul(1024) } else { Some(number) }
}

/// The memory in NVIDIA's name of a profile, in MiB: `L40S-4Q` has 4 GiB, `M60-0Q` has 512 MiB.
pub(super) fn framebuffer_of(name: &str) -> Option<u64> {
    let (_, size) = own_name(name).rsplit_once('-')?;
    let end = size.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, series) = size.split_at(end);
    let number: u64 = number.parse().ok().filter(|_| series.starts_with(char::is_uppercase))?;
    if number == 0 { Some(512) } else { number.checked_mul(1024) }
}

/// Whether a profile is for a GPU in MIG mode, whose instances each have their own memory: `A100-1-5C`.
pub(super) fn is_on_mig(name: &str) -> bool {
    let family = own_name(name).rsplit_once('-').map_or("", |(family, _)| family);
    family.rsplit_once('-').is_some_and(|(_, slices)| slices.parse::<u8>().is_ok())
}

/// The memory of the GPU that offers this profile, in MiB, if it is known.
pub(super) fn memory_of_board(name: &str) -> Option<u64> {
    let (family, _) = own_name(name).rsplit_once('-')?;
    let board = BOARDS.iter().find(|(known, _)| *known == family);
    board.map(|(_, memory)| memory * 1024)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_memory_of_a_profile() {
        for (name, memory) in [
            ("NVIDIA L40S-1Q", Some(1024)),
            ("GRID T4-2B4", Some(2048)),
            ("M60-0Q", Some(512)),
            ("NVIDIA A100-1-5C", Some(5120)),
            ("i915-GVTg_V5_4", None),
            ("L40S", None),
            ("L40S-", None),
            ("L40S-Q", None),
            ("L40S-99999999999999999999Q", None),
        ] {
            assert_eq!(framebuffer_of(name), memory, "{name}");
        }
        assert_eq!(
            framebuffer_in("num_heads=4, frl_config=60, framebuffer=8192M, x=y"),
            Some(8192)
        );
        assert_eq!(framebuffer_in("framebuffer=2G"), Some(2048));
        assert_eq!(framebuffer_in("low_gm_size: 128MB"), None);
        assert!(is_on_mig("NVIDIA A100-1-5C") && !is_on_mig("NVIDIA L40S-1Q"));
    }

    #[test]
    fn each_board_is_listed_once() {
        let names: BTreeSet<&str> = BOARDS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), BOARDS.len());
    }
}
