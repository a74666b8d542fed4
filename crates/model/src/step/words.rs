//! Steps in words; each kind's are in its file.

use super::*;

impl Step {
    /// The step in words, for the journal, plans and progress.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Mark { address, .. } => mark::describe(*address),
            Self::Unmark { address, .. } => unmark::describe(*address),
            Self::LoadModule { module } => load_module::describe(module),
            Self::SetOverride { address, to, .. } => {
                set_override::describe(*address, to.as_deref())
            }
            Self::Unbind { address, driver } => unbind::describe(*address, driver),
            Self::Bind { address, driver } => bind::describe(*address, driver),
            Self::Return { address, driver } => r#return::describe(*address, driver),
            Self::SetPower { address, to, .. } => set_power::describe(*address, *to),
            Self::GrantGroup { group, to, .. } => grant_group::describe(*group, *to),
            Self::GrantNode { address, node, to, .. } => grant_node::describe(*address, *node, *to),
            Self::Evict { address, user, .. } => evict::describe(*address, user),
            Self::SetPersistence { address, to, .. } => set_persistence::describe(*address, *to),
            Self::SetUnit { unit, to, .. } => set_unit::describe(unit, *to),
            Self::Reset { address, .. } => reset::describe(*address),
            Self::SetVfCount { address, to, .. } => set_vf_count::describe(*address, *to),
            Self::SetAutoprobe { address, to, .. } => set_autoprobe::describe(*address, *to),
            Self::SetVf { address, parent, index, to, .. } => {
                set_vf::describe(*address, *parent, *index, to)
            }
            Self::CreateMdev { address, uuid, type_id } => {
                create_mdev::describe(*address, *uuid, type_id)
            }
            Self::RemoveMdev { address, uuid, .. } => remove_mdev::describe(*address, *uuid),
            Self::SetMdevAttribute { uuid, name, value, .. } => {
                set_mdev_attribute::describe(*uuid, name, value)
            }
            Self::DefineMdev { uuid, .. } => define_mdev::describe(*uuid),
            Self::UndefineMdev { uuid, .. } => undefine_mdev::describe(*uuid),
            Self::AddToBootList { address, driver, .. } => {
                add_to_boot_list::describe(*address, driver)
            }
            Self::RemoveFromBootList { address, .. } => remove_from_boot_list::describe(*address),
            Self::SetVgpu { address, to, .. } => set_vgpu::describe(*address, *to),
            Self::SetConsole { address, console, to, .. } => {
                set_console::describe(*address, *console, *to)
            }
            Self::SetFramebuffer { device, driver, to, .. } => {
                set_framebuffer::describe(device, driver, *to)
            }
            Self::SetModule { module, to, .. } => set_module::describe(module, *to),
            Self::SetFabricSet { set, to, .. } => set_fabric_set::describe(*set, *to),
        }
    }
}
