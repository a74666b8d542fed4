//! A machine that a person works in: it gets an address from passt, its name and keys from its seed, and is logged in to by
//! `handover instance ssh`. The guest's reader of the seed is the lab's own (`guest/checks/firstboot`), a stand-in for
//! cloud-init; the SSH server is dropbear, the client OpenSSH, and passt is Debian's. Its second start is with the passt of
//! Debian 12, which needs the kernel's help to keep the guest from the host's loopback.

use lab::images::{older, vnc};
use serde_json::json;

use crate::hot_plug::devices_come_and_leave;
use crate::support::{GPU, Host, wanted};

/// A command in the guest, by `handover instance ssh`.
fn guest(host: &Host, command: &str) -> String {
    host.sh(&format!("handover instance ssh dev -- -i /root/key '{command}' 2>&1"))
}

/// A bridge and an interface, for the machine's other network cards. At the interface's other end is a network of its own.
fn make_networks(host: &Host) {
    host.sh("modprobe -aq bridge veth macvtap tun vhost_net
         ip link add br0 address 52:54:00:ff:00:01 type bridge && ip addr add 10.9.0.1/24 dev br0 && ip link set br0 up
         ip link add side0 type veth peer name side1 && ip link set side0 up
         ip addr add 10.9.1.1/24 dev side1 && ip link set side1 up");
}

/// The machine, with a screen, a disk on each bus, and a network card of each kind.
fn create(host: &Host) -> serde_json::Value {
    host.sh("handover volume create data --size 1GB");
    host.sh("printf 'a CD-ROM' >/tmp/cd; truncate -s 1M /tmp/cd; handover image import cd --disk /tmp/cd --format raw");
    let created = host.sh(
        "handover instance create dev --image person --size 256MB --vcpus 1 --ssh-key /root/key.pub -p 8081:80 \
         --network user --network bridge=br0 --network macvtap=side0 --display vnc --disk 64MB --volume data,bus=scsi --disk 64MB,bus=nvme,format=qcow2 --disk 64MB,bus=sata \
         --cdrom cd --json",
    );
    serde_json::from_str(&created).unwrap()
}

#[test]
fn a_person_logs_in_to_a_machine() {
    if !wanted() {
        return;
    }
    let host = Host::shared("workstation");
    host.serve("PATH=/tmp/older:$PATH");
    make_networks(&host);
    let before = host.snapshot();
    host.sh("echo nameserver 127.0.0.53 >/etc/resolv.conf");
    host.import_guest_with("person", "ssh.gz", "handover.run=firstboot handover.stay=1");
    host.sh("ssh-keygen -q -t ed25519 -N '' -C me@l1 -f /root/key");
    host.register("card", GPU);
    let created = create(&host);
    it_is_configured(&host, &created);
    its_other_cards_reach_their_networks(&host);
    its_disks_are_on_their_buses(&host);
    the_screen_is_not_black(&host);
    a_vnc_client_takes_a_picture(&host);
    the_console_is_a_terminal(&host);
    it_tells_what_it_uses(&host);
    devices_come_and_leave(&host);
    its_agent_runs_commands(&host);
    passt_is_a_stranger(&host);
    a_wrong_host_key_is_refused(&host);
    the_guest_cannot_reach_the_hosts_loopback(&host);
    a_forward_leads_to_the_guest(&host);
    the_guest_goes_on_without_passt(&host);
    its_interfaces_go_with_it(&host);
    a_missing_bridge_is_told(&host);
    an_older_passt_forwards_no_udp_port(&host);
    host.sh("handover instance detach dev disk3 && handover instance attach dev dev/disk3 --serial disk3");
    it_gets_a_block_device_of_the_host(&host);
    its_memory_is_in_huge_pages(&host);
    the_host_cannot_use_its_block_device(&host);
    assert_eq!(guest(&host, "hostname").lines().last(), Some("dev"), "it is back");
    let kept =
        guest(&host, "cat /sys/block/vdb/serial; head -c 6 /dev/nvme0n1; head -c 6 /dev/vda");
    assert!(kept.contains("disk3") && kept.contains("disk-2disk-1"), "{kept}");
    the_kernel_closes_the_loopback_to_an_older_passt(&host);

    it_leaves_only_its_volumes(&host, &before);
}

/// The guest has what its seed says, and an address from passt.
fn it_is_configured(host: &Host, created: &serde_json::Value) {
    assert_eq!(created["state"], "Running");
    let network = &created["network"];
    assert_eq!((&network["mode"], &network["ip"]), (&json!("user"), &json!("10.0.2.15")));
    let forwards = json!(["127.0.0.1:8081:80/tcp", "127.0.0.1:22000:22/tcp"]);
    assert_eq!(network["forwards"], forwards);

    let report = host.guest_report("dev");
    for line in [
        "files=meta-data,user-data,vendor-data, mode=400",
        "hostname=dev",
        "address=10.0.2.15/24 router=10.0.2.2 dns=10.0.2.3",
        &format!("mac={}", network["mac"].as_str().unwrap()),
        "check firstboot ok",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
    assert_eq!(guest(host, "hostname; id -u").trim(), "dev\n0");
}

fn it_leaves_only_its_volumes(host: &Host, before: &str) {
    host.sh("handover instance rm dev; handover device rm card");
    let volumes = host
        .sh("handover volume list --json | jq -r '.[].name'; ls /var/lib/handover/volumes | wc -l");
    assert_eq!(volumes, "data\ndev/disk3\n2\n", "a volume and a disk that was detached stay");
    host.sh(
        "handover volume rm data; handover volume rm dev/disk3; handover image rm cd; rm /tmp/cd",
    );
    host.wait("passt's end", 10, || host.sh("pgrep passt || true").is_empty());
    assert_eq!(host.sh("ip -br link | grep -c '^ho-' || true").trim(), "0");
    assert_eq!(host.snapshot(), before, "nothing is left");
    assert_eq!(host.sh("ss -Hltn 'sport = :8081'"), "");
    host.ask("DELETE", "/images/person", None).expect(204);
    host.sh("losetup -d /dev/loop5; rm -r /run/blocks /tmp/blocks.img");
    host.sh("sysctl -q vm.nr_hugepages=0; rm /root/key /root/key.pub /etc/resolv.conf; ip link del br0; ip link del side0");
}

/// The guest reaches the bridge's network and that at the interface's other end. The host tells the addresses that it has
/// seen, and counts what the cards carry.
fn its_other_cards_reach_their_networks(host: &Host) {
    let said = guest(
        host,
        "ip addr add 10.9.0.2/24 dev eth1; ip link set eth1 up; ip addr add 10.9.1.2/24 dev eth2; ip link set eth2 up; \
         for ip in 10.9.0.1 10.9.1.1; do ping -c 3 -W 5 $ip >/dev/null && echo reached $ip; done",
    );
    assert!(said.contains("reached 10.9.0.1") && said.contains("reached 10.9.1.1"), "{said}");
    let networks = host.get("/instances/dev")["networks"].clone();
    let field =
        |card: usize, name: &str| networks[card][name].as_str().unwrap_or("none").to_owned();
    assert_eq!((field(1, "source"), field(1, "ip")), ("br0".into(), "10.9.0.2".into()));
    assert_eq!((field(2, "mode"), field(2, "ip")), ("macvtap".into(), "10.9.1.2".into()));
    assert_eq!(host.sh("cat /sys/class/net/br0/address").trim(), "52:54:00:ff:00:01");
    let tap = field(1, "host_interface");
    let link = host.sh(&format!("ip -d link show {tap}"));
    assert!(link.contains("master br0") && link.contains("link/ether fe:"), "{link}");
    assert!(host.sh("ls -l /proc/$(pgrep -x qemu-system-x86)/fd").contains("vhost-net"));
}

/// A machine that ends while no daemon runs leaves a macvtap interface, which the next daemon removes.
fn its_interfaces_go_with_it(host: &Host) {
    let count = || host.sh("ip -br link | grep -c '^ho-' || true").trim().to_owned();
    assert_eq!(count(), "2");
    host.kill_daemon();
    host.sh("pkill -9 -x qemu-system-x86; while pgrep -x qemu-system-x86; do sleep 0.05; done");
    host.wait("the tap's end", 10, || count() == "1");
    host.serve("PATH=/tmp/older:$PATH");
    assert_eq!(count(), "0");
    assert_eq!(host.get("/instances/dev")["state"], "Shutdown");
}

/// A block device of the host with a file system needs consent. The machine then has it alone: the host cannot mount it.
fn it_gets_a_block_device_of_the_host(host: &Host) {
    host.sh(
        "truncate -s 64M /tmp/blocks.img; mkfs.ext4 -qL mine /tmp/blocks.img; mkdir -p /run/blocks
         losetup /dev/loop5 /tmp/blocks.img; ln -s /dev/loop5 /run/blocks/spare",
    );
    let said = host.sh("handover instance attach dev --block spare 2>&1 || true");
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("ext4") && words.contains("allow-data"), "{said}");
    host.sh("mount /dev/loop5 /mnt");
    let used = host.sh("handover instance attach dev --block spare --allow-data 2>&1 || true");
    assert!(used.contains("/mnt"), "{used}");
    host.sh("umount /mnt; handover instance attach dev --block spare --allow-data");
}

fn the_host_cannot_use_its_block_device(host: &Host) {
    host.sh("! mount /dev/loop5 /mnt 2>/tmp/mount && ! mountpoint -q /mnt && rm /tmp/mount");
    let label = guest(
        host,
        "for disk in /sys/block/vd?; do [ $(cat $disk/serial) = spare ] && dd if=/dev/${disk##*/} bs=1 skip=1144 count=4 2>/dev/null; done; true",
    );
    assert!(label.contains("mine"), "{label}");
}

/// Started without enough huge pages, it says so; with them, its memory is there. It has one network card less.
fn its_memory_is_in_huge_pages(host: &Host) {
    host.sh("handover instance set dev --hugepages required --network user --network bridge=br0");
    let refused = host.sh("handover instance start dev 2>&1 || echo refused");
    let words = refused.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("256MB of memory must be in huge pages"), "{refused}");
    host.sh("sysctl -q vm.nr_hugepages=128; handover instance start dev");
    let status = host.sh("grep HugetlbPages /proc/$(pgrep -x qemu-system-x86)/status");
    assert_eq!(status.split_whitespace().collect::<Vec<_>>(), ["HugetlbPages:", "262144", "kB"]);
    assert_eq!(guest(host, "ls -d /sys/class/net/eth* | wc -l").lines().last(), Some("2"));
}

