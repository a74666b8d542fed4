//! Machines whose root is a container image, with a GPU and a NIC handed over. The image is made here of busybox alone, in two
//! layers: an OCI layout, as podman and skopeo write it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::container_images::{killed_programs, other_images};
use crate::support::{GPU, Host, NIC, wanted};

/// Makes the image in /opt/lab/guest/oci: busybox and what a shell needs in the first layer; the second one replaces a file, removes one, and
/// gives one to a user.
const MAKE: &str = r#"
set -e
rm -rf /opt/lab/guest/oci /tmp/layers; mkdir -p /opt/lab/guest/oci/blobs/sha256 /tmp/layers/1/bin /tmp/layers/1/etc /tmp/layers/1/srv /tmp/layers/2/etc /tmp/layers/2/srv
cd /tmp/layers
cp /usr/bin/busybox 1/bin/busybox
for name in sh cat ls id env pwd sleep hostname sync uname touch mount dd od tr stty date mkdir rm ln; do ln -s busybox 1/bin/$name; done
printf 'root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1000::/home/worker:/bin/sh\n' >1/etc/passwd
printf 'root:x:0:\nworker:x:1000:\nextra:x:1001:worker\n' >1/etc/group
echo first >1/etc/motd; echo gone >1/etc/gone
echo second >2/etc/motd; : >2/etc/.wh.gone; echo mine >2/srv/own
chown 1000:1001 2/srv/own; chmod 640 2/srv/own
blob() { sum=$(sha256sum "$1" | cut -d' ' -f1); mv "$1" /opt/lab/guest/oci/blobs/sha256/$sum; echo $sum; }
size() { stat -c %s /opt/lab/guest/oci/blobs/sha256/$1; }
tar -C 1 -cf 1.tar . ; tar -C 2 -cf 2.tar .
one=$(sha256sum 1.tar | cut -d' ' -f1); two=$(sha256sum 2.tar | cut -d' ' -f1)
gzip 2.tar; first=$(blob 1.tar); second=$(blob 2.tar.gz)
cat >config.json <<END
{"architecture":"amd64","os":"linux","config":{"User":"worker","WorkingDir":"/srv","Env":["PATH=/bin","COLOUR=blue"],
"Entrypoint":["/bin/sh","-c"],"Cmd":["id; pwd; env; echo ready; sleep 3600"]},"rootfs":{"type":"layers","diff_ids":["sha256:$one","sha256:$two"]}}
END
config=$(blob config.json)
cat >manifest.json <<END
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$config","size":$(size $config)},
"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:$first","size":$(size $first)},
{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:$second","size":$(size $second)}]}
END
manifest=$(blob manifest.json)
printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%s}]}' $manifest $(size $manifest) >/opt/lab/guest/oci/index.json
echo '{"imageLayoutVersion":"1.0.0"}' >/opt/lab/guest/oci/oci-layout
"#;

#[test]
fn a_container_image_is_a_machines_root() {
    if !wanted() {
        return;
    }
    let host = Host::shared("workstation");
    // The kernel of this host, as a distribution has it.
    host.sh("mkdir -p /boot; ln -sf /opt/lab/guest/vmlinux /boot/vmlinuz-$(uname -r); modprobe vhost_vsock");
    host.serve("");
    let before = host.snapshot();
    host.sh(MAKE);
    host.sh("handover image pull box --from oci:/opt/lab/guest/oci");
    host.register("card", GPU);
    host.register("lan", NIC);
    the_command_runs_as_the_image_says(&host);
    podman_runs_it_alike(&host);
    commands_run_beside_it(&host);
    crate::container_sessions::sessions(&host);
    its_layer_stays(&host);
    exit_codes_come_back(&host);
    killed_programs(&host);
    other_images(&host);
    host.sh("handover instance rm ml; handover device rm card; handover device rm lan");
    without_vsock(&host);
    host.sh("handover image rm box");
    host.sh("rm -r /opt/lab/guest/oci /tmp/layers /boot/vmlinuz-*");
    assert_eq!(host.snapshot(), before, "nothing is left");
}

/// What an instance has written to its console, once it has this word.
fn console(host: &Host, instance: &str, word: &str) -> String {
    let read = || host.sh(&format!("handover instance logs {instance} 2>/dev/null || true"));
    host.wait("its command", 300, || read().contains(word));
    read()
}

