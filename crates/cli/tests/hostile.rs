//! Whatever text of others a command prints, none of it controls the terminal.
#![allow(clippy::unwrap_used, clippy::panic)]

mod hosts;
mod stub;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use model::shown::{escaped, is_deceptive};
use serde_json::{Value, json};
use stub::Stub;

/// Titles, clearing, colours, C1, moving back, bidi, invisible characters, and lines that look like an error.
const HOSTILE: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}1m\u{9d}x\u{9c}\r\u{8}\t\u{7f}\u{202e}\u{2066}\
    \u{200b}\u{1b}[3mx\nFAKED\n  why: FAKED";

/// The same on one line, for files that are read by lines.
const ON_A_LINE: &str =
    "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}1m\u{8}\u{202e}\u{2066}\u{200b}\u{1b}[3mx";

/// How the beginning is shown.
const SHOWN: &str = "\\u001b]0;owned\\u0007\\u001b[2J\\u009b1m";

/// The styles of Handover and clap.
const STYLES: [&str; 10] = ["0", "1", "2", "4", "31", "32", "33", "34", "35", "36"];

fn handover(arguments: &[&str], input: &str, coloured: bool) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.args(arguments).env_remove("HANDOVER_URL").env_remove("HANDOVER_TOKEN_FILE");
    command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").env_remove("RUST_BACKTRACE");
    if coloured {
        command.env("CLICOLOR_FORCE", "1");
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read its input closes it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Fails if a stream of the output could control a terminal.
fn safe(bytes: Vec<u8>, what: &str) -> String {
    let text = String::from_utf8(bytes).unwrap_or_else(|_| panic!("{what}: not UTF-8"));
    let mut plain = text.clone();
    for style in STYLES {
        plain = plain.replace(&format!("\u{1b}[{style}m"), "");
    }
    let bad = plain.chars().find(|letter| *letter != '\n' && is_deceptive(*letter));
    assert_eq!(bad, None, "{what}: {text:?}");
    let faked = |line: &str| line.starts_with("FAKED") || line.starts_with("  why: FAKED");
    assert!(!plain.lines().any(faked), "{what} fakes a line:\n{plain}");
    text
}

/// Runs a command without and with colours, and returns what it printed.
fn shown(arguments: &[&str], input: &str) -> String {
    let mut shown = String::new();
    for coloured in [true, false] {
        let output = handover(arguments, input, coloured);
        let what = format!("{arguments:?}");
        shown = safe(output.stdout, &what) + &safe(output.stderr, &what);
        assert!(coloured || !shown.contains('\u{1b}'), "{what}: styles in a pipe");
    }
    shown
}

/// Runs a command that shows text of others.
fn shows(arguments: &[&str], input: &str) {
    let text = shown(arguments, input);
    assert!(text.contains(SHOWN), "{arguments:?} does not show it: {text}");
}

/// Runs a command with `--json`: still the same values.
fn same_value(arguments: &[&str], value: &str) {
    let arguments = [arguments, &["--json"]].concat();
    let output = handover(&arguments, "", false);
    let what = format!("{arguments:?}");
    let text = safe(output.stdout, &what);
    safe(output.stderr, &what);
    let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let found = values.any(|read| has(&read.unwrap(), value));
    assert!(found, "{what} does not have the value: {text}");
}

fn has(json: &Value, value: &str) -> bool {
    match json {
        Value::String(text) => text.contains(value),
        Value::Array(all) => all.iter().any(|one| has(one, value)),
        Value::Object(all) => all.iter().any(|(key, one)| key.contains(value) || has(one, value)),
        _ => false,
    }
}

/// What reads of the daemon, with `--json` too.
const ANSWERS: [&[&str]; 21] = [
    &["device", "list"],
    &["device", "available"],
    &["device", "show", "x"],
    &["device", "add", "0000:01:00.0"],
    &["device", "bind", "x"],
    &["instance", "list"],
    &["instance", "show", "x"],
    &["instance", "start", "x"],
    &["instance", "stop", "x"],
    &["instance", "pause", "x"],
    &["instance", "resume", "x", "y"],
    &["instance", "stats", "x"],
    &["instance", "create", "x", "--image", "y", "-q"],
    &["instance", "logs", "x"],
    &["image", "list"],
    &["image", "show", "x"],
    &["claims"],
    &["prepare", "x"],
    &["claim", "0000:01:00.0", "--dry-run"],
    &["claim", "0000:01:00.0"],
    &["reconcile"],
];

#[test]
fn answers_of_a_daemon() {
    let stub = Stub::start(HOSTILE, false);
    let url = stub.url();
    for command in ANSWERS {
        let arguments = [command, &["--url", &url]].concat();
        shows(&arguments, "");
        same_value(&arguments, HOSTILE.split('\n').next().unwrap());
    }
    let file = env!("CARGO_BIN_EXE_handover");
    for command in [
        &["return", "--all"][..],
        &["resources"],
        &["sriov", "list"],
        &["device", "clear", "x"],
        &["device", "unbind", "x"],
        &["device", "reset", "x", "--owner", "job/7"],
        &["release", "x"],
        &["unprepare", "x"],
        &["renew", "x", "--no-lease"],
        &["instance", "wait", "x"],
        &["image", "import", "x", "--kernel", file],
    ] {
        let arguments = [command, &["--url", &url]].concat();
        shows(&arguments, "");
        shown(&[&arguments[..], &["--json"]].concat(), "");
    }
}

#[test]
fn refusals_of_a_daemon() {
    let stub = Stub::start(HOSTILE, true);
    let url = stub.url();
    for command in ANSWERS.into_iter().chain([
        &["resources"][..],
        &["sriov", "set", HOSTILE, "0"],
        &["instance", "rm", HOSTILE],
        &["instance", "wait", HOSTILE, "--state", HOSTILE],
        &["device", "rm", HOSTILE],
        &["device", "unbind", HOSTILE],
        &["device", "reset", HOSTILE],
        &["image", "rm", HOSTILE],
        &["release", HOSTILE],
        &["return", HOSTILE],
        &["pod", "--down", HOSTILE],
    ]) {
        let arguments = [command, &["--url", &url]].concat();
        shows(&arguments, "");
        shown(&[&arguments[..], &["--json"]].concat(), "");
    }
}

#[test]
fn a_console_is_printed_as_it_is_only_on_request() {
    let stub = Stub::start(HOSTILE, false);
    let logs = ["instance", "logs", "x", "--url", &stub.url()];
    shows(&logs, "");
    let output = handover(&[&logs[..], &["--raw"]].concat(), "", false);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with(HOSTILE), "{text:?}");
}

/// A host on which everything that can be named is hostile.
fn host() -> hosts::Host {
    let host = hosts::debian_with_gpu();
    let gpu = "sys/devices/pci0000:00/0000:00:01.0/0000:02:00.0";
    let driver = host.path().join(gpu).join("driver");
    fs::remove_file(&driver).unwrap();
    symlink(format!("../../../../bus/pci/drivers/{HOSTILE}"), driver).unwrap();
    fs::create_dir_all(host.path().join(gpu).join("net").join(HOSTILE)).unwrap();
    for attribute in ["driver_override", "power_state", "reset_method", "power/control"] {
        host.file(&format!("{gpu}/{attribute}"), &format!("{ON_A_LINE}\n"));
    }
    host.file(
        "usr/share/misc/pci.ids",
        &format!("10de  {ON_A_LINE}\n\t2204  GPU {ON_A_LINE}\n\t1aef  {ON_A_LINE}\n"),
    );
    let cmdline =
        format!("root=/dev/sda1 ro intel_iommu={ON_A_LINE} pcie_acs_override={ON_A_LINE}\n");
    host.file("proc/cmdline", &cmdline);
    host.file(
        "etc/os-release",
        &format!("PRETTY_NAME=\"{ON_A_LINE}\"\nID=debian\nVERSION_ID={ON_A_LINE}\n"),
    );
    host.file(
        &format!("etc/modprobe.d/{HOSTILE}.conf"),
        "blacklist vfio_iommu_type1\nblacklist vfio-pci\n",
    );
    host.file(
        "handover/tools",
        &format!("qemu-system-x86_64\t/usr/bin/{ON_A_LINE}\t{ON_A_LINE}\n"),
    );
    host.file("sys/kernel/iommu_groups/3/type", &format!("{ON_A_LINE}\n"));
    host.file("proc/812/comm", HOSTILE);
    host.file("proc/812/cgroup", &format!("0::/system.slice/{ON_A_LINE}.service\n"));
    fs::create_dir_all(host.path().join("proc/812/fd")).unwrap();
    symlink("/dev/nvidia0", host.path().join("proc/812/fd/3")).unwrap();
    host.file("proc/driver/nvidia/gpus/0000:02:00.0/information", "Device Minor: \t 0\n");
    host
}

const GPU: &str = "0000:02:00.0";

#[test]
fn a_host_and_its_recording() {
    let host = host();
    let place = tempfile::tempdir().unwrap();
    let tree = host.path().to_str().unwrap();
    let recording = place.path().join(format!("{HOSTILE}.tar.gz"));
    let recording = recording.to_str().unwrap();
    shows(&["record", "--force", "--root", tree, "-o", recording], "");
    let recorded = handover(&["record", "--root", tree, "-o", "-"], "", false);
    safe(recorded.stderr, "record -o -");
    for root in [tree, recording] {
        let root = ["--root", root];
        for command in [
            &["ls", "--all"][..],
            &["ls", "owned"],
            &["show", GPU],
            &["topo", "--all"],
            &["topo", "--distances"],
        ] {
            let arguments = [command, &root].concat();
            shows(&arguments, "");
            same_value(&arguments, ON_A_LINE);
        }
        let doctor = [&["doctor", "--all"][..], &root].concat();
        shows(&doctor, "");
        same_value(&doctor, "\u{1b}[2J");
        shown(&[&["doctor", "--fix-script"][..], &root].concat(), "");
        shows(&[&["catalog", "suggest"][..], &root].concat(), "");
        shown(&[&["cdi", "generate", "--output", "-", GPU][..], &root].concat(), "");
        shown(&[&["boot-list", "--list"][..], &root].concat(), "");
        shown(&[&["boot-list", "--dry-run", GPU][..], &root].concat(), "");
        shown(&[&["show", HOSTILE][..], &root].concat(), "");
    }
}

/// As JSON that is also YAML, which has no C1 characters but as escapes.
fn readable(value: &Value) -> String {
    escaped(&value.to_string()).into_owned()
}

#[test]
fn a_devices_file() {
    let host = hosts::debian_with_gpu();
    let file = host.path().join(format!("{HOSTILE}.json"));
    let file = file.to_str().unwrap();
    let root = host.path().to_str().unwrap();
    let check = ["catalog", "check", file, "--root", root];
    shows(&check, "");
    let device = json!({ "id": HOSTILE, "name": HOSTILE, "type": HOSTILE, HOSTILE: HOSTILE });
    let other = json!({ "id": "0x2204", "name": HOSTILE, "type": "gpu" });
    let catalog = json!({ "vendors": [{ "id": "0x10de", "name": HOSTILE, "devices": [device, other] }], HOSTILE: 1 });
    fs::write(file, readable(&catalog)).unwrap();
    shows(&check, "");
    same_value(&check, HOSTILE);
    // The same characters themselves, in YAML.
    fs::write(file, format!("vendors:\n  - {ON_A_LINE}: 1\n    name: \"{HOSTILE}\"\n")).unwrap();
    shows(&check, "");
    let right = json!({ "vendors": [{ "id": "0x10de", "name": "nvidia", "devices": [
        { "id": "0x2204", "name": "one", "type": "gpu" }, { "id": "0x2205", "name": "none", "type": "gpu" }] }] });
    fs::write(file, right.to_string()).unwrap();
    shows(&check, "");
}

#[test]
fn machines_of_kubevirt() {
    let gpu = json!({ "name": HOSTILE, "deviceName": HOSTILE });
    let domain =
        json!({ "memory": { "guest": "1Gi" }, "devices": { "gpus": [gpu] }, HOSTILE: HOSTILE });
    let spec = json!({ "domain": domain, "volumes": [{ "name": HOSTILE, "unknown": {} }] });
    let machine = |name: &str| {
        readable(
            &json!({ "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": { "name": name },
            "spec": { "template": { "spec": spec } } }),
        )
    };
    for more in [
        &[][..],
        &["--strict"],
        &["--explain", "--allow-missing"],
        &["--explain", "--mount-devices=false"],
    ] {
        let arguments = [&["pod", "-", "--host", "none"], more].concat();
        shows(&arguments, &machine(HOSTILE));
        shows(&arguments, &machine("web"));
        shown(&arguments, &format!("kind: {ON_A_LINE}\n{ON_A_LINE}: {ON_A_LINE}\n"));
    }
    shows(&["pod", HOSTILE], "");
    shows(&["pod", "-", "--resource", HOSTILE], &machine("web"));
}

#[test]
fn arguments_and_paths() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(HOSTILE);
    let path = path.to_str().unwrap();
    for arguments in [
        &[HOSTILE][..],
        &["ls", "--type", HOSTILE],
        &["topo", &format!("--{HOSTILE}")],
        &["serve", "--machine-uids", HOSTILE],
        &["renew", "x", "--lease", HOSTILE],
        &["device", "list", "--url", &format!("unix://{path}")],
        &["device", "list", "--token-file", path],
        &["image", "import", HOSTILE, "--kernel", path, "--cmdline", HOSTILE],
        &["ls", "--root", path],
        &["show", GPU, "--root", path],
        &["topo", "--svg", &format!("{path}/x")],
        &["record", "--root", path],
        &["backup", path, "--state-dir", path],
        &["restore", path, "--state-dir", path],
        &["man", &format!("{}/{HOSTILE}", env!("CARGO_BIN_EXE_handover"))],
    ] {
        shows(arguments, "");
    }
}

