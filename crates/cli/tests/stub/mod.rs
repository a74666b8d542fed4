//! A daemon whose every answer is the same text of others.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A stub that listens on a socket in a directory of its own, until the process ends.
pub struct Stub {
    directory: TempDir,
}

impl Stub {
    /// Answers every request with a value full of `text`, or refuses every request with it.
    pub fn start(text: &'static str, refuses: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("sock")).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that ends early is its own matter.
                let _ = answer(stream, text, refuses);
            }
        });
        Self { directory }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("unix://{}/sock", self.directory.path().display())
    }
}

fn answer(stream: UnixStream, text: &str, refuses: bool) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
    let lower = head.to_lowercase();
    if let Some((_, rest)) = lower.split_once("content-length: ") {
        let length: u64 = rest.split("\r\n").next().unwrap().parse().unwrap();
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
    } else if lower.contains("transfer-encoding: chunked") {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n0\r\n") && reader.read_until(b'\n', &mut line)? > 0 {}
        reader.read_line(&mut head)?;
    }
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, kind, body) = if refuses {
        let details = json!({ "reason": "conflict", "remedy": text });
        let body = json!({ "code": "conflict", "message": text, "details": details });
        ("409 Conflict", "application/json", body.to_string())
    } else if target.contains("/logs") && target.contains("format=raw") {
        ("200 OK", "application/octet-stream", text.to_owned())
    } else if target.contains("/logs") {
        let lines = [json!(text).to_string(), json!("plain").to_string(), text.replace('\n', " ")];
        let events = lines.map(|line| format!("data: {line}\n\n")).concat();
        ("200 OK", "text/event-stream", events)
    } else {
        ("200 OK", "application/json", body(method, target, text).to_string())
    };
    let length = body.len();
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

/// A list where the API has one.
fn body(method: &str, target: &str, text: &str) -> Value {
    const LISTS: [&str; 6] =
        ["/devices", "/devices/available", "/instances", "/images", "/claims", "/sriov"];
    let path = target.split('?').next().unwrap_or_default();
    if path == "/resources" {
        return resources(text);
    }
    let mut one = one(text);
    if method == "GET" && LISTS.contains(&path) || path == "/return" {
        return json!([one]);
    }
    one["claim"] = one.clone();
    one
}

/// One value that is a device, an image, an instance, a claim and any other answer.
fn one(text: &str) -> Value {
    let mut tags = json!({});
    tags[text] = json!(text);
    let part = json!({ "head": text, "partition": text, "mdev": text,
        "members": [{ "address": text, "role": text }] });
    let attach = json!({ "groups": [text], "devices": [text], "qemu": [text], "cloud_hypervisor": [text],
        "libvirt": [text], "cdi": text });
    let mut one = json!({ "tags": tags, "parts": [part], "attach": attach, "devices": [text], "notes": [text],
        "finished": [text], "undone": [text], "restored": [text], "adopted": [text], "steps": [text],
        // The import of an image has ended.
        "status": "failed", "timed_out": true, "vcpus": 1, "exit_code": 1, "pid": 1, "size_bytes": 1,
        "iommu_group": 1, "expires": 1, "count": 1, "autoprobe": true, "bound_to_vfio": true, "has_kernel": true,
        "network": { "enabled": false }, "allocated_vcpus": 1, "allocated_memory_bytes": 1, "cpu_seconds": 1.5,
        "memory_rss_bytes": 1, "memory_vms_bytes": 1, "network_rx_bytes": 0, "network_tx_bytes": 0, "type": "pci", "warnings": [text], "attached": [
            { "pci_address": text, "title": text, "name": text, "profile": text, "mdev_uuid": text },
            { "pci_address": text, "title": text, "partition": text }, { "pci_address": text, "title": "" }] });
    let texts = [
        "id",
        "name",
        "instance_id",
        "instance_name",
        "measured_at",
        "image",
        "state",
        "state_error",
        "size",
        "overlay_size",
        "created_at",
        "started_at",
        "stopped_at",
        "hypervisor",
        "cmdline",
        "digest",
        "error",
        "disk_format",
        "owner",
        "reason",
        "pci_address",
        "outcome",
        "driver",
        "vendor_id",
        "device_id",
        "vendor_name",
        "device_name",
        "current_driver",
        "kind",
        "state_reason",
        "attached_to",
    ];
    for key in texts {
        one[key] = json!(text);
    }
    one
}

fn resources(text: &str) -> Value {
    let one = json!({ "type": text, "capacity": 1, "effective_limit": 1, "allocated": 1, "available": 1,
        "oversub_ratio": 1.0 });
    let disk =
        json!({ "images_bytes": 1, "oci_cache_bytes": 1, "overlays_bytes": 1, "volumes_bytes": 1 });
    let gpu = json!({ "mode": text, "total_slots": 1, "used_slots": 1,
        "profiles": [{ "name": text, "framebuffer_mb": 1, "available": 1 }], "devices": [] });
    json!({ "cpu": one, "memory": one, "disk": one, "network": one, "disk_breakdown": disk, "allocations": [],
        "pci": [{ "name": text, "capacity": 1, "allocated": 1, "available": 1, "claimed_by": [text] }], "gpu": gpu })
}
