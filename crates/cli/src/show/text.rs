//! Prints the sheet of a function, in sections.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use model::doctor::{Finding, Severity};
use model::shown::{bytes, escaped};
use model::topology::link;
use model::topology::words::UNKNOWN_NODE;
use model::vgpu::own_name;
use model::{Bar, Function, HolderKind, MdevType, PortType, ResetReach, Role};

use super::sheet::{Bridge, Sheet};
use crate::terminal::several_lines;
use crate::wrap::paragraph;

/// At most this many values of a list are shown.
const SHOWN: usize = 16;

/// Where the values of labels begin.
const VALUES: usize = 20;

/// The sheet as text, in lines of this width; words that are longer stay whole, so that they can be copied.
pub fn render(sheet: &Sheet<'_>, width: Option<usize>) -> String {
    let function = sheet.function;
    let bold = Style::new().bold();
    let title = format!("{}  {}", function.address, escaped(&sheet.name));
    let mut text = format!("{bold}{}{bold:#}\n", paragraph(&title, 0, 4, width));
    let sections = [
        identity(sheet),
        place(sheet),
        driver(function),
        isolation(sheet),
        reset(sheet),
        power(function),
        memory(function),
        partitions(sheet),
        programs(sheet),
    ];
    for section in sections {
        section.write(&mut text, width);
    }
    let mut last = String::new();
    verdict(sheet, &mut last);
    notes(function, &mut last);
    for line in last.lines() {
        let indent = line.chars().take_while(|letter| *letter == ' ' || *letter == '-').count();
        let _ = writeln!(text, "{}", fitted(line, indent, width));
    }
    text
}

/// A line that begins with `indent` characters, in lines of this width that begin at the same place.
fn fitted(line: &str, indent: usize, width: Option<usize>) -> String {
    let (start, words) = line.split_at_checked(indent).unwrap_or(("", line));
    let visible = anstream::adapter::strip_str(line).to_string().chars().count();
    let fits = width.is_none_or(|width| visible <= width);
    // In a very narrow terminal the indent takes at most half of it.
    let further = width.map_or(indent, |width| indent.min(width / 2));
    if fits {
        line.to_owned()
    } else {
        format!("{start}{}", paragraph(words, indent, further, width))
    }
}

/// A heading, and labelled lines below it. Labels without a value are omitted.
struct Section {
    title: &'static str,
    lines: Vec<(&'static str, String)>,
}

impl Section {
    const fn new(title: &'static str) -> Self {
        Self { title, lines: Vec::new() }
    }

    fn add(mut self, label: &'static str, value: impl Into<String>) -> Self {
        self.lines.push((label, escaped(&value.into()).into_owned()));
        self
    }

    fn maybe(self, label: &'static str, value: Option<String>) -> Self {
        match value {
            Some(value) => self.add(label, value),
            None => self,
        }
    }

    /// Adds each value on a line of its own, the label before the first.
    fn each(mut self, label: &'static str, values: impl IntoIterator<Item = String>) -> Self {
        let values: Vec<String> = values.into_iter().collect();
        let more = values.len().saturating_sub(SHOWN);
        for (index, value) in values.into_iter().take(SHOWN).enumerate() {
            self = self.add(if index == 0 { label } else { "" }, value);
        }
        if more > 0 {
            self = self.add("", format!("and {more} more"));
        }
        self
    }

