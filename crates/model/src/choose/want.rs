//! Requests, and their text form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Address, Code, Function, GpuModes, GuestBus, Id, Kind, Refusal, VfSettings};

/// One item of a claim's request, with a count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// Where the guest sees it, if that was chosen; only for an instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestBus>,
    /// The modes that all GPUs of the request must have.
    #[serde(default, skip_serializing_if = "GpuModes::is_nothing")]
    pub modes: GpuModes,
    /// What is wanted.
    #[serde(flatten)]
    pub kind: WantKind,
}

const fn one() -> u32 {
    1
}

/// What can be requested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WantKind {
    /// One whole device, by address or registered name.
    Device(String),
    /// Any whole device that fits.
    Any(Filter),
    /// Existing virtual functions.
    Vf {
        /// Of this device, by address or name; of any device if `None`.
        of: Option<String>,
        /// Settings at its physical function.
        #[serde(default)]
        settings: VfSettings,
    },
    /// A partition by its profile's name or id, `NVIDIA L40S-1Q`, `L40S-1Q`, `nvidia-474`, with any mechanism that the
    /// host has.
    Profile {
        /// The profile.
        profile: String,
        /// Of this device, by address or name; of any device if `None`.
        #[serde(default)]
        of: Option<String>,
        /// Attributes to write to a mediated device after creation, in order.
        #[serde(default)]
        attributes: Vec<(String, String)>,
    },
    /// An existing mediated device.
    Mdev(Uuid),
}

/// Properties of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Kind of device.
    pub kind: Option<Kind>,
    /// Vendor id.
    pub vendor: Option<Id>,
    /// Device id.
    pub device: Option<Id>,
    /// Alternative device ids: one model can have several, such as NVIDIA's for SXM and PCIe.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub or_devices: Vec<Id>,
    /// NUMA node.
    pub node: Option<u32>,
    /// A resource of the devices file, `gpu.nvidia/ga100gl.rev.a1`, or `nvidia.com/gpu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

impl Filter {
    /// Whether it names one model, or what counts as one.
    pub(super) const fn names_model(&self) -> bool {
        self.device.is_some() || self.resource.is_some()
    }

    /// Whether a function fits, if it belongs to the [`resource`](Self::resource): only the catalog knows that.
    #[must_use]
    pub fn fits(&self, function: &Function) -> bool {
        fn is<T: PartialEq>(wanted: Option<T>, there: T) -> bool {
            wanted.is_none_or(|wanted| wanted == there)
        }
        is(self.kind, function.kind())
            && is(self.vendor, function.vendor)
            && (is(self.device, function.device) || self.or_devices.contains(&function.device))
            && (self.node.is_none() || self.node == function.numa_node)
    }
}

/// The most characters that ask for a device.
const LONGEST: usize = 1024;

impl FromStr for Want {
    type Err = Refusal;

    /// Parses `[COUNTx]WHAT[@DEVICE][,KEY=VALUE...]`; see [`GRAMMAR`].
    fn from_str(text: &str) -> Result<Self, Refusal> {
        if text.len() > LONGEST {
            return Err(Refusal::new(
                Code::InvalidRequest,
                format!("a device in {} characters", text.len()),
                format!("it has at most {LONGEST}"),
            ));
        }
        let mut words = text.split(',');
        let head = words.next().unwrap_or_default();
        let mut settings: Vec<(&str, &str)> = words
            .map(|word| {
                word.split_once('=').ok_or_else(|| match crate::near_miss::hint(text) {
                    Some(hint) => {
                        let refusal = wrong(text, "expected KEY=VALUE after a comma");
                        Refusal { remedy: hint, ..refusal }
                    }
                    None => wrong(text, "expected KEY=VALUE after a comma"),
                })
            })
            .collect::<Result<_, _>>()?;
        let (count, rest) = counted(head);
        let (name, of) = match rest.split_once('@') {
            Some((name, of)) if !of.is_empty() => (name, Some(of.to_owned())),
            Some(_) => return Err(wrong(text, "expected a device after @")),
            None => (rest, None),
        };
        if count == 0 {
            return Err(wrong(text, "the count is 0"));
        }
        let guest = settings.extract_if(.., |(key, _)| *key == "guest").next();
        let guest = guest.map(|(_, value)| value.parse::<GuestBus>()).transpose();
        let guest = guest.map_err(|error| wrong(text, &error.to_string()))?;
        let is_gpu = name != "vf" && !name.starts_with("profile=") && !name.starts_with("mdev=");
        let modes = if is_gpu { modes(text, &mut settings)? } else { GpuModes::default() };
        let want = Self { count, guest, modes, kind: kind(text, name, of, &settings)? };
        want.expect_one_place().map(|()| want)
    }
}

