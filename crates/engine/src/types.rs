//! What the engine takes and gives: plain values, which the faces render.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use model::choose::Want;
use model::{Address, Claim, DiskFormat, Id, Kind, Owner};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The usual [`Config::journal_timeout`].
pub const JOURNAL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where `state.db`, images and machines' files live; `/var/lib/handover`.
    pub state_dir: PathBuf,
    /// Directories from below which images may be imported by path.
    pub image_dirs: Vec<PathBuf>,
    /// The users that machines run as, one each.
    pub machine_uids: std::ops::Range<u32>,
    /// How long a guest may take to shut down before its VMM is ended.
    pub shutdown_grace: std::time::Duration,
    /// How long an operation under way waits for a journal that cannot be written before it is rolled back;
    /// [`JOURNAL_TIMEOUT`] usually.
    pub journal_timeout: std::time::Duration,
    /// Which ended operations stay in the journal.
    pub journal_kept: JournalKept,
}

/// Which ended operations stay in the journal: the latest so many, of the last so many days. What a claim still needs for its undo
/// stays too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalKept {
    /// How many.
    pub operations: u32,
    /// For how many days.
    pub days: u32,
}

impl Default for JournalKept {
    fn default() -> Self {
        Self { operations: 10_000, days: 30 }
    }
}

/// A function that could be registered, as `GET /devices/available` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvailableDevice {
    /// Its address.
    pub address: Address,
    /// What it does.
    pub kind: Kind,
    /// Vendor id.
    pub vendor: Id,
    /// Device id.
    pub device: Id,
    /// The vendor's name, or its id in hex.
    pub vendor_name: String,
    /// The device's name, or its id in hex.
    pub device_name: String,
    /// Its IOMMU group.
    pub iommu_group: u32,
    /// The driver bound to it.
    pub driver: Option<String>,
}

/// Which functions `Engine::available` lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AvailableFilter {
    /// Display functions and everything of vendor 10de.
    Gpus,
    /// Whatever can be handed over.
    All,
    /// Whatever can be handed over and is of this kind.
    Kind(Kind),
}

/// What registers a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegisterDevice {
    /// The address as the request wrote it.
    pub address: String,
    /// A name; by default `pci-0000-a2-00-0`.
    pub name: Option<String>,
    /// Labels.
    pub tags: BTreeMap<String, String>,
}

/// A registered device: a named assembly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The function it was registered by.
    pub address: Address,
    /// What that function does.
    pub kind: Kind,
    /// Vendor id.
    pub vendor: Id,
    /// Device id.
    pub device: Id,
    /// Its IOMMU group now; `None` where the function is gone.
    pub iommu_group: Option<u32>,
    /// Whether it is on a vfio driver now.
    pub bound_to_vfio: bool,
    /// The instance that has it.
    pub attached_to: Option<Uuid>,
    /// How it is for those who ask for it.
    pub state: DeviceState,
    /// Why it is not free.
    pub state_reason: Option<String>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Labels.
    pub tags: BTreeMap<String, String>,
}

/// Where one part of an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// A file below one of the configured directories.
    Path(PathBuf),
    /// A file that a face has received into `Engine::staging_dir`; the import takes it over.
    Staged(PathBuf),
}

/// How far a claim is to be brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimStep {
    /// Nobody else can have it; the host is as it was.
    Reserve,
    /// A machine can use it.
    #[default]
    Prepare,
}

/// What makes a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Who asks. The same words from the same owner are the same claim.
    pub owner: Owner,
    /// What is asked for: all of it or nothing.
    pub wants: Vec<Want>,
    /// What for, in the owner's words.
    pub reason: Option<String>,
    /// For how long; until it is released, where it is not said.
    pub lease: Option<std::time::Duration>,
    /// How far it is to be brought.
    pub step: ClaimStep,
    /// The user who may open what is prepared; root by default.
    pub uid: Option<u32>,
    /// Whether a display function comes without its companions in other IOMMU groups.
    pub alone: bool,
    /// Whether mediated devices that the claim makes are written down for mdevctl.
    pub define: bool,
    /// Whether devices are reserved for machines at each boot, for as long as the claim lasts.
    pub at_boot: bool,
    /// Whether functions are reset once they are on vfio.
    pub reset: bool,
    /// Whether processes that use a function are asked to end.
    pub evict: bool,
}

impl ClaimRequest {
    /// A claim of `wants` for `owner`, prepared for root, until it is released.
    #[must_use]
    pub const fn new(owner: Owner, wants: Vec<Want>) -> Self {
        Self {
            owner,
            wants,
            reason: None,
            lease: None,
            step: ClaimStep::Prepare,
            uid: None,
            alone: false,
            define: false,
            at_boot: false,
            reset: false,
            evict: false,
        }
    }
}

/// A claim as its owner gets it.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The claim.
    pub claim: Claim,
    /// Whether it was made now; else it was there already.
    pub new: bool,
}

/// What imports an image: a disk, a kernel bundle, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportImage {
    /// The image's name.
    pub name: String,
    /// The disk and its format.
    pub disk: Option<(ImageSource, DiskFormat)>,
    /// A kernel.
    pub kernel: Option<ImageSource>,
    /// An initial ramdisk.
    pub initrd: Option<ImageSource>,
    /// The kernel's command line.
    pub cmdline: Option<String>,
    /// Labels.
    pub tags: BTreeMap<String, String>,
}

/// How far an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageStatus {
    /// Accepted.
    Pending,
    /// Being checked and copied.
    Converting,
    /// Usable.
    Ready,
    /// Not usable; `error` says why.
    Failed,
}

