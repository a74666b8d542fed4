//! Requests and results of the engine: plain values, which CLI and API render.

use std::collections::BTreeMap;
use std::path::PathBuf;

use image::NewVolume;
use jiff::Timestamp;
use model::choose::{Options, Want};
use model::{
    Address, Claim, DiskFormat, GuestSlot, GuestSource, Id, Kind, MachineOptions, Owner, Part,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Container;
use crate::consent::Consent;

/// The default of [`Config::journal_timeout`].
pub const JOURNAL_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

/// The engine's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of `state.db`, images and machine files, such as `/var/lib/handover`.
    pub state_dir: PathBuf,
    /// Images can be imported by path only from below these directories.
    pub image_dirs: Vec<PathBuf>,
    /// Machines can have block devices of the host only from below these directories.
    pub block_dirs: Vec<PathBuf>,
    /// Limits of uploads and imports of images.
    pub image_limits: image::Limits,
    /// User ids that machines run as, one per machine.
    pub machine_uids: std::ops::Range<u32>,
    /// How long a guest may take to shut down before its VMM is killed.
    pub shutdown_grace: std::time::Duration,
    /// How long a running operation retries writes to the journal before it is rolled back; usually
    /// [`JOURNAL_TIMEOUT`].
    pub journal_timeout: std::time::Duration,
    /// Which ended operations stay in the journal.
    pub journal_kept: JournalKept,
    /// The executable that is the init in the guests of container images, if it is installed.
    pub guest_init: Option<PathBuf>,
}

/// Which ended operations stay in the journal: a maximum number and a maximum age. What a claim still needs for its
/// rollback always stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalKept {
    /// The maximum number.
    pub operations: u32,
    /// The maximum age in days.
    pub days: u32,
}

impl JournalKept {
    /// Everything: for those who open an engine only for a moment.
    pub const ALL: Self = Self { operations: u32::MAX, days: u32::MAX };
}

impl Default for JournalKept {
    fn default() -> Self {
        Self { operations: 10_000, days: 30 }
    }
}

/// A function that can be registered, as `GET /devices/available` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvailableDevice {
    /// PCI address.
    pub address: Address,
    /// Kind of device.
    pub kind: Kind,
    /// Vendor id.
    pub vendor: Id,
    /// Device id.
    pub device: Id,
    /// Vendor name, or its id in hex.
    pub vendor_name: String,
    /// Device name, or its id in hex.
    pub device_name: String,
    /// IOMMU group.
    pub iommu_group: u32,
    /// Bound driver.
    pub driver: Option<String>,
}

/// Which functions `Devices::available` lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AvailableFilter {
    /// Display functions and all functions of vendor 10de.
    Gpus,
    /// Every function that can be handed over.
    All,
    /// Every function of this kind that can be handed over.
    Kind(Kind),
}

/// Request to register a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegisterDevice {
    /// PCI address as written in the request; not validated yet.
    pub address: String,
    /// Name; by default made from the address, such as `pci-0000-a2-00-0`.
    pub name: Option<String>,
    /// Labels.
    pub tags: BTreeMap<String, String>,
}

/// A registered device: a named assembly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Id of the registration.
    pub id: Uuid,
    /// Name.
    pub name: String,
    /// Address of the function that was registered.
    pub address: Address,
    /// Kind of that function.
    pub kind: Kind,
    /// Vendor id.
    pub vendor: Id,
    /// Device id.
    pub device: Id,
    /// The vendor's and the device's name; `None` if the function is absent.
    pub title: Option<String>,
    /// Current IOMMU group; `None` if the function is absent.
    pub iommu_group: Option<u32>,
    /// Whether it is bound to a vfio driver now.
    pub bound_to_vfio: bool,
    /// The instance that it is attached to.
    pub attached_to: Option<Uuid>,
    /// Whether it can be claimed.
    pub state: DeviceState,
    /// Why it is not free, if it is not.
    pub state_reason: Option<String>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Labels.
    pub tags: BTreeMap<String, String>,
}

/// Source of one part of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// A file below one of the configured directories.
    Path(PathBuf),
    /// A file that was uploaded into `Images::staging_dir`; the import takes it over.
    Staged(PathBuf),
}

/// The step up to which a claim is carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimStep {
    /// Reserve: no other owner can claim the devices; the host is not changed.
    Reserve,
    /// Prepare: the devices are ready for a machine.
    #[default]
    Prepare,
}