/// A start without its bridge says so.
fn a_missing_bridge_is_told(host: &Host) {
    host.sh("ip link set br0 name br1");
    let said = host.sh("handover instance start dev 2>&1 || echo refused");
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("this host has no bridge br0") && words.ends_with("refused"), "{said}");
    host.sh("ip link set br1 name br0");
    assert_eq!(host.sh("ip -br link | grep -c '^ho-' || true").trim(), "0");
}

/// Each disk is on its bus, with its serial number, and can be written to; QEMU's user cannot open the volumes' files.
fn its_disks_are_on_their_buses(host: &Host) {
    let found = guest(
        host,
        "for disk in /sys/block/vd?; do echo virtio=$(cat $disk/serial) $(cat $disk/size); done; \
         echo nvme=$(cat /sys/class/nvme/nvme0/serial); \
         for disk in /sys/block/sd?; do echo sd=$(tail -c +5 $disk/device/vpd_pg80) $(cat $disk/size); done; \
         echo cd=$(head -c 8 /dev/sr0); for disk in vda:1 nvme0n1:2; do printf disk-${disk#*:} | dd of=/dev/${disk%:*} conv=fsync 2>/dev/null; done",
    );
    for line in [
        "virtio=disk1 131072",
        "virtio=seed",
        "nvme=disk2",
        "sd=data 2097152",
        "sd=disk3 131072",
        "cd=a CD-ROM",
    ] {
        assert!(found.contains(line), "{line}\n{found}");
    }
    let shown = host.sh("handover instance show dev");
    for line in [
        "data (1GB, scsi, serial data)",
        "dev/disk2 (64MB, nvme, serial disk2)",
        "cd (CD-ROM, serial cd1)",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    host.sh("! setpriv --reuid=1900000000 --clear-groups cat /var/lib/handover/volumes/*/disk 2>/dev/null");
    let busy = host.sh("handover instance detach dev data 2>&1 || true");
    assert!(busy.contains("stop it first"), "{busy}");
    let taken = host.sh("handover volume rm data 2>&1 || true");
    assert!(taken.contains("the instance \"dev\" has the volume \"data\""), "{taken}");
}

/// A viewer gets a picture of the guest's text console. The viewer is a stand-in of a few lines for a real one: it speaks RFB
/// (RFC 6143), asks for one picture, and counts the bytes of it that are not zero.
fn the_screen_is_not_black(host: &Host) {
    let said = host.sh(
        r#"handover instance view dev --no-viewer --listen 127.0.0.1:5901 2>/tmp/view & view=$!
           until grep -q 'connect a viewer' /tmp/view; do sleep 0.1; done
           exec 3<>/dev/tcp/127.0.0.1/5901
           echo "version $(head -c 12 <&3)"; printf 'RFB 003.008\n' >&3
           echo "security $(head -c 2 <&3 | od -An -tu1)"; printf '\1' >&3
           echo "result $(head -c 4 <&3 | od -An -tu1)"; printf '\1' >&3
           head -c 24 <&3 >/tmp/init; name=$(($(od -An -j20 -N4 -tu4 --endian=big /tmp/init)))
           echo "screen $(od -An -N4 -tu2 --endian=big /tmp/init) named $(head -c $name <&3)"
           printf '\3\0\0\0\0\0\2\200\1\220' >&3
           echo "lit $(head -c 200000 <&3 | tr -d '\0' | wc -c)"
           exec 3>&-; kill -INT $view; wait $view; echo "status $?"; cat /tmp/view; rm /tmp/view /tmp/init"#,
    );
    for part in ["version RFB 003.008", "security    1   1", "result    0   0   0   0", "status 0"]
    {
        assert!(said.contains(part), "{part}\n{said}");
    }
    assert!(said.contains("connect a viewer of vnc to vnc://127.0.0.1:5901"), "{said}");
    let lit = said.lines().find_map(|line| line.strip_prefix("lit ")).unwrap();
    assert!(lit.parse::<u32>().unwrap() > 1000, "the picture is black\n{said}");
    let refused = host.sh("handover instance view none 2>&1 || true");
    assert!(refused.contains("there is no instance"), "{refused}");
}

/// Debian's qemu-guest-agent in the guest runs commands, sets passwords, and is told from a silent one.
fn its_agent_runs_commands(host: &Host) {
    let exec = |words: &str| {
        host.sh(&format!("handover instance exec dev {words} 2>&1; echo \"status=$?\""))
    };
    let ran = exec("--wait 60s -- sh -c 'echo out; echo err >&2; exit 7'");
    assert!(ran.contains("out\nerr\nstatus=7"), "{ran}");
    assert_eq!(exec("-- hostname"), "dev\nstatus=0\n");
    let environment = exec("--env A='b c' -- sh -c 'echo $A; which hostname'");
    assert_eq!(environment, "b c\n/bin/hostname\nstatus=0\n");
    let sums = host.sh("head -c 300000 /dev/urandom >/tmp/sent; md5sum </tmp/sent
         handover instance exec dev --input -- cat </tmp/sent | md5sum; rm /tmp/sent
         handover instance exec dev -- head -c 3000000 /dev/zero | wc -c");
    let lines: Vec<&str> = sums.lines().collect();
    assert!(lines[0] == lines[1] && lines[2] == "3000000", "{sums}");
    assert!(exec("-- sh -c 'kill -9 $$'").contains("status=137"), "a signal");
    let missing = exec("-- nvidia-smi");
    assert!(missing.contains("(agent_refused)") && missing.contains("nvidia-smi"), "{missing}");
    let late = exec("--timeout 1s -- sleep 1000");
    assert!(late.contains("it goes on as process") && late.contains("status=124"), "{late}");
    let set = host.sh("printf 'secret\\n' | handover instance set-password dev --password-file -");
    assert!(set.contains("Set the password of root in dev"), "{set}");
    let hash = guest(host, "cat /tmp/hashes");
    assert!(hash.contains("root:$6$rounds=") && !hash.contains("secret"), "{hash}");
    guest(host, "killall qemu-ga sleep");
    let silent = exec("-- true");
    assert!(silent.contains("(agent_silent)") && silent.contains("status=6"), "{silent}");
    guest(host, "(qemu-ga -m virtio-serial -p $(cat /run/agent) -t /run >/dev/null 2>&1 &)");
    assert_eq!(exec("--wait 60s -- true").lines().last(), Some("status=0"), "it is back");
    let log = host.sh("cat /tmp/handover.log; handover instance show dev --json");
    assert!(!log.contains("secret"), "{log}");
}

/// Debian's vncsnapshot gets the same picture. A black one has a tenth of its size.
fn a_vnc_client_takes_a_picture(host: &Host) {
    let client = vnc::client().unwrap();
    host.lab.put(&client.root().join("usr/bin/vncsnapshot"), "/tmp/vncsnapshot").unwrap();
    let said = host.sh(
        "handover instance view dev --no-viewer --listen 127.0.0.1:5902 >/tmp/view 2>&1 & view=$!
         until grep -q 'connect a viewer' /tmp/view; do sleep 0.1; done
         /tmp/vncsnapshot -nocursor 127.0.0.1:2 /tmp/picture.jpg 2>&1; kill -INT $view; wait $view
         echo size $(stat -c %s /tmp/picture.jpg) type $(head -c 3 /tmp/picture.jpg | od -An -tx1)
         rm /tmp/view /tmp/picture.jpg /tmp/vncsnapshot",
    );
    let size = said.lines().find_map(|line| line.strip_prefix("size ")).unwrap();
    let (size, kind) = size.split_once(" type ").unwrap();
    println!("the picture has {size} bytes");
    assert!(kind == "ff d8 ff" && size.parse::<u32>().unwrap() > 15_000, "{said}");
}

/// What its processor, disks and cards did.
fn it_tells_what_it_uses(host: &Host) {
    let table = host.sh("handover instance stats");
    let row = table.lines().find(|line| line.starts_with("dev ")).unwrap_or_default();
    assert!(row.contains("% ") && row.contains(" of 256 MB"), "{table}");
    let stats = host.get("/instances/dev/stats");
    assert!(stats["network_tx_bytes"].as_u64().unwrap() > 500, "{stats:#}");
    assert!(stats["network_rx_bytes"].as_u64().unwrap() > 500, "{stats:#}");
}

/// What is typed reaches the guest's shell, Ctrl-] disconnects and restores the terminal, and the log is complete.
fn the_console_is_a_terminal(host: &Host) {
    let said = host.sh(
        r"printf '%s\n' '#!/bin/bash' 'stty -g' 'handover instance console dev' 'echo status=$?' 'stty -g' >/tmp/session
          chmod +x /tmp/session
          (sleep 3; printf 'echo typed-$((40+2))\r'; sleep 6; printf '\035'; sleep 3) |
          socat - EXEC:/tmp/session,pty,setsid,ctty,stderr 2>&1",
    );
    assert!(said.contains("typed-42") && said.contains("status=0"), "{said}");
    assert!(said.contains("Ctrl-] disconnects") && said.contains("disconnected"), "{said}");
    let settings: Vec<&str> =
        said.lines().map(str::trim).filter(|l| l.starts_with("500:")).collect();
    assert!(settings.len() == 2 && settings[0] == settings[1], "{said}");
    assert!(host.sh("handover instance logs dev").contains("typed-42"));
    assert!(host.sh("handover instance logs dev").contains("GUEST done"));
}

/// passt has the machine's user and cgroup, and neither the machine's lock nor its control socket.
fn passt_is_a_stranger(host: &Host) {
    let status = host.sh("cat /proc/$(pgrep passt)/status");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(field("Uid:"), "1900000000");
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".into(), "2".into()));
    assert!(host.sh("cat /proc/$(pgrep passt)/cgroup").contains("handover-"));
    let files = host.sh("ls -l /proc/$(pgrep passt)/fd");
    assert!(!files.contains("/run/handover"), "{files}");
}

fn a_wrong_host_key_is_refused(host: &Host) {
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEIzSZpMd6Wo7LhbSiXGD6pBJHBVe9pT/PcQ1B8gYKNn";
    let change = format!(
        "UPDATE instances SET options = json_set(options, '$.seed.host_key', '{other}') WHERE name = 'dev'"
    );
    let key = host.sh("sqlite3 /var/lib/handover/state.db \"SELECT json_extract(options, '$.seed.host_key') FROM instances\"");
    host.sh(&format!("sqlite3 /var/lib/handover/state.db \"{change}\""));
    let said = host.sh("handover instance ssh dev -- -i /root/key true 2>&1 || echo refused");
    assert!(
        said.contains("REMOTE HOST IDENTIFICATION HAS CHANGED")
            || said.contains("verification failed"),
        "{said}"
    );
    assert!(said.trim_end().ends_with("refused"), "{said}");
    let back = change.replace(other, key.trim());
    host.sh(&format!("sqlite3 /var/lib/handover/state.db \"{back}\""));
}

/// Root in the guest sends packets for the loopback addresses by its network card.
const LOOPBACK_BY_CARD: &str = "for name in eth0 all; do echo 1 >/proc/sys/net/ipv4/conf/$name/route_localnet; done; \
     ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.0/8 via 10.0.2.2 dev eth0 src 10.0.2.15";

fn the_guest_cannot_reach_the_hosts_loopback(host: &Host) {
    host.sh("socat -u TCP-LISTEN:7777,fork,reuseaddr OPEN:/tmp/reached,creat,append & disown");
    host.wait("the local service", 10, || !host.sh("ss -Hltn 'sport = :7777'").is_empty());
    host.sh("echo here >/dev/tcp/127.0.0.1/7777");
    host.wait("the local service's file", 10, || host.sh("cat /tmp/reached") == "here\n");
    guest(host, LOOPBACK_BY_CARD);
    for address in ["10.0.2.2", "10.0.2.3", "127.0.0.1", "127.0.0.2"] {
        guest(host, &format!("echo guest | nc -w 3 {address} 7777 || true"));
    }
    assert_eq!(
        host.sh("cat /tmp/reached"),
        "here\n",
        "the guest reached a service on the host's loopback"
    );
    host.sh("pkill -x socat; rm /tmp/reached");
}

fn a_forward_leads_to_the_guest(host: &Host) {
    guest(
        host,
        "echo page >/tmp/page; (while :; do nc -l -p 80 </tmp/page; done) >/dev/null 2>&1 &",
    );
    host.wait("the guest's server", 20, || {
        host.sh("echo | timeout 3 socat - TCP:127.0.0.1:8081 2>/dev/null || true").contains("page")
    });
}

fn the_guest_goes_on_without_passt(host: &Host) {
    assert_eq!(host.get("/instances/dev")["state_error"], json!(null));
    host.sh("pkill -9 passt; while pgrep passt; do sleep 0.02; done");
    let shown = host.get("/instances/dev");
    assert_eq!(shown["state"], "Running");
    assert!(shown["state_error"].as_str().unwrap().starts_with("passt has ended"), "{shown:#}");
    host.sh("sleep 1; pgrep -x qemu-system-x86");
}

/// From here on the daemon finds Debian 12's passt. It needs a default route, and refuses forwarded UDP ports.
fn an_older_passt_forwards_no_udp_port(host: &Host) {
    let tree = older::passt().unwrap();
    for name in ["passt", "passt.avx2"] {
        host.lab
            .put(&tree.root().join("usr/bin").join(name), &format!("/tmp/older/{name}"))
            .unwrap();
    }
    host.sh("ip link add up0 type veth peer name up1; ip link set up1 up; ip link set up0 up
         ip addr add 192.0.2.1/24 dev up0; ip route add default via 192.0.2.2");
    let create = "handover instance create other --image person --size 256MB -p 5353:53/udp 2>&1 || echo refused";
    let udp =
        r#"json('{"protocol":"udp","address":"127.0.0.1","host_port":5353,"guest_port":53}')"#;
    let change = |change: &str| {
        let update = format!("UPDATE instances SET options = {change} WHERE name = 'dev'");
        host.sh(&format!("sqlite3 /var/lib/handover/state.db <<'SQL'\n{update};\nSQL"));
    };
    let created = host.sh(create);
    change(&format!("json_insert(options, '$.cards[0].forwards[#]', {udp})"));
    let started = host.sh("handover instance start dev 2>&1 || echo refused");
    change("json_remove(options, '$.cards[0].forwards[#-1]')");
    for said in [created, started] {
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("127.0.0.1:5353:53/udp") && words.contains("loopback"), "{said}");
        assert!(words.ends_with("refused"), "{said}");
    }
}

/// A name server that knows one address.
const NAME_SERVER: &str = r"#!/bin/bash
q=$(dd bs=512 count=1 2>/dev/null | od -An -v -tx1 | tr -d ' \n')
a=${q:0:4}81800001000100000000${q:24}c00c000100010000003c0004c0000207
printf $(sed 's/../\\x&/g' <<<$a)";

/// The guest reaches this host's other addresses and its name server, and nothing else on its loopback. What is outside the
/// machine's cgroup does, so it is the kernel that refuses.
fn the_kernel_closes_the_loopback_to_an_older_passt(host: &Host) {
    host.sh(&format!("cat >/tmp/answer <<'END'\n{NAME_SERVER}\nEND\nchmod +x /tmp/answer"));
    host.sh("socat -u TCP-LISTEN:7777,fork,reuseaddr OPEN:/tmp/reached,creat,append & disown
         socat -u UDP-RECV:7777 OPEN:/tmp/reached,creat,append & disown
         socat UDP-RECVFROM:53,bind=127.0.0.53,fork EXEC:/tmp/answer & disown");
    host.wait("the local services", 10, || {
        host.sh("ss -Hlntu | grep -cE ':7777|53:53' || true").trim() == "3"
    });
    let answer = guest(
        host,
        &format!(
            "{LOOPBACK_BY_CARD}; cat /etc/resolv.conf; nslookup -type=a name.test; \
             for ip in 192.0.2.1 127.0.0.1 127.0.0.2 127.0.0.53 10.0.2.2 10.0.2.3; do \
             (echo tcp-$ip | nc -w 3 $ip 7777) & (timeout 3 nslookup udp-$ip $ip:7777) & done >/dev/null 2>&1; wait"
        ),
    );
    assert!(answer.contains("nameserver 10.0.2.3") && answer.contains("192.0.2.7"), "{answer}");
    let reached =
        || host.sh("tr -c 'a-z0-9.-' '\\n' </tmp/reached | grep -oE '(tcp|udp)-.*' | sort -u");
    assert_eq!(reached(), "tcp-192.0.2.1\nudp-192\n");

    let tries = "for ip in 0.0.0.0 127.0.0.1; do for by in tcp udp; do (echo $by-$ip >/dev/$by/$ip/7777) 2>&1; done; done";
    let group = "$(dirname $(ls -d /sys/fs/cgroup/*/handover-*/cgroup.procs /sys/fs/cgroup/handover-*/cgroup.procs 2>/dev/null))";
    let said = host.sh(&format!("bash -c 'echo $$ >{group}/cgroup.procs; {tries}; true'"));
    let refused =
        said.lines().filter(|line| line.contains("/dev/") && line.ends_with("not permitted"));
    assert_eq!(refused.count(), 4, "{said}");
    assert_eq!(reached(), "tcp-192.0.2.1\nudp-192\n");

    host.sh("for pid in $(pgrep passt); do echo $pid >/sys/fs/cgroup/cgroup.procs; done");
    guest(host, "timeout 3 nslookup outside 127.0.0.1:7777 >/dev/null 2>&1; true");
    assert!(host.sh("cat /tmp/reached").contains("outside"), "nothing kept it from reaching that");
    host.sh("pkill -x socat; ip link del up0; rm -r /tmp/reached /tmp/answer /tmp/older");
}
