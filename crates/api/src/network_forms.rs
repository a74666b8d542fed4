//! The OpenAPI schema of a requested network card, which has several forms.

use std::borrow::Cow;

use utoipa::openapi::schema::{
    AllOfBuilder, AnyOfBuilder, ArrayBuilder, Object, ObjectBuilder, OneOfBuilder, Ref, SchemaType,
    Type,
};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::NetworkRequest;
use crate::schema::{CardAddress, ForwardedPort, InterfaceName, NetworkMode};

fn of(one: Type) -> Object {
    Object::with_type(one)
}

/// Something, or `null`.
fn or_null(description: &str, name: &str) -> OneOfBuilder {
    let known = OneOfBuilder::new().description(Some(description)).item(of(Type::Null));
    known.item(Ref::from_schema_name(name))
}

fn flag_or_null(description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Boolean, Type::Null]))
        .description(Some(description))
}

/// A flag that has this value, or is `null`.
fn only_or_null(value: bool) -> OneOfBuilder {
    let only = ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some([value]));
    OneOfBuilder::new().item(of(Type::Null)).item(only)
}

fn word(word: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some([word]))
}

/// Forwarded ports, at most so many.
fn forwards(most: usize) -> OneOfBuilder {
    let ports =
        ArrayBuilder::new().items(Ref::from_schema_name("ForwardedPort")).max_items(Some(most));
    OneOfBuilder::new().item(of(Type::Null)).item(ports)
}

/// A card that is left out: nothing else is given.
fn nothing(form: ObjectBuilder) -> ObjectBuilder {
    ["source", "force", "mac"]
        .into_iter()
        .fold(form, |form, field| form.property(field, of(Type::Null)))
        .property("forwards", forwards(0))
}

/// The forms of a request. A card that is left out is none of those of a card.
fn forms(description: &str, is_card: bool) -> RefOr<Schema> {
    let fields = ObjectBuilder::new()
            .property("enabled", flag_or_null("Whether to add a virtual network card; by default it is added."))
            .property("mode", or_null("`user` (the default): passt connects the guest to the host's networks. `bridge`: the card is a \
                port of a bridge of the host. `macvtap`: it is beside an interface of the host. `none`: like `enabled: false`.", "NetworkMode"))
            .property("source", or_null("The bridge or interface of the host, in the modes `bridge` and `macvtap`.", "InterfaceName"))
            .property("force", flag_or_null("In the mode `macvtap`: whether the interface may be the host's only way out."))
            .property("mac", or_null("The card's hardware address; one is chosen by default.", "CardAddress"))
            .property("forwards", forwards(1024).description(Some("Ports of the host that lead to the guest: \
                `[ADDRESS:]HOST_PORT:GUEST_PORT[/tcp|/udp]`, such as `2222:22`. They listen on 127.0.0.1 if there is no address. Only in \
                the mode `user`.")));
    let on = || ObjectBuilder::new().property("enabled", only_or_null(true));
    let user = OneOfBuilder::new().item(of(Type::Null)).item(word("user"));
    let user = on()
        .property("mode", user)
        .property("source", of(Type::Null))
        .property("force", only_or_null(false));
    let linked = |mode: &str| {
        let form = on()
            .property("mode", word(mode))
            .property("source", Ref::from_schema_name("InterfaceName"))
            .property("forwards", forwards(0));
        form.required("mode").required("source")
    };
    let bridge = linked("bridge").property("force", only_or_null(false));
    let off = nothing(ObjectBuilder::new()).property("enabled", word_false()).required("enabled");
    let none = nothing(ObjectBuilder::new())
        .property("enabled", of(Type::Null))
        .property("mode", word("none"))
        .required("mode");
    let forms = AnyOfBuilder::new().item(user).item(bridge).item(linked("macvtap"));
    let forms = if is_card { forms } else { forms.item(off).item(none) };
    AllOfBuilder::new().description(Some(description)).item(fields).item(forms).into()
}

impl PartialSchema for NetworkRequest {
    fn schema() -> RefOr<Schema> {
        forms("The requested network.", false)
    }
}

/// A network card that is given to an instance.
#[derive(Clone, Copy, Debug)]
pub enum NewCard {}

impl PartialSchema for NewCard {
    fn schema() -> RefOr<Schema> {
        forms("A network card.", true)
    }
}

impl ToSchema for NewCard {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("NewCard")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        NetworkRequest::schemas(schemas);
    }
}

fn word_false() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some([false]))
}

impl ToSchema for NetworkRequest {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("NetworkRequest")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((NetworkMode::name().into_owned(), NetworkMode::schema()));
        schemas.push((InterfaceName::name().into_owned(), InterfaceName::schema()));
        schemas.push((CardAddress::name().into_owned(), CardAddress::schema()));
        schemas.push((ForwardedPort::name().into_owned(), ForwardedPort::schema()));
    }
}
