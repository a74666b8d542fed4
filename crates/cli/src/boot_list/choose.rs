//! Which functions a request is about, and whether they can be added.

use host::LinuxHost;
use model::boot_list::{BootListEntry, files};
use model::doctor::InitramfsTool;
use model::{
    Address, Assembly, Code, Function, Holder, HolderKind, Host, Inventory, OwnState, Part, Refusal,
};

fn assembly(inventory: &Inventory, head: Address, alone: bool) -> Option<Assembly> {
    if alone { Assembly::alone(inventory, head) } else { Assembly::of(inventory, head) }
}

/// The functions at `heads` and in their assemblies; absent ones are included.
pub fn listed(inventory: &Inventory, heads: &[Address], alone: bool) -> Vec<Address> {
    let mut all = heads.to_vec();
    for head in heads {
        let members = assembly(inventory, *head, alone).map(|assembly| assembly.members);
        all.extend(members.unwrap_or_default().iter().map(|member| member.address));
    }
    all
}

/// The entries of `heads` with their assemblies, or why they cannot be added.
pub fn additions(
    host: &LinuxHost,
    inventory: &Inventory,
    heads: &[Address],
    alone: bool,
) -> Result<Vec<BootListEntry>, Refusal> {
    let mut all: Vec<&Function> = Vec::new();
    for head in heads {
        let assembly = assembly(inventory, *head, alone);
        let assembly = assembly.ok_or_else(|| model::no_such_function(*head))?;
        if let Some(obstacle) = assembly.obstacles(inventory).into_iter().next() {
            return Err(obstacle);
        }
        let members = assembly.taken().filter_map(|member| inventory.function(member.address));
        let members: Vec<&Function> = members.collect();
        if let Some(vf) = members.iter().find(|function| function.physical_function.is_some()) {
            return Err(virtual_function(vf));
        }
        all.extend(members);
    }
    all.sort_by_key(|function| function.address);
    all.dedup_by_key(|function| function.address);
    let addresses: Vec<Address> = all.iter().map(|function| function.address).collect();
    expect_not_needed(host, &addresses)?;
    Ok(all.into_iter().map(BootListEntry::of).collect())
}

/// Refuses what the host itself needs: it would not boot without its disk or its network.
fn expect_not_needed(host: &LinuxHost, addresses: &[Address]) -> Result<(), Refusal> {
    let holders = host.holders(addresses).map_err(|error| {
        Refusal::new(
            Code::Internal,
            format!("cannot check whether the host itself needs the device: {error}"),
            "run it as root",
        )
    })?;
    let needed = holders.into_iter().find(|holder| holder.pid.is_none());
    needed.map_or(Ok(()), |holder| {
        let Holder { address, user, by, .. } = &holder;
        // A claim can be told that the host can do without this part of its network.
        let remedy = match holder.kind {
            HolderKind::Network => format!(
                "{}; or, if the host can do without it: `handover claim {address} --at-boot --force-network`",
                holder.how_to_end()
            ),
            _ => "choose another device: the host would not boot without this one".to_owned(),
        };
        let message = format!("the host itself needs {address}: {user} ({by})");
        Err(Refusal::new(Code::InUse, message, remedy))
    })
}

fn virtual_function(function: &Function) -> Refusal {
    let address = function.address;
    let parent = function.physical_function.unwrap_or(address);
    Refusal::new(
        Code::NotAssignable,
        format!(
            "{address} is a virtual function: {parent} creates it after the initial ramdisk has run"
        ),
        format!(
            "run `handover sriov set {parent} COUNT`: it creates the VFs at each boot, and binds them to no host driver"
        ),
    )
}

/// Refuses to remove entries that claims put on the list and need until they are released.
pub fn expect_no_claims(own: &OwnState, entries: &[BootListEntry]) -> Result<(), Refusal> {
    for existing in &own.claims {
        let parts = existing.claim.parts.iter().filter(|part| part.at_boot);
        let mut listed = parts.flat_map(Part::taken);
        let Some(address) = listed.find(|one| entries.iter().any(|entry| entry.address == *one))
        else {
            continue;
        };
        return Err(Refusal::new(
            Code::InUse,
            format!(
                "{address} is on the boot list for the claim {} of {}",
                existing.claim.id, existing.owner
            ),
            existing.why.remedy.clone(),
        ));
    }
    Ok(())
}

/// Refuses a host whose initramfs tool is unknown.
pub fn known_tool(tool: InitramfsTool) -> Result<(), Refusal> {
    if files(tool).is_empty() { Err(unknown_tool()) } else { Ok(()) }
}

pub fn unknown_tool() -> Refusal {
    Refusal::new(Code::InvalidState, model::boot_list::NO_TOOL, model::boot_list::INSTALL_TOOL)
}
