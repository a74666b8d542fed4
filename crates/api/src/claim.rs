//! Claims.

use serde::{Deserialize, Serialize};

use crate::Wish;

/// A request to create a claim.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateClaim {
    /// Owner, `KIND/ID`, such as `pod/web-1`. Claiming is idempotent per owner and request.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Owner))]
    pub owner: String,
    /// Requested devices, all or nothing: each a string such as `2xgpu`, `0000:01:00.0` or `4xvf@nic0,vlan=100`, or an
    /// object such as `{"count": 2, "any": {"kind": "gpu"}}`.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::schema::Wish>, min_items = 1, max_items = 1024))]
    pub wants: Vec<Wish>,
    /// Purpose, as free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(max_length = 1000))]
    pub reason: Option<String>,
    /// Duration of the lease in seconds, at most 10 years; no lease by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 315_360_000))]
    pub lease_seconds: Option<u64>,
    /// Prepare at once (`true`, the default), or only reserve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare: Option<bool>,
    /// User id that may open the prepared devices; root by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 4_294_967_294u32))]
    pub uid: Option<u32>,
    /// Leave the companions of display functions that are in other IOMMU groups.
    #[serde(default)]
    pub alone: bool,
    /// Several devices of a kind need not be of one model.
    #[serde(default)]
    pub mixed: bool,
    /// A kind of device also means the display of the host's console or of its management controller, if there is no
    /// other.
    #[serde(default)]
    pub any_display: bool,
    /// Also write mdevctl definitions in `/etc/mdevctl.d` for mediated devices that the claim creates. They are removed
    /// on release, unless changed since.
    #[serde(default)]
    pub define: bool,
    /// Keep the devices on the boot list for as long as the claim lasts; takes effect when the initial ramdisk is
    /// rebuilt.
    #[serde(default)]
    pub at_boot: bool,
    /// Reset functions after binding them to vfio; VFIO itself resets devices that it opens.
    #[serde(default)]
    pub reset: bool,
    /// Whether to ask processes that use a function to terminate. None is killed.
    #[serde(default)]
    pub evict: bool,
    /// Whether to take devices that the host's network uses: its routes, addresses, bridges and sessions over them end.
    /// Only for devices that the request names by address or registered name.
    #[serde(default)]
    pub force_network: bool,
    /// Whether to take GPUs that the host's desktop or console draws on: the display manager and its sessions end, and
    /// come back when the claim ends.
    #[serde(default)]
    pub take_display: bool,
}

/// Options of preparing a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct PrepareClaim {
    /// User id that may open the prepared devices; root by default.
    #[cfg_attr(feature = "openapi", schema(maximum = 4_294_967_294u32))]
    pub uid: Option<u32>,
    /// Reset functions after binding them to vfio.
    pub reset: bool,
    /// Whether to ask processes that use a function to terminate.
    pub evict: bool,
    /// Whether to take devices that the host's network uses, if the claim names them by address or registered name.
    pub force_network: bool,
    /// Whether to take GPUs that the host's desktop or console draws on.
    pub take_display: bool,
}

/// A request to renew the lease of a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RenewClaim {
    /// Duration of the lease from now on, in seconds, at most 10 years; no lease by default.
    #[cfg_attr(feature = "openapi", schema(minimum = 1, maximum = 315_360_000))]
    pub lease_seconds: Option<u64>,
}

/// A claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Claim {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Uuid))]
    pub id: String,
    /// Its owner, `KIND/ID`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::AnyOwner))]
    pub owner: String,
    /// Purpose, as free text.
    pub reason: Option<String>,
    /// `reserved`, `prepared` or `wedged`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::ClaimState))]
    pub state: String,
    /// When the lease expires, in seconds since 1970.
    pub expires: Option<u64>,
    /// Its devices and partitions.
    pub parts: Vec<ClaimPart>,
    /// How to attach it to a virtual machine, once prepared.
    pub attach: Option<Attach>,
    /// Notes on the request just done: what was not restored, because another tool changed it meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Notes on a released claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Released {
    /// What was not restored, because another tool changed it meanwhile.
    pub notes: Vec<String>,
}

/// Notes on a cleared device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Cleared {
    /// Marks of other claims that were removed.
    pub notes: Vec<String>,
}

/// A device or partition of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimPart {
    /// The requested function; the parent of a mediated device.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::PciAddress))]
    pub head: String,
    /// The kind of that function: `gpu`, `nic`, `nvme`, ...; absent if it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false, value_type = Option<crate::schema::Kind>))]
    pub kind: Option<String>,
    /// The vendor's and the device's name of that function; their ids if they have none. Absent if it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub title: Option<String>,
    /// The type of the mediated device or vGPU, if it is one: `A100-4C`, `L40S-1Q`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub profile: Option<String>,
    /// The kind of partition, if it is one.
    pub partition: Option<String>,
    /// The UUID of the mediated device, if it is one.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Uuid>))]
    pub mdev: Option<String>,
    /// The functions of the assembly.
    pub members: Vec<ClaimMember>,
}

/// One function of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimMember {
    /// Its address.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::PciAddress))]
    pub address: String,
    /// `guest`, `held` or `bystander`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Role))]
    pub role: String,
    /// The node of the VFIO group, while it exists.
    pub vfio_group: Option<String>,
    /// The node of the VFIO device, for iommufd, while it exists.
    pub vfio_device: Option<String>,
}

/// How to attach a claim to a virtual machine.
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
    /// The CDI name for container tools (Container Device Interface).
    pub cdi: String,
}

/// The answer to a dry run of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PlannedClaim {
    /// The claim that would be created.
    pub claim: Claim,
    /// The steps, in the order in which a single worker would perform them.
    pub steps: Vec<String>,
}

/// A request to set the VF count of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetVfs {
    /// Number of VFs; 0 removes all.
    pub count: u16,
    /// Let host drivers bind new VFs automatically; not for VFs that guests will use.
    #[serde(default)]
    pub autoprobe: bool,
}

/// The configured VF count of a device, which is applied at each boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VfConfiguration {
    /// The physical function.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::PciAddress))]
    pub pci_address: String,
    /// Number of VFs.
    pub count: u16,
    /// Whether host drivers bind new VFs automatically.
    pub autoprobe: bool,
}

/// The result of a check of claims, machines and host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Report {
    /// Operations that were finished.
    pub finished: Vec<String>,
    /// Operations that were undone.
    pub undone: Vec<String>,
    /// Devices whose configuration was restored.
    pub restored: Vec<String>,
    /// Names of the instances whose machines were found running and are managed again.
    pub adopted: Vec<String>,
    /// What was left alone or failed, and needs manual attention.
    pub notes: Vec<String>,
}

/// Which devices to return to their native drivers: those in `addresses`, or `all`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReturnDevices {
    /// Addresses, or ids or names of registered devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// All unclaimed devices on a vfio driver or in need of manual attention.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// The outcome for one device of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReturnedDevice {
    /// Its address.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::PciAddress))]
    pub pci_address: String,
    /// `well`, `restored` or `left`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::Outcome))]
    pub outcome: String,
    /// Why it was left alone, and what to do.
    pub reason: Option<String>,
    /// The driver that it has now.
    pub driver: Option<String>,
}
