//! What a command finds: its user, its environment, volumes, the network.

use guest_protocol::{Addressing, Card, MountPoint};

use crate::machine::{Place, script};

const SCRIPT: &str = r#"
echo "who $(id -un) $(id -Gn)"
echo "where $(pwd) $(stat -c %u /new/work)"
echo "variables $A $HOME $PATH $HOSTNAME $(hostname)"
echo "input $(cat | wc -c)"
echo "run $(ls /run | xargs)"
echo "tmp $(stat -c %a /tmp) $(stat -c %a /dev/shm)"
echo "volume $(grep -c ' /data ext4 rw' /proc/mounts)"
echo "read-only $(grep -c ' /fixed ext4 ro' /proc/mounts)"
echo "dhcp $(ip -4 addr show eth0 | grep -o 'inet [0-9./]*')"
echo "static $(ip -4 addr show eth1 | grep -o 'inet [0-9./]*') $(ip -6 addr show eth1 | grep -o 'fd00::5/64')"
echo "routes $(ip route | grep -c 'default via 10.0.2.2') $(ip route | grep -o '192.168.9.1 dev eth1')"
echo "names $(cat /etc/resolv.conf | xargs) $(cat /etc/hostname)"
echo "lo $(ip addr show lo | grep -c 127.0.0.1)"
mkdir /x; mount -t vfat nothing /x
echo "modules $(lsmod | grep -c -E '^(e1000e|vfat) ') $(ls /lib/modules) $(ip link | grep -c 52:54:00:00:00:09)"
exit 42
"#;

#[test]
fn a_command_finds_what_the_image_and_the_host_say() {
    let Some(place) = Place::new() else { return };
    place.ext4("a-volume", 8);
    place.ext4("another", 8);
    let mut config = script(SCRIPT);
    // For a card whose driver is on the modules disk, and a file system that the kernel asks for when it is mounted.
    config.modules = true;
    config.user = "0:44".to_owned();
    config.working_dir = "/new/work".to_owned();
    config.env = vec!["A=one two".to_owned()];
    let volume = |serial: &str, path: &str, read_only| MountPoint {
        serial: serial.to_owned(),
        path: path.to_owned(),
        read_only,
        filesystem: String::new(),
    };
    config.mounts = vec![volume("a-volume", "/data", false), volume("another", "/fixed", true)];
    let card = |mac: &str, addressing| Card { mac: mac.to_owned(), addressing };
    let addresses = vec!["192.168.7.5/24".to_owned(), "fd00::5/64".to_owned()];
    let gateways = vec!["192.168.9.1".parse().unwrap()];
    config.cards = vec![
        card("52:54:00:00:00:01", Addressing::Dhcp),
        card("52:54:00:00:00:02", Addressing::Static { addresses, gateways }),
    ];
    let mut options = Vec::new();
    for (number, restrict) in [(1, "off"), (2, "on")] {
        options.extend([
            "-netdev".to_owned(),
            format!("user,id=n{number},restrict={restrict}"),
            "-device".to_owned(),
            format!("virtio-net-pci,netdev=n{number},mac=52:54:00:00:00:0{number}"),
        ]);
    }
    options.extend(["-device", "e1000e,mac=52:54:00:00:00:09"].map(str::to_owned));
    let console = place.start(&config, &options).end().expect(42);
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    for expected in [
        "who root video",
        "where /new/work 0",
        &format!("variables one two /root {path} ml ml"),
        "input 0",
        "run handover lock",
        "tmp 1777 1777",
        "volume 1",
        "read-only 1",
        "dhcp inet 10.0.2.15/24",
        "static inet 192.168.7.5/24 fd00::5/64",
        "routes 1 192.168.9.1 dev eth1",
        "names nameserver 10.0.2.3 ml",
        "lo 1",
        &format!("modules 2 {} 1", place.parts().version),
    ] {
        assert!(console.contains(expected), "no {expected:?}: {console}");
    }
}