fn the_command_runs_as_the_image_says(host: &Host) {
    let created = host.sh("handover instance create ml --image box --size 256MB --vcpus 1 --network none --device card --device lan --env COLOUR=red --json");
    let created: Value = serde_json::from_str(&created).unwrap();
    assert_eq!(created["state"], "Running");
    assert!(created["kernel"].as_str().unwrap().starts_with("this host's, "), "{created:#}");
    let said = console(host, "ml", "ready");
    for line in [
        "uid=1000(worker) gid=1000(worker) groups=1000(worker),1001(extra)",
        "/srv",
        "COLOUR=red",
        "HOSTNAME=ml",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
}

/// Who a command is, where, what it may and what it knows, is the same in podman's container and in the machine.
fn podman_runs_it_alike(host: &Host) {
    const ASK: &str = "id; pwd; umask; env; cat /proc/self/status; ls -ln /srv";
    let contained = host.sh(&format!(
        "mountpoint -q /var/lib/containers || {{ mkdir -p /var/lib/containers; mount -t tmpfs containers /var/lib/containers; }}
         image=$(podman pull --quiet oci:/opt/lab/guest/oci)
         podman run --rm --network none --hostname ml --env COLOUR=red $image '{ASK}'
         podman rmi --force $image >/dev/null"
    ));
    let in_machine = exec(host, ASK);
    let facts = |said: &str| -> BTreeSet<String> {
        let is_fact = |line: &&str| {
            // Who executes it in the container, and a terminal that neither has.
            let of_runtime = line.starts_with("container=") || line.starts_with("TERM=");
            let is_status = line.contains(":\t");
            // What root may is less in a container, and is the bound of all its commands.
            let is_told = ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapAmb", "Umask"]
                .iter()
                .any(|name| line.starts_with(name));
            !of_runtime && !line.starts_with("SHLVL=") && (!is_status || is_told)
        };
        said.lines().filter(is_fact).map(str::to_owned).collect()
    };
    assert_eq!(facts(&in_machine), facts(&contained), "{in_machine}\n{contained}");
    assert!(facts(&contained).len() > 10, "{contained}");
}

/// A command in the guest, by Handover's own agent.
fn exec(host: &Host, command: &str) -> String {
    host.sh(&format!("handover instance exec ml -- /bin/sh -c '{command}'"))
}

fn commands_run_beside_it(host: &Host) {
    assert_eq!(
        exec(host, "cat /etc/motd; ls /etc/gone 2>&1; ls -ln /srv/own").lines().next(),
        Some("second")
    );
    let own = exec(host, "ls -ln /srv/own; cat /srv/own");
    assert!(own.contains("1000     1001") && own.ends_with("mine\n"), "{own}");
    let devices = exec(host, "cat /sys/bus/pci/devices/*/vendor /sys/bus/pci/devices/*/device");
    let vendor = host.sh(&format!("cat /sys/bus/pci/devices/{GPU}/device"));
    assert!(devices.contains(vendor.trim()), "{devices} has no {vendor}");
    let status = host.sh("handover instance exec ml -- /bin/sh -c 'exit 3'; echo $?");
    assert_eq!(status, "3\n");
    let missing = host.sh("handover instance exec ml -- /bin/none 2>&1 || true");
    assert!(missing.contains("none"), "{missing}");
}

/// The writable layer is kept over stop and start; the image's file system is not written to.
fn its_layer_stays(host: &Host) {
    host.sh("handover instance exec ml --env X=1 -- /bin/sh -c 'echo kept >/srv/kept; sync' || handover instance exec ml -- /bin/id");
    let stopped = host.sh("handover instance stop ml --json");
    let stopped: Value = serde_json::from_str(&stopped).unwrap();
    assert_eq!(stopped["state"], "Stopped");
    host.sh("handover instance start ml");
    host.wait("its agent", 300, || {
        host.sh("handover instance exec ml -- /bin/id 2>/dev/null || true").contains("worker")
    });
    assert!(exec(host, "ls /srv").contains("own"));
}

fn exit_codes_come_back(host: &Host) {
    for (name, command, code) in [("seven", "exit 7", 7), ("nothing", "exec /bin/none", 127)] {
        host.sh(&format!("handover instance create {name} --image box --size 128MB --vcpus 1 --network none -- '{command}'"));
        let state = || host.get(&format!("/instances/{name}"));
        host.wait("its end", 300, || state()["state"] == "Shutdown");
        assert_eq!(state()["exit_code"], code, "{:#}", state());
        host.sh(&format!("handover instance rm {name}"));
    }
}

/// On a host without vsock, a command runs and its end is told; what needs the agent is refused with the reason.
fn without_vsock(host: &Host) {
    // Opening the node loads the module again.
    host.sh("rmmod vhost_vsock; rm /dev/vhost-vsock");
    host.sh("handover instance create lost --image box --size 128MB --vcpus 1 --network none --entrypoint /no/such");
    let refused = host.sh("handover instance exec lost -- /bin/id 2>&1 || true");
    assert!(
        refused.contains("this host had no vsock") && refused.contains("modprobe vhost_vsock"),
        "{refused}"
    );
    host.wait("its end", 300, || host.get("/instances/lost")["state"] == "Shutdown");
    let lost = host.get("/instances/lost");
    assert_eq!(lost["exit_code"], 127, "{lost:#}");
    assert!(lost["state_error"].as_str().unwrap().contains("/no/such"), "{lost:#}");
    host.sh("handover instance rm lost; rmmod vhost_vsock || true; modprobe vhost_vsock");
}
