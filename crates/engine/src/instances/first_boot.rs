//! The seed: what configures the guest at its first boot, in the form that cloud-init reads.

use model::{Code, GuestDisk, Refusal, Seed};
use serde_json::{Value, json};
use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, LineEnding, PrivateKey, PublicKey};

use crate::{FirstBoot, Instance};

/// The longest user-data. A disk could hold more, but no one writes more by hand.
const LONGEST_USER_DATA: usize = 256 * 1024;

/// What a seed has if no user-data is given.
pub const NO_USER_DATA: &str = "#cloud-config\n";

/// The most keys.
const MOST_KEYS: usize = 100;

/// How the formats begin that cloud-init knows
/// (<https://docs.cloud-init.io/en/latest/explanation/format/index.html>). Others it ignores, with a line in its log.
const FORMATS: [&str; 10] = [
    "#cloud-config",
    "#!",
    "#include",
    "#cloud-boothook",
    "#part-handler",
    "## template: jinja",
    "content-type:",
    "mime-version:",
    // cloudbase-init's, for Windows.
    "#ps1",
    "rem cmd",
];

/// What cloud-init mounts in the guest, and the file systems that it makes before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    mounts: Vec<Value>,
    file_systems: Vec<Value>,
}

/// The mounts of disks. cloud-init makes a file system only on a disk that is known to be empty.
pub fn mounts(disks: &[GuestDisk], empty: &[bool]) -> Mounts {
    let mut all = Mounts::default();
    for (disk, is_empty) in disks.iter().zip(empty) {
        let Some(path) = &disk.mount_path else { continue };
        let device = disk.guest_path();
        // The guest starts also if the disk is missing.
        let access = if disk.read_only { "ro,nofail" } else { "defaults,nofail" };
        all.mounts.push(json!([device, path, "auto", access]));
        if *is_empty && !disk.read_only {
            all.file_systems.push(json!({
                "device": device, "filesystem": "ext4", "partition": "none", "overwrite": false,
            }));
        }
    }
    all
}

/// The seed for a request; `None` if it asks for nothing.
pub fn seed(
    instance: &Instance,
    wanted: &FirstBoot,
    mounts: &Mounts,
) -> Result<Option<Seed>, Refusal> {
    if *wanted == FirstBoot::default() && *mounts == Mounts::default() {
        return Ok(None);
    }
    let keys =
        wanted.ssh_keys.iter().map(|text| public_key(text)).collect::<Result<Vec<_>, _>>()?;
    if keys.len() > MOST_KEYS {
        return Err(invalid(format!("more than {MOST_KEYS} SSH keys"), "leave some out"));
    }
    let user_data = wanted.user_data.as_deref().unwrap_or(NO_USER_DATA);
    check_user_data(user_data)?;
    let hostname = wanted.hostname.clone().unwrap_or_else(|| instance.name.clone());
    check_hostname(&hostname)?;
    let password = wanted.password_hash.as_deref();
    password.map_or(Ok(()), model::check_password_hash)?;
    let host_key = if keys.is_empty() { None } else { Some(HostKey::generate()?) };
    let meta_data = json!({
        "instance-id": instance.id.to_string(),
        "local-hostname": hostname,
        "public-keys": keys,
    });
    Ok(Some(Seed {
        // JSON is YAML.
        meta_data: format!("{meta_data:#}\n"),
        vendor_data: vendor_data(host_key.as_ref(), password, mounts),
        user_data: user_data.to_owned(),
        hostname,
        host_key: host_key.map(|key| key.public),
    }))
}

/// Changes the host name of a seed. cloud-init sets it at the next start, unless it was changed in the guest.
pub fn rename(seed: &mut Seed, hostname: &str) -> Result<(), Refusal> {
    check_hostname(hostname)?;
    let mut meta_data: serde_json::Map<String, Value> = serde_json::from_str(&seed.meta_data)
        .map_err(|error| {
            let message = format!("the recorded seed is not readable: {error}");
            Refusal::new(Code::Internal, message, "create the instance again")
        })?;
    meta_data.insert("local-hostname".into(), json!(hostname));
    seed.meta_data = format!("{:#}\n", Value::Object(meta_data));
    hostname.clone_into(&mut seed.hostname);
    Ok(())
}

