"""Values of the document's own formats: what is meant by them, no pattern can say."""

import base64
import io
import re
import tarfile

import schemathesis
from hypothesis import strategies as st

MACHINE = """apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {{name: {name}}}
spec: {{template: {{spec: {{domain: {{memory: {{guest: {memory}}}, devices: {{{devices}}}}}}}}}}}
"""

# Preferences: an instance type would contradict machines that have their own memory.
PRESETS = [
    """apiVersion: instancetype.kubevirt.io/v1beta1
kind: VirtualMachinePreference
metadata: {name: linux}
spec: {}
""",
    """apiVersion: instancetype.kubevirt.io/v1beta1
kind: VirtualMachinePreference
metadata: {name: linux}
spec: {devices: {preferredDiskBus: virtio}}
""",
]

names = st.from_regex(r"\A[a-z][a-z0-9]{0,20}\Z")
memory = st.sampled_from(["64Mi", "1Gi", "2048M", "4Gi"])
# Always with a GPU: a limit of GPU memory is for machines that have one.
devices = st.sampled_from([
    "gpus: [{name: a, deviceName: nvidia.com/GPU}]",
    "gpus: [{name: a, deviceName: nvidia.com/GPU}], hostDevices: [{name: b, deviceName: x/y}]",
])
schemathesis.openapi.format(
    "kubevirt-machines",
    st.builds(lambda name, memory, devices: MACHINE.format(name=name, memory=memory, devices=devices), names, memory, devices),
)
schemathesis.openapi.format("kubevirt-presets", st.sampled_from(PRESETS))
schemathesis.openapi.format("memory-size", st.sampled_from(["", "1MB", "1.5 GB", "2g", "64MiB", "1048576"]))
schemathesis.openapi.format("disk-size", st.sampled_from(["", "1GB", "20 GB", "1.5TiB", "16tb"]))
schemathesis.openapi.format("new-disk-size", st.sampled_from(["1MB", "64MiB", "1 GB", "2g"]))
schemathesis.openapi.format("video-memory", st.sampled_from(["1MB", "16MB", "512MB"]))
schemathesis.openapi.format("memory-quantity", st.sampled_from(["1Gi", "64Mi", "1000000", "4G"]))
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEIzSZpMd6Wo7LhbSiXGD6pBJHBVe9pT/PcQ1B8gYKNn"
schemathesis.openapi.format("ssh-public-key", st.sampled_from([KEY, KEY + " me@host", KEY + " a name"]))
schemathesis.openapi.format("cloud-init-user-data", st.sampled_from(["#cloud-config", "#cloud-config\nusers: []\n", "#!/bin/sh\ntrue\n"]))
schemathesis.openapi.format("forwarded-port", st.sampled_from(["2222:22", "0.0.0.0:8081:80", "5353:53/udp", "127.0.0.1:9000:9000/tcp"]))
MACS = ["52:54:00:12:34:56", "52-54-00-ab-cd-ef", "02:00:00:00:00:01"]
schemathesis.openapi.format("mac-address", st.sampled_from(MACS))
schemathesis.openapi.format("pause", st.sampled_from(["0s", "5s", "1m30s", "500ms", "24h"]))
ROM = base64.b64encode(b"\x55\xaa" + bytes(510)).decode()
schemathesis.openapi.format("rom", st.just(ROM))
schemathesis.openapi.format("device-key", st.sampled_from(["0000:01:00.0", "gpu0"]))
schemathesis.openapi.format("screen-address", st.sampled_from(["127.0.0.1", "0.0.0.0:5902", "[::1]:5901", "::"]))
schemathesis.openapi.format("host-name", st.sampled_from(["dev", "dev.example.com", "a-1"]))


