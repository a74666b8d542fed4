//! Devices files: their format, and the messages for mistakes.
#![allow(clippy::unwrap_used, clippy::panic)]

use engine::catalog::{CatalogError, load, read};
use model::catalog::{Catalog, ClassOrDevice};
use proptest::prelude::*;

/// The example of ironcore's documentation, with a class code and a device id.
const IRONCORE: &str = r#"
vendors:
  - id: "0x10de"  # NVIDIA vendor ID
    name: nvidia
    devices:
      - id: "0x030200"  # Device ID for the NVIDIA GA100 GPU
        name: ga100gl.rev.a1
        type: gpu
  - id: "0x8086"  # Intel vendor ID
    name: intel
    devices:
      - id: "0x100f"  # Device ID for an Intel network adapter
        name: x520-da2
        type: network
"#;

fn good(text: &str) -> Catalog {
    read("pci.yaml", text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// The message for a wrong file.
fn message(text: &str) -> String {
    format!("{}\n", read("pci.yaml", text).unwrap_err())
}

#[test]
fn a_line_ends_where_yaml_says_so() {
    let mistakes =
        read("pci.yaml", "\rvendors:\r\n  - id: \"0x10de\"\r    nmae: nvidia\n").unwrap_err();
    let mut mistakes = mistakes.mistakes.iter();
    let mistake = mistakes.find(|one| one.problem.contains("unknown key")).unwrap();
    assert_eq!((mistake.line, mistake.source.as_str()), (4, "    nmae: nvidia"));
}

#[test]
fn ironcores_example_is_read() {
    let catalog = good(IRONCORE);
    let resources: Vec<String> = catalog.lines.iter().map(|line| line.resource()).collect();
    assert_eq!(resources, ["gpu.nvidia/ga100gl.rev.a1", "network.intel/x520-da2"]);
    let ids: Vec<ClassOrDevice> = catalog.lines.iter().map(|line| line.pattern.id).collect();
    let class = ClassOrDevice::Class("030200".parse().unwrap());
    assert_eq!(ids, [class, ClassOrDevice::Device("100f".parse().unwrap())]);
    assert_eq!(catalog.lines.iter().map(|line| line.number).collect::<Vec<_>>(), [6, 12]);
}

#[test]
fn ids_are_hexadecimal_however_they_are_written() {
    let catalog = |vendor: &str, device: &str| {
        good(&format!(
            "vendors: [{{id: {vendor}, name: v, devices: [{{id: {device}, name: d, type: gpu}}]}}]"
        ))
    };
    let first = catalog("\"0x10de\"", "\"0x20b0\"");
    for (vendor, device) in
        [("10de", "20b0"), ("0x10DE", "0x20B0"), ("'0X10De'", "'20B0'"), ("0x10de", "!!str 20b0")]
    {
        assert_eq!(catalog(vendor, device), first, "{vendor} {device}");
    }
    // To YAML these are the numbers 8086, 1e10 and 30200.
    let numbers = catalog("8086", "1e10");
    assert_eq!(numbers.lines[0].vendor.to_string(), "8086");
    assert_eq!(numbers.lines[0].pattern.id, ClassOrDevice::Device("1e10".parse().unwrap()));
    let class = catalog("8086", "030200").lines[0].pattern.id;
    assert_eq!(class, ClassOrDevice::Class("030200".parse().unwrap()));
}

#[test]
fn json_is_yaml() {
    let json = r#"{"vendors": [{"id": "0x10de", "name": "nvidia",
        "devices": [{"id": "0x030200", "name": "ga100gl.rev.a1", "type": "gpu"}]}]}"#;
    assert_eq!(good(json).lines[0].resource(), "gpu.nvidia/ga100gl.rev.a1");
}

#[test]
fn our_additions_and_those_of_newer_files_are_optional_keys() {
    let catalog = good(
        r#"
vendors:
  - id: 10de
    name: nvidia
    devices:
      - {id: 20b7, name: a30, type: gpu, subsystemVendor: 0x10de, subsystemDevice: 0x1532, revision: 0xa1}
      - {id: 20b7, name: a30, type: gpu, subsystemVendor: 0x10de, subsystemDevice: 0x1532, revision: 0xa2}
      - {id: 20b0, name: a100, type: gpu, subsystem: "10de:1450", addresses: ["0000:a2:00.0", 41:00.0], exclude: ["10000:e1:00.0"]}
"#,
    );
    let patterns: Vec<_> = catalog.lines.iter().map(|line| &line.pattern).collect();
    assert_eq!(
        patterns.iter().map(|p| p.revision).collect::<Vec<_>>(),
        [Some(0xa1), Some(0xa2), None]
    );
    assert_eq!(catalog.lines[0].resource(), catalog.lines[1].resource());
    assert_eq!(patterns[2].subsystem_device, Some("1450".parse().unwrap()));
    assert_eq!(patterns[2].addresses[1], "0000:41:00.0".parse().unwrap());
    assert_eq!(patterns[2].exclude, ["10000:e1:00.0".parse().unwrap()]);
}

