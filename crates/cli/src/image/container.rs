//! What `handover image` shows of container images, and `handover image prune`.

use api::{ContainerInfo, Image, NvidiaModule, PrunedImages};
use model::shown::bytes;

use super::status;
use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::{listing, output};

/// Shows a container image.
pub fn show(connection: &Connection, image: &Image, info: &ContainerInfo) -> Done {
    let words = |words: &Option<Vec<String>>| words.clone().unwrap_or_default().join(" ");
    let env = image.env.iter().flatten().map(|(name, value)| format!("{name}={value}"));
    let labels = info.labels.iter().map(|(name, value)| format!("{name}={value}"));
    let user = if info.user.is_empty() { "root" } else { &info.user };
    let fields = [
        ("name", image.name.clone()),
        ("status", status(&image.status, None)),
        ("error", image.error.clone().unwrap_or_default()),
        ("digest", image.digest.clone()),
        ("pulled", pulled(info)),
        ("architecture", info.architecture.clone()),
        ("entrypoint", words(&image.entrypoint)),
        ("cmd", words(&image.cmd)),
        ("env", env.collect::<Vec<_>>().join(", ")),
        ("working dir", image.working_dir.clone().unwrap_or_default()),
        ("user", user.to_owned()),
        ("stop signal", info.stop_signal.clone().unwrap_or_default()),
        ("labels", labels.collect::<Vec<_>>().join(", ")),
        ("kernel", info.kernel.clone().unwrap_or_else(|| "none of its own".to_owned())),
        ("modules for", info.modules.join(", ")),
        ("nvidia module", nvidia(&info.nvidia_modules)),
        ("nvidia libraries", info.nvidia_libraries.clone().unwrap_or_else(|| "none".to_owned())),
        ("size", image.size_bytes.map(bytes).unwrap_or_default()),
        ("imported", crate::age::shown(&image.created_at)),
        ("tags", output::tags(&image.tags)),
    ];
    listing::print_one(connection.json(), image, &fields)
}

/// How far a pull is.
fn pulled(info: &ContainerInfo) -> String {
    match (info.pulled_bytes, info.total_bytes) {
        (Some(done), Some(total)) if total > 0 => format!("{} of {}", bytes(done), bytes(total)),
        (Some(_), _) => "begins".to_owned(),
        _ => String::new(),
    }
}

fn nvidia(modules: &[NvidiaModule]) -> String {
    if modules.is_empty() {
        return "none".to_owned();
    }
    let one = |module: &NvidiaModule| {
        let kind = match module.open {
            Some(true) => " (open)",
            Some(false) => " (proprietary)",
            None => "",
        };
        let version = module.version.as_deref().unwrap_or("unknown version");
        format!("{version}{kind} for {}", module.kernel)
    };
    modules.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Removes the container images that no instance uses.
pub fn prune(connection: &Connection) -> Done {
    let pruned: Option<PrunedImages> = connection
        .talk(async |client| client.delete_and_read("/images").await)
        .map_err(Failure::to("remove unused images"))?;
    let pruned = pruned.unwrap_or_default();
    if connection.json() {
        return output::json(&pruned);
    }
    let names = if pruned.images.is_empty() {
        "no image".to_owned()
    } else {
        format!("the images {}", pruned.images.join(", "))
    };
    output::changed(
        connection,
        &format!("Removed {names}; {} are free again.", bytes(pruned.freed_bytes)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_nvidia_are_named_by_kernel() {
        let module = |version: Option<&str>, open| NvidiaModule {
            kernel: "6.1.0-9-amd64".to_owned(),
            version: version.map(str::to_owned),
            open,
        };
        let modules = [module(Some("550.54.14"), Some(true)), module(None, None)];
        let shown = "550.54.14 (open) for 6.1.0-9-amd64, unknown version for 6.1.0-9-amd64";
        assert_eq!(nvidia(&modules), shown);
        assert_eq!(nvidia(&[]), "none");
    }
}
