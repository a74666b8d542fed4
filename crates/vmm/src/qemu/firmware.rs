//! UEFI firmware, found by QEMU's descriptors (docs/interop/firmware.json in QEMU's source): distributions put the files
//! in different places, and move them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use model::{Firmware, LaunchError};
use serde::Deserialize;

/// The directories of descriptors, the most important first. A file hides those of its name in the later ones.
const DIRS: [&str; 2] = ["etc/qemu/firmware", "usr/share/qemu/firmware"];

/// The largest descriptor that is read, in bytes.
const LONGEST: u64 = 64 * 1024;

/// The command that installs it.
const INSTALL: &str = "apt install ovmf";

/// A build of the firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// The code, which all machines share.
    pub code: PathBuf,
    /// The file of which a machine gets a copy for its variables (NVRAM).
    pub template: PathBuf,
}

/// What a build is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Without System Management Mode, so without Secure Boot.
    Plain,
    /// With Secure Boot and enrolled keys. System Management Mode protects its variables against the guest's kernel.
    Secure,
}

impl Kind {
    /// The kind of UEFI that a machine has; `None` if it has a BIOS.
    pub fn of(firmware: Firmware) -> Option<Self> {
        match firmware {
            Firmware::Bios => None,
            Firmware::Uefi => Some(Self::Plain),
            Firmware::UefiSecure => Some(Self::Secure),
        }
    }

    /// Whether a build with these features (QEMU's words) is of this kind.
    fn fits(self, features: &[String]) -> bool {
        let has = |name: &str| features.iter().any(|feature| feature == name);
        match self {
            Self::Plain => !has("requires-smm"),
            Self::Secure => ["secure-boot", "enrolled-keys", "requires-smm"].into_iter().all(has),
        }
    }

    /// Words for messages.
    fn shown(self) -> &'static str {
        match self {
            Self::Plain => "UEFI firmware",
            Self::Secure => "UEFI firmware with Secure Boot and enrolled keys",
        }
    }
}

/// The first suitable build of this kind: for q35, in raw files. With the length of a machine's NVRAM, only a build whose
/// template has the same length: another layout would not find the variables.
pub fn find(root: &Path, kind: Kind, nvram: Option<u64>) -> Result<Build, LaunchError> {
    let builds: Vec<Build> =
        descriptors(root).iter().filter_map(|text| build(root, kind, text)).collect();
    let fits = |build: &&Build| {
        let length = fs::metadata(&build.template).map(|file| file.len());
        nvram.is_none_or(|nvram| length.is_ok_and(|length| length == nvram))
    };
    if let Some(build) = builds.iter().find(fits) {
        return Ok(build.clone());
    }
    let shown = kind.shown();
    let reason = match nvram.filter(|_| !builds.is_empty()) {
        Some(bytes) => format!(
            "no installed {shown} has variables of {bytes} bytes, as this machine's NVRAM has; the one it was made with \
             was removed"
        ),
        None => format!("no {shown} is installed (no descriptor in /usr/share/qemu/firmware)"),
    };
    Err(LaunchError::Unavailable { reason, remedy: INSTALL.into() })
}