/// The text form of a request, for help and errors.
pub const GRAMMAR: &str = "  0000:01:00.0            this device, with its IOMMU group and companions; also pci_0000_01_00_0
  gpu0                    the device registered with that name
  gpu, 2xgpu              any GPU, any two (also nic, nvme, accelerator, ...)
  10de:20b0, 2x10de:20b0  any device of that vendor and device id
  gpu.nvidia/a100         any device of that resource of the devices file; nvidia.com/gpu: any of NVIDIA's GPUs
  gpu,node=0              any GPU on NUMA node 0
  gpu,ecc=on              an NVIDIA GPU in this mode (also mig=on, cc=on, or off)
  vf@0000:03:00.0         a virtual function of that NIC
  4xvf@nic0,vlan=100      four, on VLAN 100 (mac, vlan, qos, trust, spoofchk, min_tx_rate, max_tx_rate)
  profile=L40S-1Q         a vGPU of that profile, by mdev or by NVIDIA's vendor VFIO (@DEVICE chooses the GPU)
  mdev=UUID               an existing mediated device
  gpu,guest=06:00         any GPU, at this address in the guest (only for an instance)";

/// Takes the modes of a GPU out of the settings.
fn modes(text: &str, settings: &mut Vec<(&str, &str)>) -> Result<GpuModes, Refusal> {
    let mut modes = GpuModes::default();
    for (key, value) in settings.extract_if(.., |(key, _)| GpuModes::KEYS.contains(key)) {
        match value {
            "on" | "off" => modes.set(key, value == "on"),
            _ => return Err(wrong(text, &format!("expected on or off after {key}="))),
        }
    }
    Ok(modes)
}

/// The last VLAN tag; 4095 is reserved (IEEE 802.1Q).
const LAST_VLAN: u16 = 4094;

/// The last priority of a VLAN tag (IEEE 802.1Q).
const LAST_QOS: u8 = 7;

/// Splits off a leading count: `2x...`.
fn counted(text: &str) -> (u32, &str) {
    let counted = text.split_once('x').and_then(|(count, rest)| {
        let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
        Some((digits.then(|| count.parse().ok()).flatten()?, rest))
    });
    counted.filter(|(_, rest)| !rest.is_empty()).unwrap_or((1, text))
}

fn kind(
    text: &str,
    name: &str,
    of: Option<String>,
    settings: &[(&str, &str)],
) -> Result<WantKind, Refusal> {
    if let Some(profile) = name.strip_prefix("profile=") {
        if profile.is_empty() {
            return Err(wrong(text, "expected a profile after profile="));
        }
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let attributes = settings.iter().map(own).collect();
        return Ok(WantKind::Profile { profile: profile.into(), of, attributes });
    }
    if name == "vf" {
        return Ok(WantKind::Vf { of, settings: vf_settings(text, settings)? });
    }
    if of.is_some() {
        return Err(wrong(text, "only `vf` and `profile=` can have @DEVICE"));
    }
    if let Some(uuid) = name.strip_prefix("mdev=") {
        no_settings(text, settings)?;
        return uuid
            .parse()
            .map(WantKind::Mdev)
            .map_err(|_| wrong(text, "expected a UUID after mdev="));
    }
    if let Some(filter) = filter(name) {
        return Ok(WantKind::Any(Filter { node: node(text, settings)?, ..filter }));
    }
    no_settings(text, settings)?;
    if name.is_empty() {
        return Err(wrong(text, "the request is empty"));
    }
    // An address in its usual form, so that the same device is the same request. Names are looked up later.
    let address = name.parse::<Address>();
    Ok(WantKind::Device(address.map_or_else(|_| name.into(), |address| address.to_string())))
}

