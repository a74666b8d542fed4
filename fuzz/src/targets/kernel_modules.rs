//! What an image says about a kernel's modules: the files of `depmod` and `modprobe.d`, and compressed modules.

use kernel_modules::{Index, Settings, Texts, decompressed};

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "kernel_modules",
    reads: "a kernel's modules: the files of depmod and modprobe.d, compressed modules",
    read,
    words: &[
        "kernel/a.ko: kernel/b.ko.xz\n",
        "softdep a pre: b post: c\n",
        "alias pci:v*d[0-9]*sv* a\n",
        "blacklist a\n",
        "options a b=1\n",
        "\u{0}",
        "*",
        "[",
        "]",
        "-",
    ],
    longest: 1 << 13,
};

/// The largest module.
const MOST: usize = 1 << 20;

fn read(bytes: &[u8]) -> Kind {
    let text = String::from_utf8_lossy(bytes);
    let parts: Vec<&str> = text.split('\0').collect();
    let part = |number: usize| parts.get(number).copied().unwrap_or_default();
    let texts = Texts { dep: part(0), softdep: part(1), alias: part(2), builtin: part(3) };
    let index = Index::new(&texts);
    let order = index.with_dependencies("a").unwrap_or_default();
    let unique: std::collections::BTreeSet<&String> = order.iter().collect();
    assert_eq!(unique.len(), order.len(), "a module is loaded twice");
    let found = index.for_device("pci:v000010DEd00002330sv000010DE").len();
    let mut settings = Settings::default();
    settings.read(&text);
    assert!(!settings.options("a").contains('\n'));
    let mut kind = Kind::of("modules").and(order.len()).and(found);
    for name in ["m.ko.gz", "m.ko.xz", "m.ko.zst"] {
        let module = decompressed(name, bytes.to_vec(), MOST);
        assert!(module.as_ref().is_ok_and(|module| module.len() <= MOST) || module.is_err());
        kind = kind.with(Kind::of_result(&module.map(|_| "decompressed")));
    }
    kind
}
