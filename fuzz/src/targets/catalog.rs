//! The catalog: ironcore's YAML of devices.

use engine::catalog::read as catalog;

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "catalog",
    reads: "the catalog of devices: YAML",
    read,
    words: &[
        "vendors:\n",
        "- id: \"0x10de\"\n",
        "  name: nvidia\n",
        "  devices:\n",
        "  - id: \"0x20b0\"\n",
        "    type: gpu\n",
        "subsystem: \"10de:1450\"",
        "subsystemVendor: \"0x10de\"",
        "revision: \"0xa1\"",
        "addresses: [\"0000:a2:00.0\"]",
        "exclude: []",
        "&a ",
        "*a",
        "<<: *a",
        "!!binary ",
        "--- ",
        "...\n",
        "|\n",
        ">-\n",
        "? ",
        "{",
        "[",
        "]",
        "}",
        "\t",
        "%YAML 1.2\n",
        "\\x1b",
        "\"\\e[2J\"",
    ],
    longest: 1 << 14,
};

fn read(bytes: &[u8]) -> Kind {
    let text = String::from_utf8_lossy(bytes);
    match catalog("devices.yaml", &text) {
        Ok(catalog) => {
            assert!(catalog.lines.len() <= text.len());
            for line in &catalog.lines {
                let resource = line.resource();
                assert!(
                    !resource.contains(char::is_control) && !resource.contains(' '),
                    "{resource:?}"
                );
                assert!(resource.matches('/').count() == 1, "{resource:?}");
            }
            let inventory = sim::workstation();
            let survey = catalog.survey(&inventory, &[], &model::OwnState::default());
            Kind::of("catalog")
                .and(catalog.lines.len())
                .and(survey.unmatched.len())
                .and(survey.resources.len())
        }
        Err(mistakes) => {
            let shown = mistakes.to_string();
            let controls = |letter: char| letter.is_control() && letter != '\n';
            assert!(!shown.contains(controls), "a mistake with control characters: {shown:?}");
            let problems = mistakes.mistakes.iter().map(|mistake| mistake.problem.as_str());
            Kind::of(problems.collect::<Vec<_>>().join(" "))
        }
    }
}
