//! Modes of NVIDIA's GPUs that only their driver knows.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Modes of a GPU, as far as they are known; in a request, those that are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct GpuModes {
    /// Whether its memory has error correction (ECC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecc: Option<bool>,
    /// Whether it can be divided into instances (MIG).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mig: Option<bool>,
    /// Whether the driver protects what is on it from the host (confidential computing).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cc: Option<bool>,
}

impl GpuModes {
    /// The keys of a request.
    pub const KEYS: [&str; 3] = ["ecc", "mig", "cc"];

    /// Whether no mode is known, or asked for.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Each mode, with its key and what it is called.
    #[must_use]
    pub const fn each(&self) -> [(&'static str, &'static str, Option<bool>); 3] {
        [
            ("ecc", "ECC", self.ecc),
            ("mig", "MIG", self.mig),
            ("cc", "confidential computing", self.cc),
        ]
    }

    /// Sets the mode with this key.
    pub fn set(&mut self, key: &str, on: bool) {
        match key {
            "ecc" => self.ecc = Some(on),
            "mig" => self.mig = Some(on),
            "cc" => self.cc = Some(on),
            _ => {}
        }
    }

    /// Both requests together; `None` if they contradict each other.
    #[must_use]
    pub fn and(self, other: Self) -> Option<Self> {
        fn both(one: Option<bool>, other: Option<bool>) -> Option<Option<bool>> {
            match (one, other) {
                (Some(one), Some(other)) if one != other => None,
                _ => Some(one.or(other)),
            }
        }
        Some(Self {
            ecc: both(self.ecc, other.ecc)?,
            mig: both(self.mig, other.mig)?,
            cc: both(self.cc, other.cc)?,
        })
    }

    /// The first mode that is asked for and is another one here, or is not known: its key, its name, what is asked for, and what is there.
    #[must_use]
    pub fn unmet(&self, there: &Self) -> Option<(&'static str, &'static str, bool, Option<bool>)> {
        let pairs = self.each().into_iter().zip(there.each());
        pairs.into_iter().find_map(|((key, name, wanted), (.., there))| {
            wanted.filter(|wanted| there != Some(*wanted)).map(|wanted| (key, name, wanted, there))
        })
    }
}

/// `on` or `off`.
#[must_use]
pub const fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

impl fmt::Display for GpuModes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.each().into_iter().filter_map(|(_, name, on)| Some((name, on?)));
        let words: Vec<String> =
            known.map(|(name, on)| format!("{name} {}", on_or_off(on))).collect();
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_that_is_another_one_or_unknown_is_not_met() {
        let there = GpuModes { ecc: Some(true), mig: Some(false), cc: None };
        assert_eq!(there.to_string(), "ECC on, MIG off");
        let asked = |key, on| {
            let mut modes = GpuModes::default();
            modes.set(key, on);
            modes.unmet(&there)
        };
        assert_eq!((asked("ecc", true), asked("mig", false)), (None, None));
        assert_eq!(asked("mig", true), Some(("mig", "MIG", true, Some(false))));
        assert_eq!(asked("cc", true).unwrap().3, None);
        assert_eq!(GpuModes::default().unmet(&there), None);
    }

    #[test]
    fn requests_that_contradict_each_other_are_told() {
        let ecc = |on| GpuModes { ecc: Some(on), ..GpuModes::default() };
        let mig = GpuModes { mig: Some(true), ..GpuModes::default() };
        assert_eq!(ecc(true).and(ecc(false)), None);
        assert_eq!(ecc(true).and(mig).unwrap(), GpuModes { ecc: Some(true), ..mig });
    }
}
