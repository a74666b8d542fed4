//! `handover resources`: total, allocated and free resources of the host.

use api::{Resource, Resources as Answer};
use clap::Args;

use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::table::Table;
use crate::{output, terminal};

/// Show the host's resources, and how much is allocated to instances
#[derive(Debug, Args)]
pub struct Resources {
    #[command(flatten)]
    connection: Connection,
}

impl Resources {
    pub fn run(self) -> Done {
        let answer: Answer = self
            .connection
            .talk(async |client| client.get("/resources").await)
            .map_err(Failure::to("show the resources"))?;
        if self.connection.json() {
            return output::json(&answer);
        }
        output::text(&render(&answer, terminal::width()))
    }
}

fn render(answer: &Answer, width: Option<usize>) -> String {
    let mut table = Table::new(&["RESOURCE", "TOTAL", "ALLOCATED", "FREE"]);
    let plain = |count: u64| count.to_string();
    let mut row = |resource: &Resource, show: &dyn Fn(u64) -> String| {
        let shown = [resource.capacity, resource.allocated, resource.available].map(show);
        table.row([resource.resource_type.clone()].into_iter().chain(shown));
    };
    row(&answer.cpu, &plain);
    row(&answer.memory, &model::shown::bytes);
    row(&answer.disk, &model::shown::bytes);
    if let Some(gpu) = &answer.gpu {
        let free = gpu.total_slots.saturating_sub(gpu.used_slots);
        let shown = [gpu.total_slots, gpu.used_slots, free].map(plain);
        let name = if gpu.mode == "vgpu" { "vgpu" } else { "gpu" };
        table.row([name.to_owned()].into_iter().chain(shown));
    }
    for resource in &answer.pci {
        let shown = [resource.capacity, resource.allocated, resource.available].map(plain);
        table.row([resource.name.clone()].into_iter().chain(shown));
    }
    let mut text = table.render_within(width);
    let profiles = answer.gpu.as_ref().map(|gpu| gpu.profiles.as_slice()).unwrap_or_default();
    if !profiles.is_empty() {
        let mut table = Table::with_names(&["VGPU PROFILE", "MEMORY", "LEFT"], "VGPU PROFILE");
        for profile in profiles {
            let memory = match profile.framebuffer_mb {
                0 => "unknown".to_owned(),
                mib => model::shown::bytes(mib.saturating_mul(1 << 20)),
            };
            table.row([profile.name.clone(), memory, profile.available.to_string()]);
        }
        text.push('\n');
        text.push_str(&table.render_within(width));
    }
    text
}