#[test]
fn all_wrong_values_are_reported_at_once_with_their_positions() {
    let text = r#"
vendors:
  - id: "0x10dez"
    name: nvidia
    devices:
      - id: "0x30200"
        name: ga100gl.rev.a1
        type: gpu
      - name: a/b
        type: ""
  - id: "0x8086"
    name: intel
    devices:
      - id: 100f
        name: x520
        type: network
        addresses: [hello, "0000:03:00.0"]
        revision: "a1b"
      - id: "1010"
        name: x520
        type: network
        subsystem: "8086"
  - id: 8086
    name: intel
  - id: "0x1002"
    devices: []
"#;
    insta::assert_snapshot!(message(text));
}

#[test]
fn a_syntax_error_is_reported_with_its_position() {
    let device = "vendors:\n  - id: 10de\n    name: nvidia\n    devices:\n      - id: 20b0\n";
    let files = [
        ("", "nothing at all"),
        ("vendors:", "an empty key"),
        ("- id: 10de", "a list at the top"),
        (&format!("{device}        nmae: a100"), "an unknown key"),
        (&format!("{device}        name: a100\n        name: a100"), "a key twice"),
        (&format!("{device}        name: [a100]"), "a list for a name"),
        ("vendors: 3", "a number for a list"),
        (&format!("{device}       name: a100"), "wrong indentation"),
        (&format!("{device}\tname: a100"), "a tab"),
        ("vendors: [{id: 10de", "an end in the middle"),
        ("vendors: *none", "an unknown alias"),
        ("vendors: []\n---\nvendors: []\n", "two documents"),
    ];
    let all: Vec<String> =
        files.iter().map(|(text, what)| format!("--- {what}\n{}", message(text))).collect();
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn long_lines_and_control_characters_do_no_harm() {
    let long =
        format!("vendors: [{{id: \"{}\", name: \u{1b}[31m, devices: []}}]", "x".repeat(5000));
    let said = read("pci.yaml", &long).map(|_| ()).unwrap_err().to_string();
    assert!(!said.contains('\u{1b}'), "{said:?}");
    assert!(said.lines().all(|line| line.chars().count() < 200), "{said}");
    let many = format!("vendors: [{}]", "{id: x},".repeat(1000));
    let mistakes = read("pci.yaml", &many).unwrap_err();
    assert_eq!(mistakes.mistakes.len(), 50);
    assert!(mistakes.to_string().ends_with(" more"), "{mistakes}");
}

#[test]
fn oversized_files_are_refused() {
    let deep = format!("vendors: {}{}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(read("pci.yaml", &deep).unwrap_err().mistakes.len(), 1);
    // The billion laughs.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    assert!(read("pci.yaml", &bomb).is_err());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pci.yaml");
    std::fs::write(&path, "#".repeat((1 << 20) + 1)).unwrap();
    assert!(matches!(load(&path), Err(CatalogError::TooLarge { .. })));
    assert!(matches!(load(folder.path()), Err(CatalogError::File { .. })));
    assert!(matches!(load(&folder.path().join("none")), Err(CatalogError::File { .. })));
    std::fs::write(&path, b"vendors:\n  - id: \xff\xfe").unwrap();
    let Err(CatalogError::Mistakes(mistakes)) = load(&path) else { panic!("it is not UTF-8") };
    assert_eq!((mistakes.mistakes[0].line, mistakes.mistakes[0].column), (2, 9));
    std::fs::write(&path, IRONCORE).unwrap();
    assert_eq!(load(&path).unwrap(), good(IRONCORE));
}

/// Ironcore's example with a random part replaced.
fn changed() -> impl Strategy<Value = String> {
    let piece = (0..IRONCORE.len(), 0usize..40, ".{0,12}|[-:\\[\\]{}&*!|>'\"#%@,?\n\t ]{0,8}");
    piece.prop_map(|(from, long, new)| {
        let to = (from + long).min(IRONCORE.len());
        format!("{}{new}{}", &IRONCORE[..from], &IRONCORE[to..])
    })
}

proptest! {
    #[test]
    fn no_text_panics(text in "(?s).{0,200}") {
        if let Err(mistakes) = read("pci.yaml", &text) {
            prop_assert!(!mistakes.to_string().is_empty());
        }
    }

    #[test]
    fn no_change_of_a_good_file_panics_and_each_mistake_has_a_place(text in changed()) {
        if let Err(mistakes) = read("pci.yaml", &text) {
            let breaks = text.replace("\r\n", "\n").matches(['\n', '\r']).count();
            let lines = u32::try_from(breaks + 1).unwrap();
            for mistake in &mistakes.mistakes {
                prop_assert!(mistake.line <= lines, "{mistake:?}");
                prop_assert!(!mistake.problem.is_empty() && !mistake.remedy.is_empty());
            }
            prop_assert!(!mistakes.to_string().is_empty());
        }
    }
}