def archive(names):
    """A tar.gz archive with these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(name)
            tar.addfile(entry, io.BytesIO(name.encode()))
    return out.getvalue()


schemathesis.openapi.media_type("application/gzip", st.builds(archive, st.lists(names, max_size=2, unique=True)))


@schemathesis.hook
def before_call(context, case, kwargs):
    """What is between fields, which no schema can say."""
    if case.operation.path == "/volumes/from-archive" and isinstance(case.query.get("size_gb"), int):
        # A large file system takes long to make.
        case.query["size_gb"] = min(case.query["size_gb"], 1)
    if isinstance(case.body, dict):
        arrange_cpu(case.body)
        arrange_file(case.body)
        arrange_disks(case.body)
        arrange_network(case.body)
        arrange_display(case.body)
        arrange_roms(case.body)
        arrange_command(case.body)
        if case.operation.path == "/images/{name}":
            arrange_image(case.body, case.method)
        if case.operation.path == "/instances":
            arrange_boot(case.body)
        if case.operation.path == "/volumes" and type(case.body.get("image")) is str:
            arrange_content(case.body)


def arrange_image(body, method):
    """Small images: others are computed for long, and only some at a time. A layer is as large as its base. The image in a
    body is there: that it is not would be taken for the one in the path. A size may become smaller."""
    size = body.get("size")
    if type(size) is str and size[-1:].isalpha():
        body["size"] = "1MB"
    for other in ("base", "from"):
        if type(body.get(other)) is str and body[other][:1].isalnum() and ".." not in body[other]:
            body[other] = "debian"
    if body.get("base") == "debian" and body.get("size") == "1MB":
        del body["size"]
    if method == "PATCH" and body.get("shrink", False) is False and body.get("size") == "1MB":
        body["shrink"] = True


def arrange_content(body):
    """The image of a volume is there."""
    if body["image"][:1].isalnum() and ".." not in body["image"]:
        body["image"] = "debian"


def arrange_network(body):
    """`network` or `networks`; of several cards, one in the mode `user`, each with its own hardware address."""
    cards = body.get("networks")
    if isinstance(cards, list):
        if isinstance(body.get("network"), dict):
            body.pop("network")
        for number, card in enumerate(cards):
            if isinstance(card, dict):
                if number > 0 and card.get("mode") in ("user", "none", "macvtap", None):
                    card["mode"] = "bridge"
                if number > 0 and card.get("mac") in MACS:
                    card.pop("mac")
                if card.get("mode") == "none":
                    card["mode"] = "user"
                if card.get("enabled") is False:
                    card["enabled"] = True
                arrange_card(card)
    if isinstance(body.get("network"), dict):
        arrange_card(body["network"])


def arrange_card(card):
    """Each mode has its own fields."""
    mode = card.get("mode")
    if mode == "none" and card.get("enabled") is True:
        card["enabled"] = False
    if mode in ("user", "bridge", "macvtap") and card.get("enabled") is False:
        card["enabled"] = True
    if mode in ("bridge", "macvtap"):
        card.pop("forwards", None)
        if card.get("source") is None:
            card["source"] = "br0"
    elif mode in ("user", "none", None):
        card.pop("source", None)
    if mode != "macvtap" and type(card.get("force")) is bool:
        card.pop("force")
    if mode == "none" or card.get("enabled") is False:
        card.pop("mac", None)
        card.pop("forwards", None)
        card.pop("force", None)


def arrange_display(body):
    """Only a screen on an address has a password; VNC's is short. No screen has nothing else."""
    display = body.get("display")
    if not isinstance(display, dict):
        return
    if display.get("enabled") is False and len(display) > 1:
        display["enabled"] = True
    password = display.get("password")
    if type(password) is not str or not re.fullmatch("[!-~]{1,60}", password):
        return
    if display.get("listen") is None:
        del display["password"]
    elif display.get("protocol") != "spice" and len(display["password"]) > 8:
        display["password"] = display["password"][:8]


def arrange_roms(body):
    """A ROM is for a device that the machine gets: here the machines have none."""
    def is_rom(rom):
        return isinstance(rom, dict) and type(rom.get("device")) is str and rom.get("content") in (None, ROM)

    roms = body.get("roms")
    if isinstance(roms, list) and all(is_rom(rom) for rom in roms):
        roms.clear()


def arrange_command(body):
    """A command has a name."""
    command = body.get("command")
    if isinstance(command, list) and command and command[0] == "":
        command[0] = "true"


def arrange_file(disk):
    """Only a raw disk is allocated, and none here that would fill the disk."""
    if disk.get("format") == "qcow2" or disk.get("size_gb") != 1:
        if disk.get("allocate") is True:
            disk["allocate"] = False


def arrange_disks(body):
    """A few disks, with a serial number and a directory for one of them; SATA's cannot be read-only."""
    serials = mounts = 0
    for field in ("disks", "volumes", "blocks", "cdroms"):
        disks = body.get(field)
        if not isinstance(disks, list):
            continue
        del disks[2:]
        for disk in disks:
            if not isinstance(disk, dict):
                continue
            arrange_file(disk)
            if disk.get("readonly") is True and disk.get("bus") == "sata":
                disk["bus"] = "virtio"
            if type(disk.get("serial")) is str:
                serials += 1
                if serials > 1:
                    del disk["serial"]
            if type(disk.get("mount_path")) is str:
                mounts += 1
                if mounts > 1:
                    del disk["mount_path"]


def arrange_boot(body):
    """A machine boots an image or a CD-ROM. Without an image it has no root disk that could have a size."""
    if body.get("image") is None or body.get("image") == "":
        if body.get("cdroms"):
            body.pop("overlay_size", None)
        else:
            body["image"] = "debian"


def arrange_cpu(body):
    """The number of virtual CPUs is the product of their arrangement."""
    cpu = body.get("cpu")
    if not isinstance(cpu, dict):
        return
    parts = [cpu.get(part) for part in ("sockets", "cores", "threads")]
    parts = [1 if part is None else part for part in parts]
    if not all(type(part) is int and 1 <= part <= 1024 for part in parts):
        return
    sockets, cores, threads = parts
    if sockets * cores * threads > 1024:
        cpu.update(sockets=2, cores=4, threads=2)
        sockets, cores, threads = 2, 4, 2
    vcpus = body.get("vcpus")
    if type(vcpus) is int and 1 <= vcpus <= 1024:
        body["vcpus"] = sockets * cores * threads