/// Request for a claim. Claiming is idempotent per owner and request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Owner of the claim.
    pub owner: Owner,
    /// Requested devices and partitions: all of them, or the claim fails.
    pub wants: Vec<Want>,
    /// Free text that says what the claim is for.
    pub reason: Option<String>,
    /// Lease; `None` means until it is released.
    pub lease: Option<std::time::Duration>,
    /// Whether to reserve only, or to prepare too.
    pub step: ClaimStep,
    /// User id that may open the prepared device nodes; root by default.
    pub uid: Option<u32>,
    /// Whether to leave out a display function's companions in other IOMMU groups.
    pub alone: bool,
    /// Whether several devices of a kind need not be of one model.
    pub mixed: bool,
    /// Whether a kind of device also means the host's own displays.
    pub any_display: bool,
    /// Whether to write mdevctl definitions for the mediated devices that the claim creates.
    pub define: bool,
    /// Whether the devices are on the boot list (vfio-pci takes them at each boot) while the claim lasts.
    pub at_boot: bool,
    /// Whether to reset functions after they are bound to vfio.
    pub reset: bool,
    /// Whether to ask processes that use a function to exit.
    pub evict: bool,
    /// Whether to take functions that the host's network uses, if the request names them.
    pub force_network: bool,
    /// Whether to end the host's desktop and consoles on cards that it takes.
    pub take_display: bool,
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
            mixed: false,
            any_display: false,
            define: false,
            at_boot: false,
            reset: false,
            evict: false,
            force_network: false,
            take_display: false,
        }
    }
}

impl ClaimRequest {
    /// What it consents to.
    #[must_use]
    pub const fn consent(&self) -> Consent {
        Consent::options(self.evict, self.force_network).with_display(self.take_display)
    }

    /// The options of choosing.
    #[must_use]
    pub const fn options(&self) -> Options {
        let Self { alone, mixed, any_display, .. } = *self;
        Options { alone, mixed, any_display, by_name_only: false }
    }
}

/// Result of a request for a claim.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The claim.
    pub claim: Claim,
    /// Whether this request created it; `false` if it existed already.
    pub new: bool,
}

/// Request to import an image: a disk, a kernel bundle, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportImage {
    /// Name.
    pub name: String,
    /// Disk and its format.
    pub disk: Option<(ImageSource, DiskFormat)>,
    /// Kernel.
    pub kernel: Option<ImageSource>,
    /// Initial ramdisk; needs a kernel.
    pub initrd: Option<ImageSource>,
    /// Kernel command line.
    pub cmdline: Option<String>,
    /// Labels.
    pub tags: BTreeMap<String, String>,
}

/// Progress of an image's import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageStatus {
    /// Accepted; the import has not started.
    Pending,
    /// The layers of a container image are being fetched.
    Pulling,
    /// Being checked and copied.
    Converting,
    /// Ready for use.
    Ready,
    /// The import failed; `error` says why.
    Failed,
}

/// An imported image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Name.
    pub name: String,
    /// SHA-256 over its parts, `sha256:...`, once ready.
    pub digest: String,
    /// Progress of the import.
    pub status: ImageStatus,
    /// Bytes on disk.
    pub size_bytes: Option<u64>,
    /// Disk format; `None` without a disk.
    pub disk_format: Option<DiskFormat>,
    /// Whether the image includes a kernel.
    pub has_kernel: bool,
    /// Kernel command line.
    pub cmdline: Option<String>,
    /// What a container image says of itself; `None` for images of disks and kernels.
    pub container: Option<Container>,
    /// Why the import failed.
    pub error: Option<String>,
    /// The code of that error; images that failed in an earlier version have none.
    pub error_code: Option<model::Code>,
    /// When it was imported.
    pub created_at: Timestamp,
    /// Labels.
    pub tags: BTreeMap<String, String>,
}

/// State of an instance, as the API names it.
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
    /// Saved to disk; never set by Handover.
    Standby,
    /// Unknown whether the VMM runs; `state_error` says why.
    Unknown,
}

/// The vGPU of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceGpu {
    /// Requested profile.
    pub profile: String,
    /// UUID of the mediated device, if the vGPU is one.
    pub mdev: Option<Uuid>,
}

/// A device or partition that an instance has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceDevice {
    /// The instance.
    pub instance: Uuid,
    /// The registered device, if it is one.
    pub device: Option<Uuid>,
    /// The profile that was requested, if it is a vGPU.
    pub profile: Option<String>,
    /// The functions, and the partition.
    pub part: Part,
}

