//! The devices file as parsed: every value with its position, not checked yet. Keys are checked by `keys`.

use serde::Deserialize;
use serde_saphyr::Spanned;

/// A text with its position. Numbers are kept as written, so `id: 0x10de` needs no quotes.
pub type Text = Spanned<String>;

/// The file.
#[derive(Debug, Deserialize)]
pub struct File {
    pub vendors: Option<Vec<Spanned<Vendor>>>,
}

/// One of `vendors`.
#[derive(Debug, Deserialize)]
pub struct Vendor {
    pub id: Option<Text>,
    pub name: Option<Text>,
    pub devices: Option<Vec<Spanned<Device>>>,
}

/// One of `devices`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    pub id: Option<Text>,
    pub name: Option<Text>,
    pub r#type: Option<Text>,
    pub subsystem_vendor: Option<Text>,
    pub subsystem_device: Option<Text>,
    pub revision: Option<Text>,
    pub subsystem: Option<Text>,
    pub addresses: Option<Vec<Text>>,
    pub exclude: Option<Vec<Text>>,
}
