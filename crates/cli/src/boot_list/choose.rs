//! Which functions are meant, and whether they can be reserved.

use host::LinuxHost;
use model::boot_list::{BootListEntry, files};
use model::doctor::InitramfsTool;
use model::{Address, Assembly, Code, Function, Host, Inventory, Refusal};

fn assembly(inventory: &Inventory, head: Address, alone: bool) -> Option<Assembly> {
    if alone { Assembly::alone(inventory, head) } else { Assembly::of(inventory, head) }
}

/// The functions that go with these, and themselves, also where they are not there any more.
pub fn meant(inventory: &Inventory, heads: &[Address], alone: bool) -> Vec<Address> {
    let mut all = heads.to_vec();
    for head in heads {
        let members = assembly(inventory, *head, alone).map(|assembly| assembly.members);
        all.extend(members.unwrap_or_default().iter().map(|member| member.address));
    }
    all
}

/// All that is taken from the host with these, or the reason why it cannot be reserved.
pub fn reservable(
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

/// Refuses what the host itself needs: without its disk or its network it does not come up again.
fn expect_not_needed(host: &LinuxHost, addresses: &[Address]) -> Result<(), Refusal> {
    let holders = host.holders(addresses).map_err(|error| {
        Refusal::new(
            Code::Internal,
            format!("it cannot be told whether the host itself needs it: {error}"),
            "run it as root",
        )
    })?;
    let needed = holders.into_iter().find(|holder| holder.pid.is_none());
    needed.map_or(Ok(()), |holder| {
        Err(Refusal::new(
            Code::InUse,
            format!("the host itself needs {}: {} ({})", holder.address, holder.user, holder.by),
            "choose another device: without this one the host would not come up again",
        ))
    })
}

fn virtual_function(function: &Function) -> Refusal {
    let address = function.address;
    let parent = function.physical_function.unwrap_or(address);
    Refusal::new(
        Code::NotAssignable,
        format!(
            "{address} is a virtual function: it is not there before {parent} makes it, long after the boot began"
        ),
        format!(
            "`handover sriov set {parent} COUNT` makes them at each boot, and gives them to no driver of the host's"
        ),
    )
}

/// Refuses a host of which it is not known what makes its initial ramdisk.
pub fn known_tool(tool: InitramfsTool) -> Result<(), Refusal> {
    if files(tool).is_empty() { Err(unknown_tool()) } else { Ok(()) }
}

pub fn unknown_tool() -> Refusal {
    Refusal::new(
        Code::InvalidState,
        "it is not known here what makes this host's initial ramdisk: neither initramfs-tools, dracut nor mkinitcpio is there",
        "have it write the driver's name into driver_override before udev starts; docs/claims.md says what Handover's own files do",
    )
}
