//! The candidates for each wish, best first.

use uuid::Uuid;

use super::{Chosen, Filter, Scene};
use crate::vgpu::{Rooms, is_named};
use crate::{
    Address, Assembly, Code, Function, Id, Kind, Mechanism, Partition, Refusal, VfSettings,
};

impl Scene<'_> {
    /// Whether a function fits, also by its resource.
    fn fits(&self, filter: &Filter, function: &Function) -> bool {
        let of_resource = |name: &String| {
            self.resources.get(name).is_some_and(|all| all.contains(&function.address))
        };
        filter.fits(function) && filter.resource.as_ref().is_none_or(of_resource)
    }

    /// Assemblies without obstacles whose head fits. The host's own displays are no candidates for a kind of device, and come
    /// last where they are allowed.
    pub(super) fn whole(&self, filter: &Filter, all: &[Assembly]) -> Vec<(Chosen, u32)> {
        let mut found = Vec::new();
        for assembly in all {
            let Some(head) = self.inventory.function(assembly.head) else { continue };
            if !self.fits(filter, head) {
                continue;
            }
            let own = if self.options.alone {
                Assembly::alone(self.inventory, head.address)
            } else {
                None
            };
            let assembly = own.as_ref().unwrap_or(assembly);
            let display = filter.device.is_none() && head.is_hosts_display();
            // Only a resource can have virtual functions.
            let is_meant = head.physical_function.is_none() || filter.resource.is_some();
            if is_meant
                && (!display || self.takes_displays(filter))
                && assembly.obstacles(self.inventory).is_empty()
            {
                let whole = Chosen::whole(assembly);
                let part = head.physical_function.and_then(|of| self.vf_of(of, head.address));
                found.push((Chosen { partition: part, ..whole }, u32::from(display)));
            }
        }
        found
    }

    /// Why functions that fit are no candidates: obstacles of their assemblies, or that they are virtual functions.
    pub(super) fn unfit(&self, filter: &Filter) -> Vec<Refusal> {
        let fitting = self.inventory.functions.values();
        let fitting = fitting.filter(|function| self.fits(filter, function));
        let mut fitting: Vec<&Function> = fitting.collect();
        // What a device itself lacks is said before that its virtual functions are others.
        fitting.sort_by_key(|function| function.physical_function.is_some());
        let all = Assembly::all(self.inventory);
        let reason = |function: &Function| match function.physical_function {
            Some(parent) if filter.resource.is_none() => Some(Refusal::new(
                Code::NotAssignable,
                format!("{} is a virtual function of {parent}", function.address),
                format!("ask for `vf@{parent}`, or name the function by its address"),
            )),
            _ => {
                let assembly = Assembly::of(self.inventory, function.address)?;
                self.obstacle(&assembly)
                    .or_else(|| self.hosts_display(filter, function))
                    .or_else(|| goes_with(&all, function))
            }
        };
        fitting.into_iter().filter_map(reason).collect()
    }

    /// Whether a request may take the host's own displays: if it says so, or names a vendor, as pods do (`nvidia.com/gpu`).
    const fn takes_displays(&self, filter: &Filter) -> bool {
        self.options.any_display || filter.vendor.is_some()
    }

    /// The host's own displays that fit and are not meant, each with its model.
    pub(super) fn hosts_displays(&self, filter: &Filter) -> Vec<(Address, (Id, Id))> {
        let fitting = self.inventory.functions.values();
        let fitting = fitting.filter(|function| self.fits(filter, function));
        fitting
            .filter(|function| self.hosts_display(filter, function).is_some())
            .map(|function| (function.address, (function.vendor, function.device)))
            .collect()
    }

    /// Accelerators, where a GPU is requested and there is none: processors without a display are of that kind.
    pub(super) fn accelerators(&self, filter: &Filter) -> Option<Refusal> {
        if filter.kind != Some(Kind::Gpu) || filter.device.is_some() {
            return None;
        }
        let accelerators = Filter { kind: Some(Kind::Accelerator), ..filter.clone() };
        let all = self.inventory.functions.values();
        let mut all =
            all.filter(|one| one.physical_function.is_none() && self.fits(&accelerators, one));
        let first = all.next()?;
        let (address, name) = (first.address, first.title());
        let more = all.count();
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        Some(Refusal::new(
            Code::InsufficientResources,
            format!("{address}, {name}{more}, is an accelerator: it has no display"),
            "request `accelerator`",
        ))
    }

    /// The refusal of a display of the host itself, which is not meant by a kind of device.
    pub(super) fn hosts_display(&self, filter: &Filter, function: &Function) -> Option<Refusal> {
        let display = filter.device.is_none() && function.is_hosts_display();
        (display && !self.takes_displays(filter)).then(|| {
            let address = function.address;
            let what = if function.is_management_display() {
                "the display of the board's management controller"
            } else {
                "the display of the host's console"
            };
            Refusal::new(
                Code::InsufficientResources,
                format!("{address} is {what}"),
                if self.options.by_name_only {
                    format!("name it: {address}")
                } else {
                    format!(
                        "name it: {address}; `claim --any-display`, or \"any_display\": true in REST, also allows it"
                    )
                },
            )
        })
    }

    /// The virtual functions of a device, or of all devices. Only those of NICs have settings.
    pub(super) fn vfs(
        &self,
        of: Option<Address>,
        settings: &VfSettings,
    ) -> Result<Vec<(Chosen, u32)>, Refusal> {
        let has_settings = |parent: &Function| settings.is_empty() || parent.kind() == Kind::Nic;
        if let Some(parent) = of.and_then(|of| self.inventory.function(of))
            && !has_settings(parent)
        {
            return Err(no_settings(parent, settings));
        }
        let parents = self.inventory.functions.values().filter(|parent| has_settings(parent));
        let parents = parents.filter(|function| of.is_none_or(|of| of == function.address));
        let mut found = Vec::new();
        for parent in parents {
            let Some(sriov) = &parent.sriov else { continue };
            for (vf, index) in sriov.present.iter().zip(0u16..) {
                let Some(assembly) = Assembly::of(self.inventory, *vf) else { continue };
                if !assembly.obstacles(self.inventory).is_empty() {
                    continue;
                }
                let how = Mechanism::Vf { index, settings: VfSettings::default() };
                let partition = Some(Partition { parent: parent.address, how });
                found.push((Chosen { partition, ..Chosen::whole(&assembly) }, 0));
            }
        }
        match of.and_then(|of| self.inventory.function(of)) {
            Some(parent) if found.is_empty() => {
                Err(self.untyped_vgpus(of).unwrap_or_else(|| self.no_vfs(parent)))
            }
            _ => Ok(found),
        }
    }

    /// Virtual functions that exist, but are no vGPUs yet: they are requested by a profile, not as functions.
    pub(super) fn untyped_vgpus(&self, of: Option<Address>) -> Option<Refusal> {
        let functions = self.inventory.functions.values();
        let parent = functions
            .filter(|one| one.vgpu().is_some_and(|vgpu| vgpu.current.is_none()))
            .filter_map(|one| one.physical_function)
            .find(|parent| of.is_none_or(|of| of == *parent))?;
        Some(Refusal::new(
            Code::InvalidState,
            format!(
                "the virtual functions of {parent} become vGPUs by a profile, and have none yet"
            ),
            format!(
                "claim a profile, and Handover sets it: `handover claim profile=NAME@{parent}`; `handover ls --parts` lists the \
                 profiles"
            ),
        ))
    }

    /// Why a device has no virtual function to hand over.
    fn no_vfs(&self, parent: &Function) -> Refusal {
        let obstacle = |vf: &Address| {
            Assembly::of(self.inventory, *vf)?.obstacles(self.inventory).into_iter().next()
        };
        parent.virtual_functions().iter().find_map(obstacle).unwrap_or_else(|| no_vfs(parent))
    }

    /// Partitions of a profile that can be created now. Devices that already have partitions come first, because some
    /// drivers allow only one type per device.
    pub(super) fn profiles(
        &self,
        profile: &str,
        of: Option<Address>,
        count: u32,
    ) -> Vec<(Chosen, u32)> {
        let rooms = self.rooms();
        let mut found: Vec<(usize, Chosen)> = Vec::new();
        for function in self.inventory.functions.values() {
            let own = function.physical_function.unwrap_or(function.address);
            if of.is_some_and(|of| of != own && of != function.address) {
                continue;
            }
            let reserved = rooms.reserved_on(own);
            let busy = function.mdevs.len() + reserved;
            let mdevs = self.mdevs(&rooms, function, profile, count);
            found.extend(mdevs.into_iter().map(|chosen| (busy, chosen)));
            let siblings = self.vgpus_on(own) + reserved;
            let vgpu = self.vgpu(&rooms, function, profile);
            found.extend(vgpu.map(|chosen| (siblings, chosen)));
        }
        let most = found.iter().map(|(busy, _)| *busy).max().unwrap_or(0);
        let rank = |busy: usize| u32::try_from(most - busy).unwrap_or(u32::MAX);
        found.into_iter().map(|(busy, chosen)| (chosen, rank(busy))).collect()
    }

    fn mdevs(
        &self,
        rooms: &Rooms<'_>,
        parent: &Function,
        profile: &str,
        count: u32,
    ) -> Vec<Chosen> {
        let Some(detail) = &parent.detail else { return Vec::new() };
        let matching = detail.mdev_types.iter().find(|kind| {
            let name = kind.name.as_deref().unwrap_or_default();
            kind.id == profile || is_named(name, profile)
        });
        let Some(kind) = matching else { return Vec::new() };
        let available = rooms.left(parent, kind).min(count.into());
        let how = Mechanism::Mdev {
            uuid: Uuid::nil(),
            type_id: kind.id.clone(),
            type_name: kind.name.clone(),
            existing: false,
            attributes: Vec::new(),
            define: false,
        };
        let partition = Some(Partition { parent: parent.address, how });
        let one = Chosen { head: parent.address, partition, members: Vec::new() };
        vec![one; usize::try_from(available).unwrap_or_default()]
    }

    /// The room of the GPUs besides what claims reserve.
    pub(super) fn rooms(&self) -> Rooms<'_> {
        Rooms::of(self.inventory, self.claims.iter().map(|held| &held.claim))
    }

    fn vgpu(&self, rooms: &Rooms<'_>, function: &Function, profile: &str) -> Option<Chosen> {
        let parent = function.physical_function?;
        let types = function.detail.as_ref()?.vgpu.as_ref()?;
        let kind = types.creatable.iter().find(|kind| is_named(&kind.name, profile))?;
        if types.current.is_some() || !rooms.fits(function, kind) {
            return None;
        }
        let assembly = Assembly::of(self.inventory, function.address)?;
        let how = Mechanism::Vgpu {
            function: function.address,
            type_id: kind.id,
            name: kind.name.clone(),
            existing: false,
        };
        // Other members of its group would have to be unbound, but a vGPU stays on its driver.
        let alone = assembly
            .members
            .iter()
            .all(|member| member.address == function.address || !member.role.is_taken());
        alone.then(|| Chosen {
            partition: Some(Partition { parent, how }),
            ..Chosen::whole(&assembly)
        })
    }

    /// Virtual functions of a GPU without a driver: the vendor's driver offers the types.
    /// `any`: also those of other classes.
    pub(super) fn bare_functions(&self, of: Option<Address>, any: bool) -> Option<Refusal> {
        let functions = self.inventory.functions.values();
        let parent = functions
            .filter(|one| one.driver.is_none())
            .filter(|one| {
                // A device that the request names is meant, whatever its class.
                any || of.is_some() || matches!(one.kind(), Kind::Gpu | Kind::Accelerator)
            })
            .find_map(|one| {
                let parent = one.physical_function?;
                of.is_none_or(|of| of == parent || of == one.address).then_some(parent)
            })?;
        let count = self.inventory.function(parent)?.virtual_functions().len();
        Some(Refusal::new(
            Code::InsufficientResources,
            format!("virtual functions of {parent} have no driver, so they offer no vGPU types"),
            // Drivers are probed for new functions only.
            format!(
                "handover sriov set {parent} 0 && handover sriov set {parent} {count} --autoprobe"
            ),
        ))
    }

    pub(super) fn vgpus_on(&self, parent: Address) -> usize {
        let siblings = self.inventory.functions.values();
        siblings
            .filter(|function| function.physical_function == Some(parent))
            .filter(|function| {
                let vgpu = function.detail.as_ref().and_then(|detail| detail.vgpu.as_ref());
                vgpu.is_some_and(|vgpu| vgpu.current.is_some())
            })
            .count()
    }
}

