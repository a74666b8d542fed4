//! Seeds, read by Debian's own cloud-init: in the gate in L1 itself, with the seed as a loop device; in lab-long in a guest.

use std::path::Path;

use lab::images::cloud_init;
use serde_json::json;

use crate::support::{Host, thoroughly, wanted};

/// The script that runs cloud-init.
const CHECK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/guest/checks/cloud");

/// A machine with all that a seed can have, and an empty disk that is to be mounted.
fn create(host: &Host, image: &str) {
    host.sh(&format!(
        "handover instance create dev --image {image} --size 512MB --vcpus 1 --hostname its-name --ssh-key /root/key.pub \
         --user-data /tmp/user-data --password-file /tmp/password --disk 64MB,mount=/scratch"
    ));
}

#[test]
fn debians_cloud_init_does_what_the_seed_says() {
    if !wanted() {
        return;
    }
    let root = cloud_init::ready().unwrap();
    let host = Host::shared("workstation");
    host.serve("");
    let before = host.snapshot();
    host.lab.put(&root, "/tmp/cloud.erofs").unwrap();
    host.sh("set -e; ssh-keygen -q -t ed25519 -N '' -C me@l1 -f /root/key; echo secret >/tmp/password
         printf '#cloud-config\nwrite_files:\n- path: /root/mine\n  content: from user-data\n' >/tmp/user-data");
    let image = if thoroughly() { in_a_guest(&host) } else { "guest" };
    if !thoroughly() {
        host.import_guest(image, "handover.stay=1");
    }
    create(&host, image);
    let said = if thoroughly() { host.guest_report("dev") } else { in_l1(&host) };
    let key = host.sh("cat /root/key.pub");
    for line in [
        "datasource=DataSourceNoCloud [seed=/dev/".to_owned(),
        "hostname=its-name".to_owned(),
        format!("root={}", key.trim()),
        format!("debian={}", key.trim()),
        "hostkeys=ssh_host_ed25519_key.pub ssh-ed25519 ".to_owned(),
        "password=$6$rounds=".to_owned(),
        "file=from user-data".to_owned(),
    ] {
        assert!(said.contains(&format!("GUEST cloud {line}")), "{line}\n{said}");
    }
    if thoroughly() {
        assert!(said.contains("mounted=/tmp/cloud/root/scratch type=ext4"), "{said}");
    }
    host.sh("handover instance rm dev; rm /root/key /root/key.pub /tmp/password /tmp/user-data /tmp/cloud.erofs");
    host.ask("DELETE", &format!("/images/{image}"), None).expect(204);
    assert_eq!(host.snapshot(), before, "nothing is left");
}

/// cloud-init in L1 reads the machine's seed.
fn in_l1(host: &Host) -> String {
    host.lab.put(Path::new(CHECK), "/tmp/check").unwrap();
    host.sh("modprobe -aq loop isofs; seed=$(losetup -rf --show /var/lib/handover/machines/*/seed.iso); disk=$(losetup -rf --show /tmp/cloud.erofs)
         hostname >/tmp/name; CLOUD=$disk bash /tmp/check 2>&1; hostname -F /tmp/name; losetup -d $seed $disk; rm /tmp/name /tmp/check")
}

/// The image of a guest that runs cloud-init.
fn in_a_guest(host: &Host) -> &'static str {
    let body = json!({
        "name": "cloud",
        "kernel": "/opt/lab/guest/vmlinux",
        "initrd": "/opt/lab/guest/initrd.gz",
        "cmdline": "console=ttyS0 quiet panic=-1 handover.run=cloud handover.stay=1",
        "disk": "/opt/lab/guest/cloud.erofs",
        "format": "raw",
    });
    host.sh("cp /tmp/cloud.erofs /opt/lab/guest/cloud.erofs");
    host.ask("POST", "/images", Some(&body)).expect(202);
    host.wait("the image", 60, || host.get("/images/cloud")["status"] == "ready");
    host.sh("rm /opt/lab/guest/cloud.erofs");
    "cloud"
}