/// What Handover sets: root may log in with the keys too, because the name of an image's usual user is not known here; the
/// host key is the one that `handover instance ssh` expects; disks are mounted. A password is a hash, for the console and the
/// screen only.
fn vendor_data(host_key: Option<&HostKey>, password: Option<&str>, mounts: &Mounts) -> String {
    let mut config = serde_json::Map::new();
    if let Some(HostKey { private, public }) = host_key {
        config.insert("disable_root".into(), json!(false));
        config.insert("ssh_deletekeys".into(), json!(true));
        let keys = json!({"ed25519_private": private, "ed25519_public": public});
        config.insert("ssh_keys".into(), keys);
    }
    if let Some(hash) = password {
        // cloud-init takes a text that looks like a hash for one (cc_set_passwords.py, `_is_hashed`).
        config.insert("password".into(), json!(hash));
        config.insert("chpasswd".into(), json!({"expire": false}));
        config.insert("ssh_pwauth".into(), json!(false));
    }
    for (name, list) in [("fs_setup", &mounts.file_systems), ("mounts", &mounts.mounts)] {
        if !list.is_empty() {
            config.insert(name.into(), json!(list));
        }
    }
    format!("#cloud-config\n{:#}\n", Value::Object(config))
}

/// A new SSH host key.
struct HostKey {
    private: String,
    public: String,
}

impl HostKey {
    fn generate() -> Result<Self, Refusal> {
        let generate = || -> ssh_key::Result<Self> {
            let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519)?;
            let private = key.to_openssh(LineEnding::LF)?.to_string();
            Ok(Self { private, public: key.public_key().to_openssh()? })
        };
        generate().map_err(|error| {
            let message = format!("cannot make an SSH host key: {error}");
            Refusal::new(Code::Internal, message, "retry; if it fails again, report it")
        })
    }
}

/// A public key as it was given, without space around it.
fn public_key(text: &str) -> Result<String, Refusal> {
    let text = text.trim();
    if text.contains("PRIVATE KEY") {
        return Err(invalid(
            "the SSH key is a private one, which must stay where it is",
            "give the public one, whose file ends with .pub",
        ));
    }
    // YAML has no such characters, so the guest could not read any key.
    if text.chars().any(|c| {
        c.is_control() && !matches!(c, '\n' | '\r')
            || matches!(c, '\u{fffe}' | '\u{ffff}' | '\u{feff}')
    }) {
        return Err(invalid(
            "the SSH key has control characters in it",
            "give the line as ssh-keygen wrote it, without options before the key",
        ));
    }
    match PublicKey::from_openssh(text) {
        Ok(_) if !text.contains(['\n', '\r']) => Ok(text.to_owned()),
        Ok(_) => Err(invalid("the SSH key has more than one line", "give each key of its own")),
        Err(error) => Err(invalid(
            format!("not a public SSH key: {error}"),
            "give a line such as `ssh-ed25519 AAAA... name`, without options before it and no certificate; `ssh-keygen -t \
             ed25519` makes a key",
        )),
    }
}

fn check_user_data(text: &str) -> Result<(), Refusal> {
    if text.len() > LONGEST_USER_DATA {
        return Err(invalid(
            format!(
                "the user-data has {}, more than {}",
                model::shown::bytes(text.len() as u64),
                model::shown::bytes(LONGEST_USER_DATA as u64)
            ),
            "let the guest fetch what is large, or put it into the image",
        ));
    }
    let first = first_line(text).to_ascii_lowercase();
    if !FORMATS.iter().any(|format| first.starts_with(format)) {
        return Err(invalid(
            "the guest would ignore the user-data: its first line is no format of cloud-init",
            "begin it with `#cloud-config`, or with `#!` for a script",
        ));
    }
    // `#cloud-config-archive` and `#cloud-config-jsonp` are lists.
    if first.trim_end() != "#cloud-config" {
        return Ok(());
    }
    match serde_saphyr::from_str::<Option<serde_json::Map<String, serde_json::Value>>>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(invalid(
            format!(
                "the user-data is not YAML with keys and values: {}",
                first_line(&error.to_string())
            ),
            "correct the line that the message names",
        )),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// A host name of RFC 1123, with or without a domain.
pub fn check_hostname(name: &str) -> Result<(), Refusal> {
    let label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(());
    }
    Err(invalid(
        format!("{name:?} is not a host name"),
        "use letters, digits and hyphens, such as dev or dev.example.com",
    ))
}

fn invalid(message: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal::new(Code::InvalidRequest, message, remedy)
}