impl InstanceDevice {
    /// What the guest has as the first function of it.
    #[must_use]
    pub fn source(&self) -> Option<GuestSource> {
        let slot = GuestSlot::for_part(&self.part);
        slot.functions.iter().min_by_key(|one| one.function).map(|one| one.source)
    }
}

/// A virtual machine that Handover runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Id.
    pub id: Uuid,
    /// Name.
    pub name: String,
    /// Name of the image.
    pub image: String,
    /// State.
    pub state: InstanceState,
    /// The last error, if any.
    pub state_error: Option<String>,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory in bytes.
    pub memory: u64,
    /// Requested size of the root disk in bytes.
    pub overlay_size: Option<u64>,
    /// Name of the launcher.
    pub hypervisor: String,
    /// User id that the VMM runs as.
    pub uid: u32,
    /// Text appended to the kernel command line.
    pub cmdline: Option<String>,
    /// Ids of its registered devices.
    pub devices: Vec<Uuid>,
    /// Its vGPU, if any.
    pub gpu: Option<InstanceGpu>,
    /// Firmware, network cards, other disks, screen, seed.
    pub options: MachineOptions,
    /// Process id of the VMM, while it runs.
    pub pid: Option<u32>,
    /// Exit code of the VMM.
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

/// Why a function is not chosen before a person clears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// A step on it timed out; it may still be running in the kernel.
    Wedged,
    /// It failed its check: it no longer answers.
    Quarantined,
}

impl HealthState {
    /// The word in the store, in tables and in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wedged => "wedged",
            Self::Quarantined => "quarantined",
        }
    }
}

/// Whether a device can be claimed, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// It can be claimed.
    Free,
    /// Claimed, as a whole or in part.
    Claimed,
    /// Used by something other than a claim of this state directory.
    Foreign,
    /// See [`HealthState::Wedged`].
    Wedged,
    /// See [`HealthState::Quarantined`].
    Quarantined,
    /// Not present on the host now.
    Absent,
}

/// Result of returning a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Returned {
    /// Nothing to do: it already has its native driver.
    Unchanged,
    /// Returned to its native driver.
    Restored,
    /// Not touched, or it could not be returned.
    Left,
}

/// A device that was to be returned, and its state afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnedDevice {
    /// Address of the function.
    pub address: Address,
    /// Result.
    pub outcome: Returned,
    /// Why it was not returned, and what to do.
    pub reason: Option<String>,
    /// Driver bound afterwards.
    pub driver: Option<String>,
}

/// Configured number of virtual functions of a device, restored at each boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfConfiguration {
    /// Address of the physical function.
    pub address: Address,
    /// Number of virtual functions.
    pub count: u16,
    /// Whether host drivers bind new virtual functions automatically.
    pub autoprobe: bool,
}

/// Result of a recovery or reconciliation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryReport {
    /// Operations that were finished.
    pub finished: Vec<String>,
    /// Operations that were undone.
    pub undone: Vec<String>,
    /// Devices whose configuration was restored.
    pub restored: Vec<String>,
    /// Names of the instances whose machines were found running and are managed again.
    pub adopted: Vec<String>,
    /// What was left alone or failed, for a person to read.
    pub notes: Vec<String>,
}

impl RecoveryReport {
    /// Adds the report of another part.
    pub(crate) fn add(&mut self, other: Self) {
        self.finished.extend(other.finished);
        self.undone.extend(other.undone);
        self.restored.extend(other.restored);
        self.adopted.extend(other.adopted);
        self.notes.extend(other.notes);
    }
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Id.
    pub id: Uuid,
    /// Name: as given, or `INSTANCE/SERIAL` for one that was made with an instance.
    pub name: String,
    /// Its size as a guest sees it, in bytes.
    pub size: u64,
    /// Format of its file.
    pub format: DiskFormat,
    /// Whether its whole size was taken from the disk at once.
    pub allocated: bool,
    /// The instance that it was made with, and is deleted with.
    pub made_with: Option<Uuid>,
    /// When it was created.
    pub created_at: Timestamp,
    /// Labels.
    pub tags: BTreeMap<String, String>,
}

/// An instance that has a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The instance's id.
    pub instance: Uuid,
    /// Its name.
    pub name: String,
    /// Whether its guest cannot write to the volume.
    pub read_only: bool,
    /// Where its guest mounts it, if that was asked for.
    pub mount_path: Option<String>,
}

/// Request to create a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateVolume {
    /// Name.
    pub name: String,
    /// Id; a random one by default.
    pub id: Option<Uuid>,
    /// Its file.
    pub file: NewVolume,
    /// Labels.
    pub tags: BTreeMap<String, String>,
}
