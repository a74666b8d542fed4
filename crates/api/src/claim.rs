//! Claims on the wire.

use model::choose::Want;
use serde::{Deserialize, Serialize};

/// What makes a claim.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateClaim {
    /// Who asks, `KIND/ID`, such as `pod/web-1`. The same wants of the same owner are the same claim.
    pub owner: String,
    /// What is asked for, all or nothing: each a text such as `2xgpu`, `0000:01:00.0` or `4xvf@nic0,vlan=100`, or an
    /// object such as `{"count": 2, "any": {"kind": "gpu"}}`.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<Object>))]
    pub wants: Vec<Wish>,
    /// What for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For how many seconds; until it is released, where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u64>,
    /// Whether it is prepared at once; else it is only reserved. `true` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare: Option<bool>,
    /// The user who may open what is prepared; root by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Whether display functions come without their companions in other IOMMU groups.
    #[serde(default)]
    pub alone: bool,
    /// Whether the mediated devices that the claim makes are written down in `/etc/mdevctl.d` too, where they are not; what
    /// was written goes with the claim, unless it was changed since.
    #[serde(default)]
    pub define: bool,
    /// Whether devices are reserved for machines at each boot too, for as long as the claim lasts: from when the initial
    /// ramdisk is made again.
    #[serde(default)]
    pub at_boot: bool,
    /// Whether functions are reset when they are on vfio; VFIO resets what it opens in any case.
    #[serde(default)]
    pub reset: bool,
    /// Whether processes that use a function are asked to end. None is killed.
    #[serde(default)]
    pub evict: bool,
}

/// One thing that is asked for: in words, or spelt out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Wish {
    /// In words.
    Words(String),
    /// Spelt out.
    Spelt(Want),
}

/// How a claim is prepared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct PrepareClaim {
    /// The user who may open what is prepared; root by default.
    pub uid: Option<u32>,
    /// Whether functions are reset when they are on vfio.
    pub reset: bool,
    /// Whether processes that use a function are asked to end.
    pub evict: bool,
}

/// How long a claim is prolonged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RenewClaim {
    /// For how many seconds from now; until it is released, where it is not said.
    pub lease_seconds: Option<u64>,
}

/// A claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Claim {
    /// Its id.
    pub id: String,
    /// Who has it, `KIND/ID`.
    pub owner: String,
    /// What for.
    pub reason: Option<String>,
    /// `reserved`, `prepared` or `wedged`.
    pub state: String,
    /// When it ends by itself, in seconds since 1970.
    pub expires: Option<u64>,
    /// What it holds.
    pub parts: Vec<ClaimPart>,
    /// What a virtual machine monitor is told, once it is prepared.
    pub attach: Option<Attach>,
    /// What its owner should know of what was just done: what was not put back, for somebody else changed it meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What its owner should know of a claim that was released.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Released {
    /// What was not put back, for somebody else changed it meanwhile, and why.
    pub notes: Vec<String>,
}

/// One thing of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimPart {
    /// The function that it was asked for by; the parent of a mediated device.
    pub head: String,
    /// What part of a device it is, where it is one.
    pub partition: Option<String>,
    /// The mediated device that it is, where it is one.
    pub mdev: Option<String>,
    /// The functions that go with it.
    pub members: Vec<ClaimMember>,
}

/// One function of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimMember {
    /// Its address.
    pub address: String,
    /// `guest`, `held` or `bystander`.
    pub role: String,
    /// The VFIO group's node, while it is there.
    pub vfio_group: Option<String>,
    /// The VFIO device's own node, for iommufd, while it is there.
    pub vfio_device: Option<String>,
}

/// What a virtual machine monitor is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attach {
    /// The VFIO group nodes, each once.
    pub groups: Vec<String>,
    /// The VFIO device nodes, for iommufd.
    pub devices: Vec<String>,
    /// QEMU's `-device` arguments, in JSON.
    pub qemu: Vec<String>,
    /// Cloud Hypervisor's devices, in JSON.
    pub cloud_hypervisor: Vec<String>,
    /// libvirt's `<hostdev>` elements.
    pub libvirt: Vec<String>,
    /// The name for container tools (Container Device Interface).
    pub cdi: String,
}

/// What would be done for a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlannedClaim {
    /// The claim that there would be.
    pub claim: Claim,
    /// The steps, in words, in the order in which one worker would make them.
    pub steps: Vec<String>,
}

/// How many virtual functions a device shall have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SetVfs {
    /// How many; 0 for none.
    pub count: u16,
    /// Whether they are given to drivers by themselves. Those for guests are not.
    #[serde(default)]
    pub autoprobe: bool,
}

/// How many virtual functions a device shall have at each boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VfConfiguration {
    /// The physical function.
    pub pci_address: String,
    /// How many.
    pub count: u16,
    /// Whether they are given to drivers by themselves.
    pub autoprobe: bool,
}

/// What a look at claims, machines and host found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Report {
    /// Operations that were finished.
    pub finished: Vec<String>,
    /// Operations that were undone.
    pub undone: Vec<String>,
    /// Devices whose configuration was restored.
    pub restored: Vec<String>,
    /// Instances whose machines were found running and are managed again.
    pub adopted: Vec<String>,
    /// What was left alone or failed, and needs manual attention.
    pub notes: Vec<String>,
}

/// Which devices to return to their native drivers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct ReturnDevices {
    /// Addresses; empty: all unclaimed devices on a vfio driver.
    pub addresses: Vec<String>,
}

/// What became of a device that was to be returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReturnedDevice {
    /// Its address.
    pub pci_address: String,
    /// `well`, `restored` or `left`.
    pub outcome: String,
    /// Why it was left alone, and what to do.
    pub reason: Option<String>,
    /// The driver that it has now.
    pub driver: Option<String>,
}
