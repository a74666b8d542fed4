//! What an image says of itself.

use model::ContainerConfig;
use oci_spec::image::ImageConfiguration;

/// The longest text of one field, and the most entries of a list. Linux takes arguments of 128 KiB (`MAX_ARG_STRLEN`).
const LONGEST: usize = 128 << 10;
const MOST: usize = 4096;

/// How the program of an image runs. What no program could be given is left out.
#[must_use]
pub fn of(image: &ImageConfiguration) -> ContainerConfig {
    let architecture = image.architecture().to_string();
    let Some(config) = image.config() else {
        return ContainerConfig { architecture, ..ContainerConfig::default() };
    };
    let list = |list: &Option<Vec<String>>| -> Vec<String> {
        let list = list.iter().flatten().filter(|text| is_sane(text));
        list.take(MOST).cloned().collect()
    };
    let text = |text: &Option<String>| text.clone().filter(|text| is_sane(text));
    let labels =
        config.labels().iter().flatten().filter(|(name, value)| is_sane(name) && is_sane(value));
    ContainerConfig {
        user: text(config.user()).unwrap_or_default(),
        working_dir: text(config.working_dir()).unwrap_or_default(),
        env: list(config.env()),
        entrypoint: list(config.entrypoint()),
        cmd: list(config.cmd()),
        stop_signal: text(config.stop_signal()).filter(|signal| !signal.is_empty()),
        labels: labels.take(MOST).map(|(name, value)| (name.clone(), value.clone())).collect(),
        architecture,
    }
}

fn is_sane(text: &str) -> bool {
    text.len() <= LONGEST && !text.contains('\0')
}
