//! Schemas of requests with several forms.

use std::borrow::Cow;

use utoipa::openapi::schema::{
    AdditionalProperties, AllOfBuilder, AnyOfBuilder, ArrayBuilder, Object, ObjectBuilder,
    OneOfBuilder, Ref, SchemaType, Type,
};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::{DiskFormat, ImageName, PciAddress};
use crate::{ImportImage, ReturnDevices, Tags};

fn of(one: Type) -> Object {
    Object::with_type(one)
}

/// A text or `null`.
fn optional_text(description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .description(Some(description))
}

impl PartialSchema for ReturnDevices {
    fn schema() -> RefOr<Schema> {
        let none = ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some([false]));
        let some = ArrayBuilder::new()
            .description(Some("Addresses."))
            .items(Ref::from_schema_name("PciAddress"))
            .min_items(Some(1))
            .max_items(Some(1024));
        let named = ObjectBuilder::new()
            .description(Some("These devices."))
            .property("addresses", some)
            .property("all", none)
            .required("addresses")
            .additional_properties(Some(AdditionalProperties::FreeForm(false)));
        let yes = ObjectBuilder::new()
            .schema_type(Type::Boolean)
            .description(Some(
                "All unclaimed devices on a vfio driver or in need of manual attention.",
            ))
            .enum_values(Some([true]));
        let empty = ArrayBuilder::new().items(of(Type::String)).max_items(Some(0));
        let all = ObjectBuilder::new()
            .description(Some("All devices."))
            .property("all", yes)
            .property("addresses", empty)
            .required("all")
            .additional_properties(Some(AdditionalProperties::FreeForm(false)));
        OneOfBuilder::new()
            .description(Some(
                "Which devices to return to their native drivers: those in `addresses`, or `all`.",
            ))
            .item(named)
            .item(all)
            .into()
    }
}

impl ToSchema for ReturnDevices {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("ReturnDevices")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((PciAddress::name().into_owned(), PciAddress::schema()));
    }
}

impl PartialSchema for ImportImage {
    fn schema() -> RefOr<Schema> {
        let fields = ObjectBuilder::new()
            .property("name", Ref::from_schema_name("ImageName"))
            .property("disk", optional_text("A disk image."))
            .property(
                "format",
                OneOfBuilder::new()
                    .description(Some("The disk's format; required with a disk, never guessed."))
                    .item(of(Type::Null))
                    .item(Ref::from_schema_name("DiskFormat")),
            )
            .property("kernel", optional_text("A kernel."))
            .property("initrd", optional_text("An initial ramdisk; only with a kernel."))
            .property("cmdline", optional_text("The kernel's command line."))
            .property(
                "tags",
                OneOfBuilder::new()
                    .description(Some("Tags."))
                    .item(of(Type::Null))
                    .item(Tags::schema()),
            )
            .required("name");
        let without = |field| ObjectBuilder::new().property(field, of(Type::Null));
        let with_disk = ObjectBuilder::new()
            .property("disk", of(Type::String))
            .property("format", Ref::from_schema_name("DiskFormat"))
            .required("disk")
            .required("format");
        let with_kernel =
            ObjectBuilder::new().property("kernel", of(Type::String)).required("kernel");
        AllOfBuilder::new()
            .description(Some("A request to import an image from files below the daemon's `--image-dir` directories: a disk, \
                a kernel bundle, or both."))
            .item(fields)
            .item(AnyOfBuilder::new().item(without("disk")).item(with_disk))
            .item(AnyOfBuilder::new().item(without("initrd")).item(with_kernel))
            .into()
    }
}

impl ToSchema for ImportImage {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("ImportImage")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((ImageName::name().into_owned(), ImageName::schema()));
        schemas.push((DiskFormat::name().into_owned(), DiskFormat::schema()));
    }
}

/// An object without fields.
#[derive(Clone, Copy, Debug)]
pub enum Nothing {}

impl PartialSchema for Nothing {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .max_properties(Some(0))
            .additional_properties(Some(Schema::Object(of(Type::String))))
            .into()
    }
}

impl ToSchema for Nothing {}

/// Tags in a query: whatever they are, they are texts there.
#[derive(Clone, Copy, Debug)]
pub enum QueryTags {}

impl PartialSchema for QueryTags {
    fn schema() -> RefOr<Schema> {
        let any = AdditionalProperties::FreeForm(true);
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .description(Some("Tags; each value is compared as text."))
            .additional_properties(Some(any))
            .into()
    }
}

impl ToSchema for QueryTags {}

/// One event of a stream of server-sent events (HTML, 9.2): the schema of the stream is that of each event.
#[derive(Clone, Copy, Debug)]
pub enum ServerSentEvent {}

impl PartialSchema for ServerSentEvent {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .description(Some("One event of the stream."))
            .property(
                "data",
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some("JSON."))
                    .content_media_type("application/json"),
            )
            .required("data")
            .into()
    }
}

impl ToSchema for ServerSentEvent {}

/// An image that is uploaded: a disk, a kernel bundle, or both.
#[derive(Clone, Copy, Debug)]
pub enum UploadImage {}

/// A form with these fields; the first ones are required.
fn form(description: &str, required: &[&str], optional: &[&str]) -> ObjectBuilder {
    let field = |name: &str| -> RefOr<Schema> {
        match name {
            "name" => Ref::from_schema_name("ImageName").into(),
            "format" => Ref::from_schema_name("DiskFormat").into(),
            "cmdline" => {
                ObjectBuilder::new().schema_type(Type::String).max_length(Some(64 << 10)).into()
            }
            // A file: OpenAPI 3.1 has no format for it.
            _ => ObjectBuilder::new()
                .schema_type(Type::String)
                .content_media_type("application/octet-stream")
                .into(),
        }
    };
    let mut form = ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(description))
        .additional_properties(Some(AdditionalProperties::FreeForm(false)));
    for name in required.iter().chain(optional) {
        form = form.property(*name, field(name));
    }
    required.iter().fold(form, |form, name| form.required(*name))
}

impl PartialSchema for UploadImage {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .description(Some("An image to upload: a disk, a kernel bundle, or both."))
            .item(form("A kernel.", &["name", "kernel"], &["initrd", "cmdline", "format"]))
            .item(form("A disk.", &["name", "format", "disk"], &["kernel", "cmdline"]))
            .item(form("Both.", &["name", "format", "disk", "kernel", "initrd"], &["cmdline"]))
            .into()
    }
}

impl ToSchema for UploadImage {}
