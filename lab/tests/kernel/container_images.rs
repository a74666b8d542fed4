//! Images of other kinds: a static binary alone, one with its own kernel and init; and what dies while their machines run.

use serde_json::Value;

use crate::support::{Host, thoroughly};

/// Defines `layout`, which makes an OCI layout at $1 of the directory $2, with the configuration $3.
const LAYOUT: &str = r#"
blob() { sum=$(sha256sum "$1" | cut -d' ' -f1); mv "$1" $layout/blobs/sha256/$sum; echo $sum; }
size() { stat -c %s $layout/blobs/sha256/$1; }
layout() {
    layout=$1; mkdir -p $layout/blobs/sha256
    tar -C "$2" -cf /tmp/layer.tar .; layer=$(blob /tmp/layer.tar)
    printf '{"architecture":"amd64","os":"linux","config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$3" $layer >/tmp/config
    config=$(blob /tmp/config); kind=application/vnd.oci.image
    printf '{"schemaVersion":2,"mediaType":"%s.manifest.v1+json","config":{"mediaType":"%s.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"%s.layer.v1.tar","digest":"sha256:%s","size":%s}]}' \
        $kind $kind $config $(size $config) $kind $layer $(size $layer) >/tmp/manifest
    manifest=$(blob /tmp/manifest)
    printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s.manifest.v1+json","digest":"sha256:%s","size":%s}]}' $kind $manifest $(size $manifest) >$layout/index.json
    echo '{"imageLayoutVersion":"1.0.0"}' >$layout/oci-layout
}
"#;

/// One image has nothing but a static executable, another one a kernel with its modules and an init system too.
const IMAGES: &str = r#"
set -e
mkdir -p /tmp/alone /tmp/own/sbin
cp /usr/bin/busybox /tmp/alone/; cp /usr/bin/busybox /tmp/own/
layout /opt/lab/guest/alone /tmp/alone '{"Entrypoint":["/busybox","sh","-c"],"Cmd":["/busybox ls -a /; exit 5"]}'
printf '#!/busybox sh\n/busybox echo init is process $$ of $(/busybox uname -r)\n/busybox sync\n/busybox poweroff -f\n' >/tmp/own/sbin/init
chmod 755 /tmp/own/sbin/init; echo text >/tmp/own/text
modules=/tmp/own/usr/lib/modules/$(uname -r); mkdir -p $modules
cp /opt/lab/guest/vmlinux $modules/vmlinuz
cp /lib/modules/$(uname -r)/modules.{dep,builtin} $modules/
for name in $(grep -E '/(button|evdev|virtio_net|vmw_vsock_virtio_transport|virtio-rng)\.ko[^:/]*:' $modules/modules.dep | tr -d :); do
    mkdir -p $modules/$(dirname $name); cp /lib/modules/$(uname -r)/$name $modules/$name
done
layout /opt/lab/guest/own /tmp/own '{"Cmd":["/sbin/init"]}'
rm -r /tmp/alone /tmp/own
handover image pull alone --from oci:/opt/lab/guest/alone
handover image pull own --from oci:/opt/lab/guest/own
"#;