/// A kind, a vendor and device id, or a resource.
fn filter(name: &str) -> Option<Filter> {
    if name.contains('/') {
        return Some(Filter { resource: Some(name.to_owned()), ..Filter::default() });
    }
    if let Ok(kind) = name.parse() {
        return Some(Filter { kind: Some(kind), ..Filter::default() });
    }
    let (vendor, device) = name.split_once(':')?;
    let four = |text: &str| (text.len() == 4).then(|| text.parse().ok()).flatten();
    Some(Filter { vendor: Some(four(vendor)?), device: Some(four(device)?), ..Filter::default() })
}

fn node(text: &str, settings: &[(&str, &str)]) -> Result<Option<u32>, Refusal> {
    match settings {
        [] => Ok(None),
        [("node", value)] => value
            .parse()
            .map(Some)
            .map_err(|_| wrong(text, "expected a number after node=, such as node=0")),
        _ => Err(wrong(text, "a device accepts only node=")),
    }
}

fn no_settings(text: &str, settings: &[(&str, &str)]) -> Result<(), Refusal> {
    if settings.is_empty() {
        Ok(())
    } else {
        Err(wrong(text, "a named device accepts no settings"))
    }
}

fn vf_settings(text: &str, settings: &[(&str, &str)]) -> Result<VfSettings, Refusal> {
    let mut read = VfSettings::default();
    for (key, value) in settings {
        let bad =
            || wrong(text, &format!("{value:?} is not a valid {key}: expected {}", accepted(key)));
        let switch = || match *value {
            "on" => Ok(Some(true)),
            "off" => Ok(Some(false)),
            _ => Err(bad()),
        };
        match *key {
            "mac" => read.mac = Some(value.parse().map_err(|_| bad())?),
            "vlan" => {
                let vlan = value.parse().ok().filter(|vlan| *vlan <= LAST_VLAN);
                read.vlan = Some(vlan.ok_or_else(bad)?);
            }
            "qos" => {
                read.qos = Some(value.parse().ok().filter(|qos| *qos <= LAST_QOS).ok_or_else(bad)?)
            }
            "trust" => read.trust = switch()?,
            "spoofchk" => read.spoof_check = switch()?,
            "min_tx_rate" => read.min_rate = Some(value.parse().map_err(|_| bad())?),
            "max_tx_rate" => read.max_rate = Some(value.parse().map_err(|_| bad())?),
            _ => return Err(wrong(text, &format!("a virtual function has no setting {key:?}"))),
        }
    }
    Ok(read)
}

/// What a setting of a virtual function accepts.
fn accepted(key: &str) -> &'static str {
    match key {
        "mac" => "six pairs of hex digits, such as 52:54:00:00:00:01",
        "vlan" => "a number from 0 to 4094, such as 100",
        "qos" => "a number from 0 to 7, such as 3",
        "trust" | "spoofchk" => "on or off",
        _ => "a rate in Mbit/s, such as 1000",
    }
}

fn wrong(text: &str, why: &str) -> Refusal {
    Refusal::new(
        Code::InvalidRequest,
        format!("invalid request {text:?}: {why}"),
        format!("use one of these forms:\n{GRAMMAR}"),
    )
}

impl fmt::Display for WantKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of =
            |of: &Option<String>| of.as_ref().map(|of| format!(" of {of}")).unwrap_or_default();
        match self {
            Self::Device(name) => f.write_str(name),
            Self::Any(filter) => {
                let kind = filter.kind.map_or("device", |kind| kind.as_str());
                f.write_str(filter.resource.as_deref().unwrap_or(kind))?;
                if let (Some(vendor), Some(device)) = (filter.vendor, filter.device) {
                    write!(f, " {vendor}:{device}")?;
                    filter.or_devices.iter().try_for_each(|other| write!(f, " or {other}"))?;
                }
                filter.node.map_or(Ok(()), |node| write!(f, " on NUMA node {node}"))
            }
            Self::Vf { of: parent, .. } => write!(f, "virtual function{}", of(parent)),
            Self::Profile { profile, of: parent, .. } => write!(f, "{profile}{}", of(parent)),
            Self::Mdev(uuid) => write!(f, "mediated device {uuid}"),
        }
    }
}