/// The texts of all descriptors, in the order of their names.
fn descriptors(root: &Path) -> Vec<String> {
    let mut files = BTreeMap::new();
    for dir in DIRS {
        let entries = fs::read_dir(root.join(dir)).into_iter().flatten().flatten();
        for entry in
            entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "json"))
        {
            files.entry(entry.file_name()).or_insert_with(|| entry.path());
        }
    }
    let text = |path: &PathBuf| {
        let short = fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= LONGEST);
        short.then(|| fs::read_to_string(path).ok()).flatten()
    };
    files.values().filter_map(text).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Descriptor {
    interface_types: Vec<String>,
    mapping: Mapping,
    targets: Vec<Target>,
    #[serde(default)]
    features: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mapping {
    device: String,
    #[serde(default)]
    mode: Option<String>,
    executable: Option<Image>,
    nvram_template: Option<Image>,
}

#[derive(Deserialize)]
struct Image {
    filename: PathBuf,
    format: String,
}

#[derive(Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

/// The build of a descriptor, if it is suitable and its files exist. An empty descriptor hides others and is none.
fn build(root: &Path, kind: Kind, text: &str) -> Option<Build> {
    let descriptor: Descriptor = serde_json::from_str(text).ok()?;
    let Descriptor { interface_types, mapping, targets, features } = descriptor;
    let uefi = interface_types.iter().any(|kind| kind == "uefi");
    let split = mapping.device == "flash" && mapping.mode.is_none_or(|mode| mode == "split");
    let q35 = targets.iter().any(|target| {
        let q35 = |pattern: &String| {
            pattern.starts_with("pc-q35-") || pattern == "pc-*" || pattern == "*"
        };
        target.architecture == "x86_64" && target.machines.iter().any(q35)
    });
    if !uefi || !split || !q35 || !kind.fits(&features) {
        return None;
    }
    let raw = |image: Option<Image>| {
        let image = image.filter(|image| image.format == "raw")?;
        let path = root.join(image.filename.strip_prefix("/").ok()?);
        path.is_file().then_some(path)
    };
    Some(Build { code: raw(mapping.executable)?, template: raw(mapping.nvram_template)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn descriptor(code: &str, vars: &str) -> Value {
        json!({
            "description": "UEFI", "interface-types": ["uefi"], "tags": [],
            "mapping": {
                "device": "flash",
                "executable": {"filename": code, "format": "raw"},
                "nvram-template": {"filename": vars, "format": "raw"},
            },
            "targets": [{"architecture": "x86_64", "machines": ["pc-i440fx-*", "pc-q35-*"]}],
            "features": ["acpi-s3", "verbose-dynamic"],
        })
    }

    fn root(files: &[(&str, String)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const CODE: &str = "usr/share/OVMF/OVMF_CODE_4M.fd";
    const VARS: &str = "usr/share/OVMF/OVMF_VARS_4M.fd";

    #[test]
    fn the_first_suitable_build_is_taken() {
        let mut smm =
            descriptor("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd");
        smm["features"] = json!(["requires-smm", "secure-boot"]);
        let mut qcow2 =
            descriptor("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd");
        qcow2["mapping"]["executable"]["format"] = json!("qcow2");
        let gone = descriptor("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd");
        let right =
            descriptor("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd");
        let dir = "usr/share/qemu/firmware";
        let host = root(&[
            (&format!("{dir}/10-smm.json"), smm.to_string()),
            (&format!("{dir}/20-qcow2.json"), qcow2.to_string()),
            (&format!("{dir}/30-gone.json"), gone.to_string()),
            (&format!("{dir}/40-garbage.json"), "{".into()),
            (&format!("{dir}/60-right.json"), right.to_string()),
            (CODE, "code".into()),
            (VARS, "vars".into()),
        ]);
        let found = find(host.path(), Kind::Plain, None).unwrap();
        assert_eq!(found.code, host.path().join(CODE));
        assert_eq!(found.template, host.path().join(VARS));
    }

    #[test]
    fn an_empty_file_hides_a_descriptor() {
        let right =
            descriptor("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd");
        let host = root(&[
            ("usr/share/qemu/firmware/60-right.json", right.to_string()),
            ("etc/qemu/firmware/60-right.json", String::new()),
            (CODE, "code".into()),
            (VARS, "vars".into()),
        ]);
        let error = find(host.path(), Kind::Plain, None).unwrap_err();
        assert!(error.to_string().contains("no UEFI firmware is installed"), "{error}");
    }

    #[test]
    fn a_machine_keeps_the_layout_of_its_variables() {
        let small = descriptor("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd");
        let right =
            descriptor("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd");
        let host = root(&[
            ("usr/share/qemu/firmware/50-small.json", small.to_string()),
            ("usr/share/qemu/firmware/60-right.json", right.to_string()),
            ("usr/share/OVMF/OVMF_CODE.fd", "code".into()),
            ("usr/share/OVMF/OVMF_VARS.fd", "va".into()),
            (CODE, "code".into()),
            (VARS, "vars".into()),
        ]);
        assert_eq!(
            find(host.path(), Kind::Plain, Some(4)).unwrap().template,
            host.path().join(VARS)
        );
        let error = find(host.path(), Kind::Plain, Some(9)).unwrap_err();
        assert!(error.to_string().contains("variables of 9 bytes"), "{error}");
    }

    #[test]
    fn secure_boot_needs_smm_and_enrolled_keys() {
        let dir = "usr/share/qemu/firmware";
        let with = |name: &str, features: Value| {
            let mut one = descriptor(&format!("/{name}.fd"), "/usr/share/OVMF/OVMF_VARS_4M.fd");
            one["features"] = features;
            (format!("{dir}/{name}.json"), one.to_string())
        };
        let smm = "requires-smm";
        let all = [
            with("10-plain", json!(["acpi-s3"])),
            with("20-no-keys", json!([smm, "secure-boot"])),
            with("30-no-smm", json!(["enrolled-keys", "secure-boot"])),
            with("40-right", json!(["acpi-s3", "enrolled-keys", smm, "secure-boot"])),
        ];
        let mut files: Vec<(&str, String)> =
            all.iter().map(|(path, text)| (path.as_str(), text.clone())).collect();
        files.push((VARS, "vars".into()));
        let names = ["10-plain", "20-no-keys", "30-no-smm", "40-right"];
        let codes = names.map(|name| format!("{name}.fd"));
        files.extend(codes.iter().map(|code| (code.as_str(), "code".to_owned())));
        let host = root(&files);
        let found = find(host.path(), Kind::Secure, None).unwrap();
        assert_eq!(found.code, host.path().join("40-right.fd"));
        let error = find(host.path(), Kind::Secure, Some(9)).unwrap_err().to_string();
        assert!(error.contains("Secure Boot and enrolled keys has variables of 9"), "{error}");
        fs::remove_file(host.path().join(&all[3].0)).unwrap();
        let error = find(host.path(), Kind::Secure, None).unwrap_err();
        assert!(error.to_string().contains("no UEFI firmware with Secure Boot"), "{error}");
        assert!(
            matches!(&error, LaunchError::Unavailable { remedy, .. } if remedy == INSTALL),
            "{error:?}"
        );
        assert_eq!(
            find(host.path(), Kind::Plain, None).unwrap().code,
            host.path().join("10-plain.fd")
        );
    }
}
