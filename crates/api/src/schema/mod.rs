//! Schemas of texts and words, for the OpenAPI document: as narrow as what is read.

mod forms;
mod want;

pub use forms::{
    Environment, GzipArchive, Never, Nothing, QueryTags, ServerSentEvent, UploadImage,
};
pub use want::{PlacedWish, Wish};

use std::borrow::Cow;

use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

macro_rules! texts {
    ($($(#[doc = $doc:literal])* $name:ident = $pattern:expr, $example:expr;)*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                text(concat!($($doc),*).trim_ascii(), $pattern, $example).into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    )*};
}

/// A string with a pattern.
fn text(description: &str, pattern: &str, example: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .description(Some(description))
        .pattern(Some(pattern))
        .examples([example])
        .build()
}

/// One PCI address.
macro_rules! address {
    () => {
        r"(([0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]|pci_[0-9a-fA-F]{4,8}_[0-9a-fA-F]{2}_[01][0-9a-fA-F]_[0-7])"
    };
}

macro_rules! uuid {
    () => {
        "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    };
}

/// A reference of a container image (the grammar of distribution/reference), of which only the usual digest is accepted.
macro_rules! reference {
    () => {
        concat!(
            "([a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*(:[0-9]+)?/)?",
            "[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)*",
            "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
        )
    };
}

/// The number of a USB bus or port, 1 to 255.
macro_rules! usb {
    () => {
        "([1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])"
    };
}

macro_rules! mac {
    () => {
        "([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}"
    };
}

/// A count before what is requested.
macro_rules! times {
    () => {
        "([1-9][0-9]{0,2}x)?"
    };
}

macro_rules! kind {
    () => {
        "(gpu|accelerator|nic|nvme|storage|audio|usb|other|bridge)"
    };
}

/// A setting of a virtual function, after its comma, except its address.
macro_rules! setting {
    () => {
        "(,(vlan=(409[0-4]|40[0-8][0-9]|[1-3]?[0-9]{1,3})|qos=[0-7]|trust=(on|off)|spoofchk=(on|off)|(min|max)_tx_rate=[0-9]{1,9}))"
    };
}

/// A device after `@`.
macro_rules! of {
    () => {
        "(@[^,@]+)?"
    };
}

/// One item of a claim's request, in the grammar of `model::choose::GRAMMAR`.
macro_rules! want {
    () => {
        concat!(
            "(",
            address!(),
            "|",
            uuid!(),
            // A registered name: not one that reads as a count of 0.
            "|(0[a-wyzA-Z_.-]|[a-zA-Z1-9][a-zA-Z0-9_.-])[a-zA-Z0-9_.-]{0,126}|",
            times!(),
            kind!(),
            "(,node=[0-9]{1,9})?|",
            times!(),
            "[0-9a-fA-F]{4}:[0-9a-fA-F]{4}(,node=[0-9]{1,9})?|",
            times!(),
            "vf",
            of!(),
            setting!(),
            "*|vf",
            of!(),
            setting!(),
            "*,mac=",
            mac!(),
            setting!(),
            "*|",
            times!(),
            "profile=[^,@]+",
            of!(),
            "(,[^,@=]+=[^,@]*)*|mdev=",
            uuid!(),
            ")"
        )
    };
}

const WANT: &str = concat!("^", want!(), "$");

/// The same for an instance: also with an address in the guest, for a single device.
const PLACED_WANT: &str = concat!(
    "^(",
    want!(),
    "|",
    address!(),
    ",guest=(0[1-9a-fA-F]|[12][0-9a-fA-F]|3[0-9a-fA-F]):00)$"
);

/// The most that a pattern allows is at most what fits into 64 bits.
const SIZE: &str =
    r"^([0-9]{1,18} ?[bB]?|[0-9]{1,6}(\.[0-9]{1,6})? ?([kK]|[mM]|[gG]|[tT])[iI]?[bB]?)?$";

texts! {
    /// The address of a PCI function; the domain can be omitted if it is 0.
    PciAddress = concat!("^", address!(), "$"), "0000:a2:00.0";
    /// Vendor or device id, hexadecimal.
    PciId = "^(0[xX])?[0-9a-fA-F]{1,4}$", "10de";
    /// A USB device of the host: `VENDOR:PRODUCT`, or the bus and the ports that lead to it.
    UsbWish = concat!(
        "^([0-9a-fA-F]{4}:[0-9a-fA-F]{4}|", usb!(), "[.-]", usb!(), r"(\.", usb!(), "){0,5})$"
    ), "046d:c31c";
    /// Owner of a claim, `KIND/ID`. The kinds `instance` and `undo` are for Handover's own use.
    Owner = r"^(?!(instance|undo)/)[a-z0-9-]{1,32}/[^\u0000-\u001f\u007f-\u009f]{1,253}$", "pod/web-1";
    /// Owner of a claim, `KIND/ID`.
    AnyOwner = r"^[a-z0-9-]{1,32}/[^\u0000-\u001f\u007f-\u009f]{1,253}$", "pod/web-1";
    /// Name of a device; empty for the default. No kind of device, count of something, id or address.
    NewDeviceName = concat!(
        "^(?!(vf|", kind!(), "|[0-9]{1,9}x.+|", address!(), "|", uuid!(), "|[0-9a-fA-F]{32})$)",
        "([a-zA-Z0-9][a-zA-Z0-9_.-]{1,127})?$"
    ), "l4-gpu";
    /// Name of a device.
    DeviceName = "^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,127}$", "l4-gpu";
    /// Name of an instance.
    InstanceName = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", "ml-training";
    /// Name of an image: like a container reference, a key and never a path.
    ImageName = r"^(?!.*\.\.)[a-zA-Z0-9][a-zA-Z0-9_.:@/-]{0,254}$", "docker.io/library/debian:13";
    /// Name of a volume.
    VolumeName = concat!("^(?!(", uuid!(), "|[0-9a-fA-F]{32})$)[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$"), "data";
    /// Serial number of a disk.
    DiskSerial = "^[a-zA-Z0-9_.-]{1,20}$", "disk1";
    /// Name of a block device of the host: a path of plain parts.
    BlockName = r"^/?(?!\.{1,2}(/|$))[a-zA-Z0-9_.:+-]{1,200}(/(?!\.{1,2}(/|$))[a-zA-Z0-9_.:+-]{1,200}){0,4}$", "ata-WDC_WD40EFRX_1";
    /// Directory at which a guest mounts a disk: an absolute path without spaces; empty for none.
    MountPath = r"^((/(?!\.\.(/|$))[a-zA-Z0-9_.-]{1,200}){1,5})?$", "/data";
    /// SHA-256 over the parts of an image; empty before it is ready.
    Digest = "^(sha256:[0-9a-f]{64})?$", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    /// A path in a guest.
    GuestPath = r"^(?!([^\x00]*/)?\.\.(/|$))[^\x00]{1,1000}$", "/etc/hostname";
    /// Name of a network interface of the host.
    InterfaceName = "^[a-zA-Z0-9_@-][a-zA-Z0-9_.@-]{0,14}$", "br0";
    /// A program, or one of its arguments. The first is not empty.
    Word = r"^[^\u0000]{0,4096}$", "nvidia-smi";
    /// A directory of a guest: an absolute path, or empty for the usual one.
    WorkingDir = r"^(/[^\u0000]{0,4095})?$", "/srv";
    /// A reference to a container image, as `docker pull` takes it.
    ImageReference = concat!("^(?!.*\\.\\.)(?=.{1,255}$)", reference!(), "$"), "docker.io/library/debian:13";
    /// Where a container image comes from.
    ImageSource = concat!(
        "^((oci|oci-archive|docker-archive):[^:]+(:[\\s\\S]*)?|containers-storage:[^-][\\s\\S]*|(docker://)?(?=.{1,255}$)",
        reference!(), ")$"
    ), "oci:/srv/images/debian";
    /// Bytes in base64, with padding.
    Base64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=|[A-Za-z0-9+/][AQgw]==)?$", "aGVsbG8K";
    /// Name of a user in a guest.
    UserName = "^[A-Za-z_][A-Za-z0-9_.-]{0,31}$", "debian";
    /// Password of a screen: printable ASCII.
    ScreenPassword = "^[!-~]{1,60}$", "s3cret";
    /// Hash of a password: SHA-512 in the form of crypt(5).
    PasswordHash = r"^\$6\$(rounds=[1-9][0-9]{3,8}\$)?[./0-9A-Za-z]{1,16}\$[./0-9A-Za-z]{86}$",
        "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.";
    /// UUID.
    Uuid = concat!("^", uuid!(), "$"), "bd4aa2b4-9c54-4d10-9c8e-4f4f4b2b3c7d";
    /// Hardware address.
    HardwareAddress = concat!("^", mac!(), "$"), "52:54:00:12:34:56";
    /// A requested item as a string: `2xgpu`, `0000:01:00.0`, `4xvf@nic0,vlan=100`.
    WantText = WANT, "2xgpu";
    /// A device for an instance as a string: `2xgpu`, `0000:01:00.0`, `4xvf@nic0,vlan=100`; for a single one also with its address in the guest: `0000:01:00.0,guest=06:00`.
    PlacedWantText = PLACED_WANT, "2xgpu";
    /// Duration as Go formats it: `30s`, `2m`, `1m30s`.
    GoDuration = DURATION, "30s";
}

const DURATION: &str = "^(([0-9]{1,9}(\\.[0-9]{0,9})?|\\.[0-9]{1,9})(ns|us|µs|ms|s|m|h)){1,8}$";

macro_rules! formats {
    ($($(#[doc = $doc:literal])* $name:ident = $format:literal, $pattern:expr, $example:expr;)*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let mut object = text(concat!($($doc),*).trim_ascii(), $pattern, $example);
                object.format = Some(utoipa::openapi::SchemaFormat::Custom($format.to_owned()));
                object.into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    )*};
}

// What no pattern can say is in a format of its own.
formats! {
    /// Duration as Go formats it, 24 hours at most: `30s`, `2m`, `1m30s`.
    Pause = "pause", DURATION, "30s";
    /// Memory: at least 1 MB. `KB`, `MB`, `GB` and `TB` are powers of 1024. Empty for the default.
    MemorySize = "memory-size", SIZE, "4GB";
    /// Size of a disk, at most 16 TB and at least the image's. Empty for the default.
    DiskSize = "disk-size", SIZE, "20GB";
    /// Size of a new disk: 1 MB to 16 TB.
    NewDiskSize = "new-disk-size", r"^[0-9]{1,6} ?([mM]|[gG])[iI]?[bB]?$", "20GB";
    /// Memory of a graphics adapter: a power of two from 1 MB to 512 MB.
    VideoMemory = "video-memory", "^(1|2|4|8|16|32|64|128|256|512)MB$", "32MB";
    /// `VirtualMachine`s or `VirtualMachineInstance`s of KubeVirt, in YAML or JSON.
    KubevirtMachines = "kubevirt-machines", ".", "{apiVersion: kubevirt.io/v1, kind: VirtualMachine, metadata: {name: web}, \
        spec: {template: {spec: {domain: {memory: {guest: 1Gi}, devices: {gpus: [{name: a, deviceName: nvidia.com/GPU}]}}}}}}";
    /// Instance types and preferences of KubeVirt, in YAML or JSON.
    KubevirtPresets = "kubevirt-presets", ".", "{apiVersion: instancetype.kubevirt.io/v1beta1, \
        kind: VirtualMachinePreference, metadata: {name: linux}, spec: {}}";
    /// Address on which a screen listens: `ADDRESS[:PORT]`; for VNC, the port is 5900 or above.
    ScreenAddress = "screen-address", "^[0-9a-fA-F.:\\[\\]]+$", "192.168.1.103:5902";
    /// A device's ROM in base64: it begins with 55 aa, and has 512 B to 2 MB.
    RomContent = "rom", "^Va[o-r][A-Za-z0-9+/]+=*$", "VaoB";
    /// Address of a function, or id or name of a registered device.
    DeviceKey = "device-key", "^.+$", "0000:01:00.0";
    /// Kubernetes quantity of memory, in bytes.
    MemoryQuantity = "memory-quantity", "^[0-9]{1,6}(Ki|Mi|Gi|k|M|G)?$", "4Gi";
    /// Public SSH key, one line as ssh-keygen writes it, without options before it.
    SshKey = "ssh-public-key", "^[a-z0-9@.-]+ [A-Za-z0-9+/=]+", "ssh-ed25519 \
        AAAAC3NzaC1lZDI1NTE5AAAAIEIzSZpMd6Wo7LhbSiXGD6pBJHBVe9pT/PcQ1B8gYKNn me@host";
    /// Configuration for cloud-init: `#cloud-config` and YAML, a script that begins with `#!`, or another of its formats.
    UserData = "cloud-init-user-data", ".", "#cloud-config";
    /// Port of the host that leads to the guest: `[ADDRESS:]HOST_PORT:GUEST_PORT[/tcp|/udp]`. Without an address it listens on
    /// 127.0.0.1. The host's port is 1024 or above, and each is given once.
    ForwardedPort = "forwarded-port", "^[^ ]+:[0-9]{1,5}(/(tcp|udp))?$", "2222:22";
    /// Hardware address of one card: the first byte is even.
    CardAddress = "mac-address", "^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$", "52:54:00:12:34:56";
    /// Host name (RFC 1123), with or without a domain.
    HostName = "host-name", "^[A-Za-z0-9-]{1,63}([.][A-Za-z0-9-]{1,63})*$", "dev.example.com";
}

macro_rules! words {
    ($($(#[doc = $doc:literal])* $name:ident = [$($word:literal),+];)*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug)]
        pub enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(SchemaType::Type(Type::String))
                    .description(Some(concat!($($doc),*).trim_ascii()))
                    .enum_values(Some([$($word),+]))
                    .into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    )*};
}

words! {
    /// Kind of a function.
    Kind = ["gpu", "accelerator", "nic", "nvme", "storage", "audio", "usb", "other", "bridge"];
    /// A kind, or `all`.
    KindOrAll = ["all", "gpu", "accelerator", "nic", "nvme", "storage", "audio", "usb", "other", "bridge"];
    /// State of a claim.
    ClaimState = ["reserved", "prepared", "wedged"];
    /// Role of a function in a claim.
    Role = ["guest", "held", "bystander"];
    /// Outcome of returning a device.
    Outcome = ["unchanged", "restored", "left"];
    /// State of a registered device.
    DeviceState = ["free", "claimed", "foreign", "wedged", "quarantined", "absent"];
    /// When the image of a new instance is pulled.
    PullWhen = ["missing", "never", "always"];
    /// Status of an image.
    ImageStatus = ["pending", "pulling", "converting", "ready", "failed"];
    /// Format of a disk.
    DiskFormat = ["raw", "qcow2"];
    /// How a disk is connected.
    DiskBus = ["virtio", "scsi", "nvme", "sata"];
    /// Protocol of a screen's viewers.
    DisplayProtocol = ["vnc", "spice"];
    /// State of an instance.
    InstanceState = ["Created", "Initializing", "Running", "Paused", "Shutdown", "Stopped", "Standby", "Unknown"];
    /// Kind of a resource.
    ResourceType = ["cpu", "memory", "disk", "network"];
    /// How GPUs are given to machines.
    GpuMode = ["passthrough", "vgpu"];
    /// Firmware of a machine.
    Firmware = ["bios", "uefi", "uefi-secure"];
    /// Operating system of a guest.
    GuestOs = ["other", "windows"];
    /// Use of huge pages.
    HugePages = ["never", "auto", "required"];
    /// Whether a machine is placed beside its devices.
    Placement = ["none", "auto", "required"];
    /// How a VMM opens the devices of its machine.
    DeviceAccess = ["groups", "descriptors"];
    /// When services that were stopped for a machine are started again.
    RestartUnits = ["at-end", "after-start"];
    /// How a machine is connected to networks.
    NetworkMode = ["user", "bridge", "macvtap", "none"];
    /// After which ends a machine is started again.
    RestartWord = ["never", "on_failure", "always"];
    /// Why a machine is not started again.
    RestartBlocked = ["manual_stop", "max_attempts_exceeded"];
    /// Hypervisor.
    Hypervisor = ["qemu"];
    /// How a pod gets its devices.
    PodDevices = ["auto", "nodes", "vfio"];
    /// Form of the device tree.
    TreeFormat = ["json", "svg"];
    /// Source of a log.
    LogSource = ["app"];
    /// Form of a log.
    LogFormat = ["events", "raw"];
}
