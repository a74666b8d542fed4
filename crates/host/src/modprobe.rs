//! modprobe's configuration (modprobe.d(5)).

use crate::root::Root;

/// Its directories, by precedence: a file hides files of the same name in later directories.
pub const DIRECTORIES: [&str; 5] = [
    "etc/modprobe.d",
    "run/modprobe.d",
    "usr/local/lib/modprobe.d",
    "usr/lib/modprobe.d",
    "lib/modprobe.d",
];

/// The most that is read of a file.
const LONGEST: usize = 1 << 20;

/// The lines of all its files.
pub fn lines(root: &Root) -> Vec<String> {
    let mut lines = Vec::new();
    for directory in DIRECTORIES {
        for file in root.names(directory).unwrap_or_default() {
            if file.ends_with(".conf") {
                let text = root.bytes(&format!("{directory}/{file}"), LONGEST).unwrap_or_default();
                lines.extend(String::from_utf8_lossy(&text).lines().map(str::to_owned));
            }
        }
    }
    lines
}
