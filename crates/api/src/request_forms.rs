//! OpenAPI schemas of requests that have several forms.

use std::borrow::Cow;

use utoipa::openapi::schema::{
    AdditionalProperties, AllOfBuilder, AnyOfBuilder, ArrayBuilder, Object, ObjectBuilder,
    OneOfBuilder, Ref, SchemaType, Type,
};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::schema::{DiskFormat, ImageName, ImageReference, ImageSource, NewDiskSize};
use crate::{ImportImage, MakeImage, ReturnDevices, Tags};

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
            .description(Some("Addresses, or ids or names of registered devices."))
            .items(ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)))
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
}

/// Where a new image comes from: a registry or a place of container images, or files.
fn sources_of_an_image() -> AnyOfBuilder {
    let text = || of(Type::String);
    let nothing_of = |fields: &[&str]| {
        let none = ObjectBuilder::new();
        fields.iter().fold(none, |form, field| form.property(*field, of(Type::Null)))
    };
    let pulled = || nothing_of(&["disk", "kernel", "initrd"]);
    let of_registry = ["from", "username", "password"];
    let by_name = pulled()
        .property("name", Ref::from_schema_name("ImageReference"))
        .property("from", of(Type::Null));
    let by_source =
        pulled().property("from", Ref::from_schema_name("ImageSource")).required("from");
    let of_disk = nothing_of(&of_registry).property("disk", text()).required("disk");
    let of_kernel = nothing_of(&of_registry).property("kernel", text()).required("kernel");
    AnyOfBuilder::new().item(by_name).item(by_source).item(of_disk).item(of_kernel)
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
                "from",
                OneOfBuilder::new()
                    .description(Some("Where a container image comes from: `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, \
                        `docker-archive:FILE[:TAG]`, `containers-storage:NAME`, or a reference; by default the name is the \
                        reference. Only without files."))
                    .item(of(Type::Null))
                    .item(Ref::from_schema_name("ImageSource")),
            )
            .property("username", optional_text("The name for the registry."))
            .property("password", optional_text("The password for the registry; it is not kept."))
            .property(
                "plain_http",
                ObjectBuilder::new()
                    .schema_type(SchemaType::from_iter([Type::Boolean, Type::Null]))
                    .description(Some("Whether the registry is spoken to without TLS.")),
            )
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
        let with_user =
            ObjectBuilder::new().property("username", of(Type::String)).required("username");
        AllOfBuilder::new()
            .description(Some("A request to import an image from files below the daemon's `--image-dir` directories: a disk, \
                a kernel bundle, or both. Without files, a container image is pulled."))
            .item(fields)
            .item(AnyOfBuilder::new().item(without("disk")).item(with_disk))
            .item(AnyOfBuilder::new().item(without("initrd")).item(with_kernel))
            .item(AnyOfBuilder::new().item(without("password")).item(with_user))
            .item(sources_of_an_image())
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
        schemas.push((ImageReference::name().into_owned(), ImageReference::schema()));
        schemas.push((ImageSource::name().into_owned(), ImageSource::schema()));
    }
}

impl PartialSchema for MakeImage {
    fn schema() -> RefOr<Schema> {
        let words = |word: &str| {
            ObjectBuilder::new().schema_type(Type::String).enum_values(Some([word.to_owned()]))
        };
        let size = || Ref::from_schema_name("NewDiskSize");
        let format = || Ref::from_schema_name("DiskFormat");
        let image = || Ref::from_schema_name("ImageName");
        let form = |text: &str| {
            ObjectBuilder::new()
                .schema_type(Type::Object)
                .description(Some(text))
                .property("tags", Tags::schema())
                .additional_properties(Some(AdditionalProperties::FreeForm(false)))
        };
        let flag = |value: bool| {
            ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some([value]))
        };
        let empty = form("An empty disk.")
            .property("size", size())
            .property("format", format())
            .property("allocate", flag(false))
            .required("size");
        let allocated =
            form("An empty raw disk that takes its whole size from the host's disk at once.")
                .property("size", size())
                .property("format", words("raw"))
                .property("allocate", flag(true))
                .required("size")
                .required("allocate");
        let layer = form("A layer over another image, as large as that or larger.")
            .property("base", image())
            .property("size", size())
            .required("base");
        let copy = form("A copy of another image.")
            .property("from", image())
            .property("format", format())
            .property("compress", flag(false))
            .required("from")
            .required("format");
        let compressed = form("A compressed copy of another image.")
            .property("from", image())
            .property("format", words("qcow2"))
            .property("compress", flag(true))
            .required("from")
            .required("format")
            .required("compress");
        OneOfBuilder::new()
            .description(Some(
                "How an image is made: empty, over another one, or as a copy of another one.",
            ))
            .item(empty)
            .item(allocated)
            .item(layer)
            .item(copy)
            .item(compressed)
            .into()
    }
}

impl ToSchema for MakeImage {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("MakeImage")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((ImageName::name().into_owned(), ImageName::schema()));
        schemas.push((DiskFormat::name().into_owned(), DiskFormat::schema()));
        schemas.push((NewDiskSize::name().into_owned(), NewDiskSize::schema()));
    }
}