    fn write(&self, text: &mut String, width: Option<usize>) {
        if self.lines.is_empty() {
            return;
        }
        let bold = Style::new().bold();
        let _ = writeln!(text, "\n{bold}{}{bold:#}", self.title);
        for (label, value) in &self.lines {
            let line = format!("  {label:<18}{value}");
            let _ = writeln!(text, "{}", fitted(&line, VALUES, width));
        }
    }
}

fn identity(sheet: &Sheet<'_>) -> Section {
    let function = sheet.function;
    let subsystem = function.subsystem_vendor.map(|vendor| match function.subsystem_device {
        Some(device) => format!("{vendor}:{device}"),
        None => vendor.to_string(),
    });
    let detail = function.detail.as_deref();
    let capabilities = detail.map(|detail| detail.capabilities.join(", "));
    Section::new("Identity")
        .add("kind", format!("{}, class {}", sheet.kind, function.class))
        .add(
            "id",
            format!("{}:{}, revision {:02x}", function.vendor, function.device, function.revision),
        )
        .maybe("subsystem", subsystem)
        .maybe("serial number", detail.and_then(|detail| detail.serial.clone()))
        .maybe("capabilities", capabilities.filter(|text| !text.is_empty()))
        .maybe(
            "modes",
            detail.map(|detail| detail.modes.to_string()).filter(|text| !text.is_empty()),
        )
        .maybe("VF of", function.physical_function.map(|physical| physical.to_string()))
        .maybe("console", function.boot_vga.then(|| "used by the firmware for its console".into()))
}

fn place(sheet: &Sheet<'_>) -> Section {
    let function = sheet.function;
    let node = function.numa_node.map(|number| match sheet.numa_node {
        Some(node) if !node.cpus.is_empty() => {
            format!("{number}, CPUs {}, {}", node.cpus, bytes(node.memory))
        }
        _ => number.to_string(),
    });
    let unknown = sheet.numa_host.then(|| UNKNOWN_NODE.to_owned());
    let own = function.detail.as_ref().and_then(|detail| detail.link.as_ref());
    let port = sheet.bridges.last().and_then(|bridge| bridge.link);
    Section::new("Location")
        .each("behind", sheet.bridges.iter().map(bridge))
        .maybe("link", own.map(|own| link::with_reason(own, port)))
        .maybe("NUMA node", node.or(unknown))
}

fn bridge(bridge: &Bridge<'_>) -> String {
    let mut text = bridge.address.to_string();
    let port = bridge.port_type.and_then(|port| match port {
        PortType::RootPort => Some("root port"),
        PortType::SwitchUpstream => Some("switch, upstream"),
        PortType::SwitchDownstream => Some("switch, downstream"),
        PortType::PcieToPci | PortType::PciToPcie => Some("bridge between PCIe and PCI"),
        _ => None,
    });
    for part in [port, bridge.name.as_deref()].into_iter().flatten() {
        let _ = write!(text, "  {part}");
    }
    if let Some(present) = bridge.link {
        let _ = write!(text, ", {}", link::now(present));
    }
    if bridge.isolates == Some(false) {
        text.push_str(", does not isolate (ACS is off)");
    }
    text
}

fn driver(function: &Function) -> Section {
    let detail = function.detail.as_deref();
    let candidates = detail.map(|detail| detail.candidate_drivers.join(", "));
    Section::new("Driver")
        .add("bound", function.driver.as_deref().unwrap_or("none"))
        .maybe("candidates", candidates.filter(|text| !text.is_empty()))
        .add("VFIO driver", vfio_driver(function))
        .maybe("override", detail.and_then(|detail| detail.driver_override.clone()))
}

fn vfio_driver(function: &Function) -> String {
    let driver = function.hand_over_driver();
    match function.vgpu() {
        Some(_) => format!("{driver} (it stays: vendor-specific VFIO)"),
        None => driver.to_owned(),
    }
}

fn isolation(sheet: &Sheet<'_>) -> Section {
    let number = sheet.function.iommu_group.map_or_else(|| "none".into(), |g| g.to_string());
    let kind = sheet.group.and_then(|group| group.domain_type.as_ref());
    let others = sheet.group.map_or(0, |group| group.members.len().saturating_sub(1));
    let others = match others {
        0 => "no other function".to_owned(),
        1 => "with 1 other function".to_owned(),
        _ => format!("with {others} other functions"),
    };
    let group = match (sheet.group, kind) {
        (None, _) => number,
        (Some(_), Some(kind)) => format!("{number}, {kind}, {others}"),
        (Some(_), None) => format!("{number}, {others}"),
    };
    let members = sheet.members.iter().map(|row| {
        let role = match row.member.role {
            Role::Guest => "guest    ",
            Role::Held => "held     ",
            Role::Bystander => "bystander",
            Role::Dependent => "dependent",
        };
        format!("{}  {role}  {} ({})", row.member.address, row.name, row.member.reason)
    });
    Section::new("Assembly").add("IOMMU group", group).each("members", members)
}

fn reset(sheet: &Sheet<'_>) -> Section {
    let function = sheet.function;
    let detail = function.detail.as_deref();
    let others: Vec<String> = sheet
        .reset_domain
        .functions
        .iter()
        .filter(|address| **address != function.address)
        .map(ToString::to_string)
        .collect();
    let reach = match sheet.reset_domain.reach {
        ResetReach::Function => "this function only".to_owned(),
        ResetReach::Bus if others.is_empty() => "the bus, with no other function".into(),
        ResetReach::Bus => format!("the bus, with {}", others.join(", ")),
        ResetReach::None => "no reset method known to the kernel".into(),
        ResetReach::Off => {
            let on = model::doctor::resets_on(function.address);
            format!("nothing: resets are switched off (an empty reset_method); `{on}`")
        }
        ResetReach::Unknown => "unknown (kernel older than Linux 5.15)".into(),
    };
    let methods = function.reset_methods.join(", ");
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    Section::new("Reset")
        .add("affects", reach)
        .maybe("methods", (!methods.is_empty()).then_some(methods))
        .maybe("function level", detail.and_then(|detail| detail.flr).map(yes))
        .maybe("by power", detail.and_then(|detail| detail.pm_reset).map(yes))
}

fn power(function: &Function) -> Section {
    let power = &function.power;
    let d3cold = power.d3cold_allowed.map(|allowed| if allowed { "allowed" } else { "forbidden" });
    Section::new("Power")
        .maybe("state", power.state.clone())
        .maybe("runtime", power.runtime_status.clone())
        .maybe("control", power.control.clone())
        .maybe("D3cold", d3cold.map(str::to_owned))
}

fn memory(function: &Function) -> Section {
    let resizable = function.detail.iter().flat_map(|detail| &detail.resizable_bars);
    let bars = function.bars.iter().map(|bar| {
        let larger = resizable.clone().find(|other| other.index == bar.index);
        let larger = larger.filter(|other| other.largest > bar.size);
        let larger = larger.map(|other| format!(", resizable to {}", bytes(other.largest)));
        format!("{}{}", self::bar(bar), larger.unwrap_or_default())
    });
    Section::new("Memory").each("BARs", bars)
}

fn bar(bar: &Bar) -> String {
    let name = if bar.index == 6 { "ROM".to_owned() } else { bar.index.to_string() };
    let kind = match (bar.io, bar.is_64bit) {
        (true, _) => "I/O ports",
        (_, true) => "64-bit",
        _ => "32-bit",
    };
    let prefetchable = if bar.prefetchable { ", prefetchable" } else { "" };
    let place = match bar.start {
        _ if bar.unassigned => ", without an address".to_owned(),
        0 => String::new(),
        start => format!(" at {start:#x}"),
    };
    format!("{name}: {}, {kind}{prefetchable}{place}", bytes(bar.size))
}

fn partitions(sheet: &Sheet<'_>) -> Section {
    let function = sheet.function;
    let detail = function.detail.as_deref();
    let vfs = function.sriov.as_ref().map(|sriov| {
        let probed = match sriov.autoprobe {
            Some(true) => ", new VFs get a driver",
            Some(false) => ", new VFs get no driver",
            None => "",
        };
        format!("{} of {} enabled{probed}", sriov.present.len(), sriov.total)
    });
    let types = detail.map_or(&[][..], |detail| &detail.mdev_types);
    let types = types.iter().map(|kind| {
        let left = kind.available.map_or_else(|| "?".into(), |left| left.to_string());
        format!("{}, {left} available", name_of_type(kind))
    });
    let mdevs = function.mdevs.iter().map(|mdev| {
        let group = mdev.iommu_group.map(|group| format!(", IOMMU group {group}"));
        let id = mdev.type_id.as_deref().unwrap_or("of unknown type");
        let types = detail.map_or(&[][..], |detail| &detail.mdev_types);
        let kind = types.iter().find(|kind| kind.id == id);
        let kind = kind.map_or_else(|| id.to_owned(), name_of_type);
        format!("{}  {kind}{}", mdev.uuid, group.unwrap_or_default())
    });
    let vgpu = detail.and_then(|detail| detail.vgpu.as_ref());
    let current = vgpu.map(|vgpu| match vgpu.current {
        Some(current) => match &sheet.vgpu_profile {
            Some(name) => format!("{name}  ({current})"),
            None => format!("type {current}"),
        },
        None => "none yet".to_owned(),
    });
    let creatable = vgpu.map_or(&[][..], |vgpu| &vgpu.creatable);
    Section::new("Partitions")
        .maybe("SR-IOV", vfs)
        .each("VFs", function.virtual_functions().iter().map(ToString::to_string))
        .each("mdevs", mdevs)
        .each("mdev types", types)
        .maybe("vGPU", current)
        .each(
            "vGPU types",
            creatable.iter().map(|kind| format!("{}  ({})", own_name(&kind.name), kind.id)),
        )
}

/// The name that requests take, and the driver's id.
fn name_of_type(kind: &MdevType) -> String {
    match &kind.name {
        Some(name) => format!("{}  ({})", own_name(name), kind.id),
        None => kind.id.clone(),
    }
}

fn programs(sheet: &Sheet<'_>) -> Section {
    let nodes = &sheet.function.nodes;
    let list = |names: &[String]| (!names.is_empty()).then(|| names.join(", "));
    let drm: Vec<String> = nodes.drm.iter().map(|name| format!("/dev/dri/{name}")).collect();
    let vfio: Vec<String> = nodes.vfio_group.iter().chain(&nodes.vfio_device).cloned().collect();
    let mig = sheet.function.detail.iter().flat_map(|detail| &detail.mig).map(|instance| {
        let within = instance.compute_instance.map(|number| format!(":ci{number}"));
        let within = within.unwrap_or_default();
        format!("gi{}{within}  {}", instance.gpu_instance, instance.path())
    });
    let own = sheet.function.address;
    let holders = sheet.holders.iter().map(|holder| {
        let whose =
            if holder.address == own { String::new() } else { format!(" ({})", holder.address) };
        format!("{}{whose}", holder.user_and_use())
    });
    Section::new("Nodes and users")
        .maybe("network", list(&nodes.interfaces))
        .maybe("disks", list(&nodes.block_devices))
        .maybe("display", list(&drm))
        .maybe("NVIDIA", nodes.nvidia_minor.map(|minor| format!("/dev/nvidia{minor}")))
        .each("MIG", mig)
        .maybe("VFIO", list(&vfio))
        .each("used by", holders)
}

fn verdict(sheet: &Sheet<'_>, text: &mut String) {
    let colour = |colour: AnsiColor| Style::new().bold().fg_color(Some(colour.into()));
    let bold = Style::new().bold();
    let _ = writeln!(text, "\n{bold}Can it be handed over?{bold:#}");
    let covered = |one: &Finding| one.severity == Severity::Impossible;
    let (answer, colour) = if !sheet.obstacles.is_empty() || sheet.framebuffers.iter().any(covered)
    {
        ("no", colour(AnsiColor::Red))
    } else if !sheet.holders.is_empty() {
        ("not while in use", colour(AnsiColor::Yellow))
    } else {
        ("yes", colour(AnsiColor::Green))
    };
    let _ = writeln!(text, "  {colour}{answer}{colour:#}");
    for refusal in &sheet.obstacles {
        let _ = writeln!(text, "  - {} ({})", several_lines(&refusal.message), refusal.code);
        let _ = writeln!(text, "    {bold}what to do:{bold:#} {}", several_lines(&refusal.remedy));
    }
    for finding in &sheet.framebuffers {
        framebuffer(finding, text);
    }
    if sheet.obstacles.is_empty() && !sheet.holders.is_empty() {
        for holder in sheet.holders.iter().take(SHOWN) {
            let _ = writeln!(text, "  - {}", escaped(&holder.user_and_use()));
        }
        let network = sheet.holders.iter().find(|one| one.kind == HolderKind::Network);
        let stop = "stop the users, then check again".to_owned();
        let remedy = network.map_or(stop, |one| escaped(&one.how_to_end()).into_owned());
        let _ = writeln!(text, "    {bold}what to do:{bold:#} {remedy}");
    }
    let address = sheet.function.address;
    let _ = writeln!(text, "  `handover doctor --for {address}` also checks the rest of the host.");
}

fn framebuffer(finding: &Finding, text: &mut String) {
    let bold = Style::new().bold();
    let _ = writeln!(text, "  - {}: {}", escaped(&finding.read), escaped(&finding.meaning));
    let Some(remedy) = &finding.remedy else { return };
    let _ = writeln!(text, "    {bold}what to do:{bold:#} {}", escaped(&remedy.words));
    for line in remedy.commands.iter().flat_map(|command| command.lines()) {
        let _ = writeln!(text, "        {}", escaped(line));
    }
    if remedy.reboot {
        let _ = writeln!(text, "        then reboot this host");
    }
}

fn notes(function: &Function, text: &mut String) {
    if function.notes.is_empty() {
        return;
    }
    let bold = Style::new().bold();
    let _ = writeln!(text, "\n{bold}Unreadable{bold:#}");
    for note in &function.notes {
        let _ = writeln!(text, "  - {}", escaped(note));
    }
}