/// Steps of the test of container images: `ml` runs on the image `box`.
pub fn other_images(host: &Host) {
    host.sh(&format!("{LAYOUT}{IMAGES}"));
    let create = |name: &str, rest: &str| {
        host.sh(&format!(
            "handover instance create {name} --size 128MB --vcpus 1 --network none --json {rest}"
        ))
    };
    let names: Vec<String> =
        (0..if thoroughly() { 20 } else { 2 }).map(|number| format!("alone{number}")).collect();
    for name in &names {
        create(name, "--image alone");
    }
    one_file_for_all(host, &names);
    let own: Value = serde_json::from_str(&create("own", "--image own")).unwrap();
    assert!(own["kernel"].as_str().unwrap().starts_with("the image's own, "), "{own:#}");
    create("text", "--image own --entrypoint /text");

    for name in &names {
        assert_eq!(ended(host, name)["exit_code"], 5);
    }
    // Nothing but what the init mounts, and what is in the image.
    let listed = host.sh("handover instance logs alone0");
    assert!(listed.contains("busybox") && !listed.contains("usr"), "{listed}");
    let text = ended(host, "text");
    assert_eq!(text["exit_code"], 126, "{text:#}");
    assert!(text["state_error"].as_str().unwrap().contains("/text"), "{text:#}");
    assert_eq!(ended(host, "own")["exit_code"], Value::Null, "the init has ended the machine");
    let said = host.sh("handover instance logs own; echo of $(uname -r)");
    let (said, version) = said.trim_end().rsplit_once('\n').unwrap();
    assert!(said.contains(&format!("init is process 1 {version}")), "{said}");
    let names = names.join(" ");
    host.sh(&format!(
        "handover instance rm own text {names}; handover image rm alone; handover image rm own
         rm -r /opt/lab/guest/alone /opt/lab/guest/own"
    ));
    // What they needed of kernels goes with them.
    host.sh("handover image prune");
}

/// The instance, when its machine has ended.
fn ended(host: &Host, name: &str) -> Value {
    let state = || host.get(&format!("/instances/{name}"));
    host.wait("its end", if thoroughly() { 900 } else { 300 }, || state()["state"] == "Shutdown");
    state()
}

/// Machines of one image have one file as their root; each has a layer of its own, which takes what was written.
fn one_file_for_all(host: &Host, names: &[String]) {
    let inodes = host.sh(
        "for vmm in $(pgrep -x qemu-system-x86); do for file in /proc/$vmm/fd/*; do
            case $(readlink $file) in */images/roots/*) stat -L -c '%i %n' $file | sed 's/ .*//';; esac; done; done | sort | uniq -c | sort -n | tail -n 1",
    );
    let count: usize = inodes.split_whitespace().next().unwrap().parse().unwrap();
    assert!(count >= names.len(), "one inode is open {count} times: {inodes}");
    let used = host.sh("cd /var/lib/handover; du -sk images/roots | cut -f 1; du -sk volumes | cut -f 1; ls volumes | wc -l");
    println!("KiB of roots, KiB of writable layers, their number: {}", used.replace('\n', " "));
}

/// What a machine runs whose command kills Handover's agent.
const KILLS_ITS_AGENT: &str = r#"for at in /proc/[0-9]*; do case "$(cat $at/cmdline)" in handover-guestagent*) kill -9 ${at#/proc/}; echo killed;; esac; done; sleep 10; exit 9"#;

/// The agent in a guest is killed, then the daemon, and the machine ends without both. `ml` runs on the image `box`.
pub fn killed_programs(host: &Host) {
    host.sh(&format!("handover instance create orphan --image box --user 0 --size 128MB --vcpus 1 --network none -- '{KILLS_ITS_AGENT}'"));
    host.wait("its command", 300, || {
        host.sh("handover instance logs orphan 2>/dev/null || true").contains("killed")
    });
    let refused = host.sh("handover instance exec orphan -- /bin/id 2>&1; echo status $?");
    println!("without an agent: {refused}");
    assert!(!refused.contains("status 0"), "{refused}");
    assert_eq!(host.get("/instances/orphan")["state"], "Running");
    host.kill_daemon();
    host.sh("while pgrep -f 'guest=[o]rphan' >/dev/null; do sleep 0.2; done");
    host.serve("");
    let orphan = host.get("/instances/orphan");
    assert_eq!(
        (orphan["state"].as_str(), orphan["exit_code"].as_i64()),
        (Some("Shutdown"), Some(9)),
        "it ended without a daemon: {orphan:#}"
    );
    host.sh("handover instance rm orphan");
    let again = host.sh("handover instance exec ml -- /bin/id 2>&1 || true");
    assert!(again.contains("worker"), "the new daemon reaches the agent in the other: {again}");
}