#[test]
fn styles_of_others_are_not_ours() {
    // A style that Handover uses itself, in a value: it is escaped like any other, also with colours.
    let output = handover(&["show", "\u{1b}[31m01:", "--root", "/nowhere"], "", true);
    let text = safe(output.stderr, "show");
    assert!(text.contains("cannot show \\u001b[31m01:"), "{text:?}");
    let output = handover(&["frob\u{1b}[31m"], "", true);
    let text = safe(output.stderr, "usage");
    assert!(text.contains("\u{1b}[") && text.contains("frob\\u001b[31m"), "{text:?}");
    // Errors that quote it already.
    shown(&["device", "list", "--url", HOSTILE], "");
    let host = hosts::debian_with_gpu();
    shown(&["cdi", "generate", "--root", host.path().to_str().unwrap(), HOSTILE], "");
}

/// The daemon, killed when dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_log_of_the_daemon() {
    let (root, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir_all(root.path().join("sys/bus/pci/devices")).unwrap();
    let random = root.path().join("proc/sys/kernel/random");
    fs::create_dir_all(&random).unwrap();
    fs::write(random.join("boot_id"), "4d0c2b0e-98f4-4b64-9c2d-6f1f0f6d3e11\n").unwrap();
    let run: PathBuf = place.path().join("\u{1b}[2J\u{9b}1m\nFAKED");
    let log = place.path().join("log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.args(["serve", "--log", "trace", "--root"]).arg(root.path()).arg("--run-dir").arg(&run);
    command
        .arg("--state-dir")
        .arg(place.path().join("state"))
        .arg("--cdi-dir")
        .arg(place.path().join("cdi"));
    command.stdin(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let _daemon = Daemon(command.spawn().unwrap());
    let until = Instant::now() + Duration::from_secs(60);
    let text = |log: &Path| String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
    // It names its socket when it listens, and the reason when it cannot.
    while !text(&log).contains("FAKED") {
        assert!(Instant::now() < until, "{}", text(&log));
        std::thread::sleep(Duration::from_millis(10));
    }
    let text = safe(fs::read(&log).unwrap(), "serve");
    assert!(text.contains("[2J") && text.contains("\\nFAKED"), "{text}");
}
