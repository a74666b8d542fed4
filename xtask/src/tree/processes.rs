//! Processes with open files, some of them devices of the host.

use anyhow::Result;

use super::Tree;

/// The number of processes, and of open files per process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessCounts {
    /// Number of processes.
    pub processes: usize,
    /// Open files per process.
    pub files: usize,
}

/// One process in ten holds the render node of the first card.
const HOLDS: usize = 10;

/// Mappings of a typical program: its libraries.
const MAPPINGS: usize = 60;

pub fn write(tree: &mut Tree<'_>, counts: ProcessCounts) -> Result<()> {
    let mut maps = String::new();
    for library in 0..MAPPINGS {
        let from = 0x7f00_0000_0000_u64 + (library as u64) * 0x1_0000;
        maps += &format!(
            "{from:x}-{:x} r-xp 00000000 08:01 {library} /usr/lib/lib{library}.so\n",
            from + 0x8000
        );
    }
    for number in 0..counts.processes {
        let process = format!("proc/{}", 1000 + number);
        tree.folder(&format!("{process}/fd"))?;
        tree.file(&format!("{process}/comm"), "worker\n")?;
        tree.file(&format!("{process}/cgroup"), "0::/system.slice/work.service\n")?;
        tree.file(&format!("{process}/maps"), &maps)?;
        for file in 0..counts.files {
            let target = match file {
                0..3 => "/dev/null".to_owned(),
                3 if number % HOLDS == 0 => "/dev/dri/renderD128".to_owned(),
                _ if file % 2 == 0 => format!("socket:[{}]", 10_000 + number * 100 + file),
                _ => format!("/var/log/work/{number}-{file}.log"),
            };
            tree.link(&format!("{process}/fd/{file}"), &target)?;
        }
    }
    Ok(())
}