impl Want {
    /// Checks what the text form refuses and an object can contain.
    ///
    /// # Errors
    /// `invalid_request`.
    pub fn check(&self) -> Result<(), Refusal> {
        let named = self.kind.to_string();
        if self.count == 0 {
            return Err(wrong(&named, "the count is 0"));
        }
        if self.count > 1 && matches!(self.kind, WantKind::Device(_) | WantKind::Mdev(_)) {
            return Err(wrong(&named, "it is a single device"));
        }
        self.expect_one_place()?;
        let WantKind::Vf { settings, .. } = &self.kind else { return Ok(()) };
        if self.count > 1 && settings.mac.is_some() {
            return Err(wrong(&named, "several virtual functions cannot all have one mac"));
        }
        if settings.vlan.is_some_and(|vlan| vlan > LAST_VLAN) {
            return Err(wrong(&named, "a vlan is at most 4094"));
        }
        if settings.qos.is_some_and(|qos| qos > LAST_QOS) {
            return Err(wrong(&named, "a qos is at most 7"));
        }
        Ok(())
    }

    fn expect_one_place(&self) -> Result<(), Refusal> {
        if self.count > 1 && self.guest.is_some() {
            let named = self.kind.to_string();
            return Err(wrong(&named, "several devices cannot all have one address in the guest"));
        }
        Ok(())
    }

    /// One of a kind.
    #[must_use]
    pub const fn one(kind: WantKind) -> Self {
        let modes = GpuModes { ecc: None, mig: None, cc: None };
        Self { count: 1, guest: None, modes, kind }
    }