/// An imported image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// SHA-256 over its parts, `sha256:...`, once ready.
    pub digest: String,
    /// How far it is.
    pub status: ImageStatus,
    /// Bytes on disk.
    pub size_bytes: Option<u64>,
    /// The disk's format, where it has a disk.
    pub disk_format: Option<DiskFormat>,
    /// Whether it boots a kernel of its own.
    pub has_kernel: bool,
    /// The kernel's command line.
    pub cmdline: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was imported.
    pub created_at: Timestamp,
    /// Labels.
    pub tags: BTreeMap<String, String>,
}

/// What creates an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateInstance {
    /// Its name.
    pub name: String,
    /// The image's name.
    pub image: String,
    /// Memory in bytes; 1 GiB by default.
    pub memory: Option<u64>,
    /// Virtual CPUs; 2 by default.
    pub vcpus: Option<u32>,
    /// Size of the root disk in bytes, where it is to be larger than the image.
    pub overlay_size: Option<u64>,
    /// Registered devices, by id or name.
    pub devices: Vec<String>,
    /// A vGPU of this profile, besides.
    pub gpu_profile: Option<String>,
    /// The launcher's name; the first one by default.
    pub hypervisor: Option<String>,
    /// Words appended to the kernel's command line.
    pub cmdline: Option<String>,
    /// Labels.
    pub tags: BTreeMap<String, String>,
}

/// The state of an instance, with the words of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum InstanceState {
    /// Recorded; nothing runs.
    Created,
    /// Devices are being prepared or the VMM is starting.
    Initializing,
    /// The VMM runs.
    Running,
    /// The VMM runs and the guest is paused.
    Paused,
    /// The guest shut itself down.
    Shutdown,
    /// Stopped on request.
    Stopped,
    /// Not ours: saved to disk.
    Standby,
    /// It cannot be told whether the VMM runs; `state_error` says why.
    Unknown,
}

/// The vGPU of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceGpu {
    /// Its profile, as it was asked for.
    pub profile: String,
    /// The mediated device, where it is one.
    pub mdev: Option<Uuid>,
}

/// A virtual machine of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The image's name.
    pub image: String,
    /// Its state.
    pub state: InstanceState,
    /// What went wrong, where something did.
    pub state_error: Option<String>,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Size of the root disk in bytes, where it was asked for.
    pub overlay_size: Option<u64>,
    /// The launcher's name.
    pub hypervisor: String,
    /// The user that its VMM runs as.
    pub uid: u32,
    /// Words appended to the kernel's command line.
    pub cmdline: Option<String>,
    /// Its devices, by id.
    pub devices: Vec<Uuid>,
    /// Its vGPU, where it has one.
    pub gpu: Option<InstanceGpu>,
    /// The VMM's process, while it runs.
    pub pid: Option<u32>,
    /// How the VMM ended.
    pub exit_code: Option<i32>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last started.
    pub started_at: Option<Timestamp>,
    /// When it last stopped.
    pub stopped_at: Option<Timestamp>,
    /// Labels.
    pub tags: BTreeMap<String, String>,
}

/// One kind of resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceUse {
    /// What the host has: cores or bytes.
    pub capacity: u64,
    /// What is given to instances that exist.
    pub allocated: u64,
}

/// What the host has and what is given away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Virtual CPUs.
    pub cpu: ResourceUse,
    /// Memory in bytes.
    pub memory: ResourceUse,
    /// Disk below the state directory, in bytes.
    pub disk: ResourceUse,
    /// Bytes of `disk` that images take.
    pub disk_images: u64,
    /// Bytes of `disk` that machines' layers take.
    pub disk_overlays: u64,
    /// Registered GPUs: name, and whether it is free.
    pub gpus: Vec<(String, bool)>,
}

/// Why a function is not chosen before a person has looked at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// A step on it missed its deadline; the kernel may still be at it.
    Wedged,
    /// It failed its check: it does not answer any more.
    Quarantined,
}

/// How a device is for those who ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// It can be claimed.
    Free,
    /// A claim has it, or a part of it.
    Claimed,
    /// Something that is not ours uses it.
    Foreign,
    /// See [`HealthState::Wedged`].
    Wedged,
    /// See [`HealthState::Quarantined`].
    Quarantined,
    /// It is not on the host now.
    Absent,
}

/// What became of a device that was to be brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Returned {
    /// It was well.
    Well,
    /// It was given back.
    Restored,
    /// It was not touched, or could not be given back.
    Left,
}

/// A device that was to be brought back, and how it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnedDevice {
    /// The function.
    pub address: Address,
    /// What became of it.
    pub outcome: Returned,
    /// Why it was left, and what to do.
    pub reason: Option<String>,
    /// The driver that it has now.
    pub driver: Option<String>,
}

/// How many virtual functions a device shall have at each boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfConfiguration {
    /// The physical function.
    pub address: Address,
    /// How many.
    pub count: u16,
    /// Whether they are given to drivers by themselves.
    pub autoprobe: bool,
}

/// What recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryReport {
    /// Operations that were finished.
    pub finished: Vec<String>,
    /// Operations that were undone.
    pub undone: Vec<String>,
    /// Devices whose configuration was restored.
    pub restored: Vec<String>,
    /// Machines that were found running and are managed again.
    pub adopted: Vec<Uuid>,
    /// What was left alone or could not be done, for a person.
    pub notes: Vec<String>,
}
