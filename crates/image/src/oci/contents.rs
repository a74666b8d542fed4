//! What is in the file system of an image: kernels, modules, NVIDIA's driver. And single files of it.

use std::cmp::Ordering;
use std::fs::File;
use std::io;
use std::path::Path;

use model::{ContainerContents, ImageKernel, NvidiaModule};

use super::ContainerError;
use crate::budget::Allowance;
use crate::erofs::{Found, FoundKind, Image};
use crate::target::Target;
use crate::{Cancel, ImageError};

/// How deep directories of modules and libraries are searched.
const DEPTH: usize = 12;

/// The most modules, or libraries, that are looked at.
const MOST: usize = 100_000;

/// The largest module that is read.
const LARGEST_MODULE: u64 = 512 << 20;

/// Where libraries are, besides what is below them.
const LIBRARIES: [&str; 4] = ["usr/lib", "usr/lib64", "usr/local/lib", "usr/local/nvidia"];

/// The suffixes of modules.
const MODULES: [&str; 4] = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"];

/// What is in a file system.
pub fn of(image: &Image) -> io::Result<ContainerContents> {
    let mut contents = ContainerContents::default();
    // `/lib` is a link to `usr/lib` today, and was a directory of its own.
    let above = ["usr/lib/modules", "lib/modules"];
    let above =
        above.iter().find_map(|path| directory(image, path).transpose().map(|found| (path, found)));
    if let Some((path, found)) = above {
        let dir = found?;
        for (name, nid) in image.list(&dir)? {
            let Ok(version) = String::from_utf8(name) else { continue };
            let below = image.get(nid)?;
            if below.kind == FoundKind::Directory {
                modules_of(image, &format!("/{path}/{version}"), &version, &below, &mut contents)?;
            }
        }
    }
    if let Some(boot) = directory(image, "boot")? {
        for (name, nid) in image.list(&boot)? {
            let Ok(name) = String::from_utf8(name) else { continue };
            let Some(version) = name.strip_prefix("vmlinuz") else { continue };
            if image.get(nid)?.kind == FoundKind::File {
                let version = version.trim_start_matches('-').to_owned();
                let path = format!("/boot/{name}");
                contents.kernels.push(ImageKernel { path, version, has_modules: false });
            }
        }
    }
    contents.modules.sort();
    contents.kernels.sort_by(|one, other| by_numbers(&other.version, &one.version));
    for kernel in &mut contents.kernels {
        kernel.has_modules = contents.modules.contains(&kernel.version);
    }
    contents.nvidia_libraries = libraries(image)?;
    Ok(contents)
}

/// Compares versions: `6.1.0-10` comes after `6.1.0-9`.
fn by_numbers(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one, other);
    while !one.is_empty() && !other.is_empty() {
        let (first, rest) = leading(one);
        let (second, rest_of_other) = leading(other);
        let numbers = first.parse::<u64>().ok().zip(second.parse::<u64>().ok());
        let order = numbers.map_or_else(|| first.cmp(second), |(first, second)| first.cmp(&second));
        if order != Ordering::Equal {
            return order;
        }
        (one, other) = (rest, rest_of_other);
    }
    one.len().cmp(&other.len())
}

/// The digits, or the other characters, that a text begins with, and the rest.
fn leading(text: &str) -> (&str, &str) {
    let is_digit = text.starts_with(|first: char| first.is_ascii_digit());
    let end = text.find(|next: char| next.is_ascii_digit() != is_digit);
    text.split_at(end.unwrap_or(text.len()))
}

fn directory(image: &Image, path: &str) -> io::Result<Option<Found>> {
    Ok(image.find(path.as_bytes())?.filter(|found| found.kind == FoundKind::Directory))
}

/// Looks at the modules of one kernel.
fn modules_of(
    image: &Image,
    path: &str,
    version: &str,
    dir: &Found,
    contents: &mut ContainerContents,
) -> io::Result<()> {
    let mut has_modules = false;
    walk(image, path, dir, &mut |path, name, found| {
        if name == "vmlinuz"
            && path == format!("{}/vmlinuz", path_above(path))
            && found.kind == FoundKind::File
        {
            let (path, version) = (path.to_owned(), version.to_owned());
            contents.kernels.push(ImageKernel { path, version, has_modules: false });
        }
        if !MODULES.iter().any(|suffix| name.ends_with(suffix)) {
            return Ok(());
        }
        has_modules = true;
        // Distributions rename it: `nvidia.ko`, `nvidia-current.ko`.
        let stem = name.split(".ko").next().unwrap_or_default();
        if (stem == "nvidia" || stem == "nvidia-current") && found.kind == FoundKind::File {
            let about = if Path::new(name).extension().is_some_and(|end| end == "ko") {
                about_module(image, found)?
            } else {
                (None, None)
            };
            contents.nvidia_modules.push(NvidiaModule {
                path: path.to_owned(),
                kernel: version.to_owned(),
                version: about.0,
                open: about.1,
            });
        }
        Ok(())
    })?;
    if has_modules {
        contents.modules.push(version.to_owned());
    }
    Ok(())
}

fn path_above(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}

type Visit<'a> = &'a mut dyn FnMut(&str, &str, &Found) -> io::Result<()>;