    /// One whole device.
    #[must_use]
    pub fn device(address: Address) -> Self {
        Self::one(WantKind::Device(address.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (u32, WantKind) {
        let want: Want = text.parse().unwrap();
        (want.count, want.kind)
    }

    #[test]
    fn the_short_form_of_a_want() {
        assert_eq!(read("0000:01:00.0"), (1, WantKind::Device("0000:01:00.0".into())));
        assert_eq!(read("01:00.0"), (1, WantKind::Device("0000:01:00.0".into())));
        assert_eq!(read("pci_0000_01_00_0"), (1, WantKind::Device("0000:01:00.0".into())));
        assert_eq!(read("gpu0"), (1, WantKind::Device("gpu0".into())));
        let gpu = Filter { kind: Some(Kind::Gpu), ..Filter::default() };
        assert_eq!(read("2xgpu"), (2, WantKind::Any(gpu.clone())));
        assert_eq!(read("gpu,node=1"), (1, WantKind::Any(Filter { node: Some(1), ..gpu })));
        let ids =
            Filter { vendor: Some(Id(0x10de)), device: Some(Id(0x20b0)), ..Filter::default() };
        assert_eq!(read("3x10de:20b0"), (3, WantKind::Any(ids)));
        let (count, what) = read("4xvf@nic0,mac=52:54:00:00:00:01,vlan=100,trust=on");
        let WantKind::Vf { of, settings } = what else { panic!("{what:?}") };
        assert_eq!((count, of.as_deref()), (4, Some("nic0")));
        assert_eq!(settings.to_string(), "mac 52:54:00:00:00:01 vlan 100 trust on");
        let profile = WantKind::Profile {
            profile: "NVIDIA L40S-1Q".into(),
            of: Some("0000:41:00.0".into()),
            attributes: Vec::new(),
        };
        assert_eq!(read("profile=NVIDIA L40S-1Q@0000:41:00.0"), (1, profile));
    }

    #[test]
    fn modes_of_a_gpu_are_asked_for_by_kind_and_by_name() {
        for text in ["gpu", "10de:20b0,node=1", "gpu0", "0000:01:00.0"] {
            let want: Want = format!("{text},ecc=on,mig=off").parse().unwrap();
            assert_eq!(want.modes, GpuModes { ecc: Some(true), mig: Some(false), cc: None });
            let plain: Want = text.parse().unwrap();
            assert_eq!(want.kind, plain.kind, "{text}");
            assert!(plain.modes.is_nothing());
        }
    }

    #[test]
    fn an_address_in_the_guest_can_be_chosen_for_any_device() {
        for text in ["0000:01:00.0", "gpu,node=1", "vf@nic0,vlan=7", "profile=nvidia-474"] {
            let plain: Want = text.parse().unwrap();
            let placed: Want = format!("{text},guest=06:00").parse().unwrap();
            assert_eq!(placed.guest.unwrap().to_string(), "06:00");
            assert_eq!(Want { guest: None, ..placed }, plain, "{text}");
        }
    }

    #[test]
    fn invalid_wants_are_refused_with_the_grammar() {
        for text in [
            "",
            "0xgpu",
            "gpu@",
            "gpu@nic",
            "vf@nic,vlan=5000",
            "profile=",
            "profile=@gpu0",
            "vf,colour=red",
            "vf,\u{1b}[2J\n=red",
            "gpu,x",
            "mdev=1",
            "gpu0,node=1",
            "gpu,guest=00:00",
            "gpu,guest=06:01",
            "2xgpu,guest=06:00",
            "gpu,ecc=yes",
            "vf@nic0,mig=on",
        ] {
            let refusal = text.parse::<Want>().unwrap_err();
            assert_eq!(refusal.code, Code::InvalidRequest, "{text}");
            assert!(refusal.remedy.contains("4xvf@nic0"), "{refusal:?}");
            assert!(!refusal.message.contains(char::is_control), "{refusal:?}");
        }
    }

    #[test]
    fn an_object_has_the_limits_of_the_text() {
        for (json, fits) in [
            (r#"{"count": 0, "any": {}}"#, false),
            (r#"{"count": 2, "device": "gpu0"}"#, false),
            (
                r#"{"count": 2, "vf": {"of": null, "settings": {"mac": "52:54:00:00:00:01"}}}"#,
                false,
            ),
            (r#"{"vf": {"of": null, "settings": {"vlan": 4095}}}"#, false),
            (r#"{"vf": {"of": null, "settings": {"qos": 8}}}"#, false),
            (r#"{"vf": {"of": null, "settings": {"vlan": 4094, "qos": 7}}}"#, true),
        ] {
            let want: Want = serde_json::from_str(json).unwrap();
            assert_eq!(want.check().is_ok(), fits, "{json}");
        }
    }

    #[test]
    fn json_and_text_mean_the_same() {
        for text in
            ["2xgpu,node=0", "vf@nic0,vlan=7", "profile=nvidia-474", "gpu0", "gpu0,guest=06:00"]
        {
            let want: Want = text.parse().unwrap();
            let json = serde_json::to_string(&want).unwrap();
            assert_eq!(serde_json::from_str::<Want>(&json).unwrap(), want, "{json}");
        }
        // What earlier versions stored can be read, and equals the same request of this version.
        let filter = Filter { vendor: Some(Id(0x10de)), ..Filter::default() };
        assert!(!serde_json::to_string(&filter).unwrap().contains("or_devices"));
    }

    #[test]
    fn several_ids_can_be_of_one_model() {
        let filter = Filter {
            vendor: Some(Id(0x10de)),
            device: Some(Id(0x20b0)),
            or_devices: vec![Id(0x20f1)],
            ..Filter::default()
        };
        let mut function = Function::unknown("0000:01:00.0".parse().unwrap());
        function.vendor = Id(0x10de);
        for (device, fits) in [(0x20b0, true), (0x20f1, true), (0x20b5, false)] {
            function.device = Id(device);
            assert_eq!(filter.fits(&function), fits, "{device:x}");
        }
        assert_eq!(WantKind::Any(filter).to_string(), "device 10de:20b0 or 20f1");
    }
}
