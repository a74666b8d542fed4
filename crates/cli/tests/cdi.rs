//! `handover cdi` on a made-up host: output and files.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use insta::assert_snapshot;
use support::{host, write};
use tempfile::TempDir;

fn cdi(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.arg("cdi").args(arguments).env_remove("HANDOVER_URL");
    // Uses neither this machine's daemon nor its state.
    command.args(["--url", "unix:///nowhere/handover.sock"]).output().unwrap()
}

/// The output of a command that must succeed.
#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let output = cdi(arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The error of a command that must fail and print nothing else.
fn refused(arguments: &[&str]) -> String {
    let output = cdi(arguments);
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn generate(host: &TempDir, more: &[&str]) -> Vec<String> {
    let root = host.path().to_str().unwrap().to_owned();
    let mut all = vec!["generate".to_owned(), "--root".to_owned(), root];
    all.extend(more.iter().map(|one| (*one).to_owned()));
    all
}

fn texts(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// The GPU `/dev/nvidia0`, in MIG mode with two instances.
fn in_mig_mode(host: &Path) {
    let access = |instance: &str, minor: u32| {
        let file =
            host.join("proc/driver/nvidia/capabilities/gpu0/mig").join(instance).join("access");
        write(
            &file,
            &format!("DeviceFileMinor: {minor}\nDeviceFileMode: 292\nDeviceFileModify: 1\n"),
        );
    };
    for (instance, minor) in [("gi1", 12), ("gi1/ci0", 13), ("gi2", 21), ("gi2/ci0", 22)] {
        access(instance, minor);
    }
}

#[test]
fn specifications_of_devices() {
    let host = host();
    let one = |name| printed(&texts(&generate(&host, &[name, "--output", "-"])));
    assert_snapshot!(one("0000:42:00.0"));
    assert_snapshot!(one("0000:02:00.0"));
}

#[test]
fn container_tools_of_all_users_can_read_a_spec_whatever_the_umask() {
    for umask in ["000", "077"] {
        let (host, place) = (host(), tempfile::tempdir().unwrap());
        let dir = place.path().join("not/there");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]);
        command.args([env!("CARGO_BIN_EXE_handover"), "cdi", "generate", "0000:42:00.0"]);
        command.arg("--root").arg(host.path()).arg("--cdi-dir").arg(&dir);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&place.path().join("not")), mode(&dir)), (0o755, 0o755), "{umask}");
        for spec in fs::read_dir(&dir).unwrap() {
            assert_eq!(mode(&spec.unwrap().path()), 0o644, "{umask}");
        }
    }
}

#[test]
fn an_instance_of_a_gpu_in_mig_mode_has_its_rights_only() {
    let host = host();
    in_mig_mode(host.path());
    let caps = |name| {
        let text = printed(&texts(&generate(&host, &[name, "--output", "-"])));
        let spec: serde_json::Value = serde_json::from_str(&text).unwrap();
        let nodes = spec["devices"][0]["containerEdits"]["deviceNodes"].as_array().unwrap().clone();
        let paths = nodes.iter().map(|node| node["path"].as_str().unwrap().to_owned());
        let own = |path: &String| path.starts_with("/dev/nvidia0") || path.contains("-cap");
        paths.filter(own).collect::<Vec<_>>().join(" ").replace("/dev/nvidia-caps/nvidia-", "")
    };
    assert_eq!(caps("0000:41:00.0"), "/dev/nvidia0 cap12 cap13 cap21 cap22");
    assert_eq!(caps("0000:41:00.0:gi2:ci0"), "/dev/nvidia0 cap21 cap22");
    let said = refused(&texts(&generate(&host, &["0000:41:00.0:gi3:ci0", "--output", "-"])));
    assert!(said.contains("no MIG instance"), "{said}");
}

#[test]
fn files_are_written_listed_and_removed() {
    let (host, dir) = (host(), tempfile::tempdir().unwrap());
    let place = dir.path().to_str().unwrap();
    let at_place = |text: String| text.replace(place, "DIR");
    assert_snapshot!(at_place(printed(&texts(&generate(&host, &["--cdi-dir", place])))));
    fs::write(dir.path().join("nvidia.yaml"), "others'").unwrap();
    fs::write(dir.path().join("handover.dev-broken.json"), "{").unwrap();
    fs::write(dir.path().join(".handover.dev-x.tmp"), "{").unwrap();
    // A spec stays while its node exists.
    fs::write(dir.path().join("handover.dev-device-null.json"), NULL).unwrap();
    let json: serde_json::Value =
        serde_json::from_str(&printed(&["list", "--cdi-dir", place, "--json"])).unwrap();
    let of = |name: &str| {
        let mut all = json.as_array().unwrap().iter();
        all.find(|one| one["path"].as_str().unwrap().ends_with(name)).unwrap().clone()
    };
    assert_eq!(of("handover.dev-device-null.json")["missing"], serde_json::json!([]));
    assert_eq!(of("0000:43:00.0.json")["names"][0], "handover.dev/device=0000:43:00.0");
    assert!(of("broken.json")["problem"].as_str().unwrap().contains("not a spec of Handover"));
    let table = printed(&["list", "--cdi-dir", place]);
    let words = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = table.lines().map(words).collect();
    assert!(lines.contains(&"handover.dev/device=null usable".to_owned()), "{table}");
    assert!(table.contains("no /dev/dri/card3 and 1 more"), "{table}");

    // The nodes of the made-up host do not exist on this host.
    let removed = printed(&["clean", "--cdi-dir", place]);
    assert!(removed.contains("0000:43:00.0.json") && !removed.contains("null"), "{removed}");
    let left = |dir: &Path| fs::read_dir(dir).unwrap().count();
    assert_eq!(left(dir.path()), 4);
    assert!(printed(&["clean", "--all", "--cdi-dir", place]).contains("broken"));
    assert_eq!(left(dir.path()), 1);
}

const NULL: &str = r#"{"cdiVersion": "0.3.0", "kind": "handover.dev/device", "devices":
  [{"name": "null", "containerEdits": {"deviceNodes": [{"path": "/dev/null", "permissions": "rw"}]}}]}"#;

#[test]
fn an_unwritable_cdi_spec_says_why() {
    let host = host();
    let said = |more: &[&str]| refused(&texts(&generate(&host, more)));
    assert_snapshot!(said(&["0000:77:00.0", "--output", "-"]));
    assert!(said(&["l4-gpu", "--output", "-"]).contains("--root supports only addresses"));
    assert!(said(&["0000:42:00.0", "--cdi-dir", "none"]).contains("no directory to write to"));
    let claim = "handover.dev-claim-x.json";
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(claim), NULL.replace("dev/device", "dev/claim")).unwrap();
    // If the claims are unknown, no spec of a claim is removed.
    let said = refused(&["clean", "--cdi-dir", dir.path().to_str().unwrap()]);
    assert!(said.contains("daemon_unreachable") && dir.path().join(claim).exists(), "{said}");
}