/// Visits all below a directory in the order of names; links are not followed.
fn walk(image: &Image, path: &str, dir: &Found, visit: Visit<'_>) -> io::Result<()> {
    let mut left = MOST;
    let mut rest = vec![(path.to_owned(), dir.clone(), 0)];
    while let Some((path, dir, depth)) = rest.pop() {
        for (name, nid) in image.list(&dir)? {
            left = left.saturating_sub(1);
            let Ok(name) = String::from_utf8(name) else { continue };
            let found = image.get(nid)?;
            let path = format!("{path}/{name}");
            if found.kind != FoundKind::Directory {
                visit(&path, &name, &found)?;
            } else if depth < DEPTH && left > 0 {
                rest.push((path, found, depth + 1));
            }
        }
    }
    Ok(())
}

/// The version of NVIDIA's module and whether it is the open one, from its section `.modinfo`.
fn about_module(image: &Image, module: &Found) -> io::Result<(Option<String>, Option<bool>)> {
    if module.size > LARGEST_MODULE {
        return Ok((None, None));
    }
    let (mut version, mut license) = (None, None);
    let mut window: Vec<u8> = Vec::new();
    image.read(module, &mut |chunk| {
        window.extend_from_slice(chunk);
        version = version.take().or_else(|| field(&window, b"\0version="));
        license = license.take().or_else(|| field(&window, b"\0license="));
        // A field can begin in one part and end in the next.
        let keep = window.len().saturating_sub(256);
        window.drain(..keep);
        Ok(())
    })?;
    // The closed one says "NVIDIA", the open one "Dual MIT/GPL" (`MODULE_LICENSE` in nvidia/nv.c).
    Ok((version, license.map(|license| license != "NVIDIA")))
}

/// The text after a key, up to the next zero.
fn field(bytes: &[u8], key: &[u8]) -> Option<String> {
    let at = bytes.windows(key.len()).position(|window| window == key)? + key.len();
    let text = bytes.get(at..)?;
    let end = text.iter().take(64).position(|byte| *byte == 0)?;
    String::from_utf8(text.get(..end)?.to_vec()).ok()
}

/// The version of the driver that the libraries belong to.
fn libraries(image: &Image) -> io::Result<Option<String>> {
    let mut best: Option<String> = None;
    for path in LIBRARIES {
        let Some(dir) = directory(image, path)? else { continue };
        walk(image, path, &dir, &mut |_, name, _| {
            let version = ["libcuda.so.", "libnvidia-ml.so."]
                .iter()
                .find_map(|prefix| name.strip_prefix(*prefix))
                // `libcuda.so.1` is a link; the file has the driver's version.
                .filter(|version| version.contains('.'));
            if let Some(version) = version {
                best.get_or_insert_with(|| version.to_owned());
            }
            Ok(())
        })?;
    }
    Ok(best)
}

/// Copies one file of a file system to a new file of ours, synced to disk.
pub fn extract(
    image: &Image,
    path: &str,
    to: &Path,
    allowance: Allowance,
    cancel: &Cancel,
) -> Result<u64, ImageError> {
    let no_file = || ContainerError::NoFile { path: model::shown::escaped(path).into_owned() };
    let reading = |error| ImageError::io("read", "the file system of the image", error);
    let found = image.find(path.as_bytes()).map_err(reading)?;
    let found = found.filter(|found| found.kind == FoundKind::File).ok_or_else(no_file)?;
    let mut target = Target::create(to, crate::copy::MODE, allowance)?;
    let mut failed = None;
    let read = image.read(&found, &mut |chunk| {
        let written = cancel.check().and_then(|()| target.write(chunk));
        written.map_err(|error| {
            failed = Some(error);
            io::ErrorKind::Other.into()
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    read.map_err(reading)?;
    target.sync()?;
    Ok(found.size)
}

/// Hands all modules for one kernel to `take`: the path below the directory of modules, and the bytes as they are in the image
/// (possibly compressed). Also the files that list them (`modules.dep`, ...).
pub fn modules(
    image: &Image,
    version: &str,
    take: &mut dyn FnMut(&str, Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    let paths = [format!("usr/lib/modules/{version}"), format!("lib/modules/{version}")];
    for path in &paths {
        let Some(dir) = directory(image, path)? else { continue };
        return walk(image, "", &dir, &mut |path, name, found| {
            let is_module = MODULES.iter().any(|suffix| name.ends_with(suffix));
            if found.kind != FoundKind::File || !(is_module || name.starts_with("modules.")) {
                return Ok(());
            }
            take(path.trim_start_matches('/'), image.whole(found)?)
        });
    }
    Ok(())
}

/// Opens a file system image.
pub fn open(path: &Path) -> Result<Image, ImageError> {
    let opened = File::open(path).and_then(Image::open);
    opened.map_err(|error| ImageError::io("read", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_comes_first() {
        let ordered = ["6.1.0-9-amd64", "6.1.0-10-amd64", "6.9", "6.12", "6.12.1", "6.12.57+deb13"];
        for pair in ordered.windows(2) {
            assert_eq!(by_numbers(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(by_numbers(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(by_numbers("", "a"), Ordering::Less);
        assert_eq!(by_numbers("99999999999999999999", "1"), Ordering::Greater);
    }
}