fn no_settings(parent: &Function, settings: &VfSettings) -> Refusal {
    let address = parent.address;
    Refusal::new(
        Code::InvalidRequest,
        format!(
            "virtual functions of {address} cannot have settings ({settings}): it is not a NIC"
        ),
        format!("ask for `vf@{address}` without settings"),
    )
}

fn no_vfs(parent: &Function) -> Refusal {
    let address = parent.address;
    match &parent.sriov {
        None => Refusal::new(
            Code::NotAssignable,
            format!("{address} cannot have virtual functions: it has no SR-IOV"),
            format!(
                "`handover show {address}` shows what it supports; the firmware may have disabled SR-IOV"
            ),
        ),
        Some(sriov) if sriov.present.is_empty() => Refusal::new(
            Code::InsufficientResources,
            format!("{address} has no virtual functions; it supports {}", sriov.total),
            format!("handover sriov set {address} {}", sriov.total),
        ),
        Some(_) => Refusal::new(
            Code::NotAssignable,
            format!("none of the virtual functions of {address} can be handed over"),
            format!("handover doctor --for {address}"),
        ),
    }
}

/// The refusal of a function that is handed over with another one, such as the audio function of a GPU.
fn goes_with(all: &[Assembly], function: &Function) -> Option<Refusal> {
    let address = function.address;
    let takes = |assembly: &&Assembly| {
        assembly.head != address && assembly.taken().any(|member| member.address == address)
    };
    let head = all.iter().find(takes)?.head;
    Some(Refusal::new(
        Code::InsufficientResources,
        format!("{address} is handed over with {head}"),
        format!("request {head}, or {address} by its address"),
    ))
}
