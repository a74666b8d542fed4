//! How viewers reach a screen by its address.

use std::net::SocketAddr;

use api::DisplayAccess;
use api::client::segment;

use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::{listing, output};

/// Shows it, or prints it as a file for remote-viewer.
pub fn run(connection: &Connection, instance: &str, as_file: bool) -> Done {
    let path = format!("/instances/{}/display/access", segment(instance));
    let access: DisplayAccess = connection
        .talk(async |client| client.get(&path).await)
        .map_err(Failure::to(format!("show how viewers reach the screen of {instance}")))?;
    if as_file {
        return output::file(&viewer_file(&access));
    }
    if access.protocol == "vnc" {
        output::warning(
            "VNC is not encrypted: others on the network can read what is typed and shown",
        );
    }
    let fields = [
        ("address", address(&access)),
        ("password", access.password.clone()),
        ("subject", access.subject.clone().unwrap_or_default()),
    ];
    listing::print_one(connection.json(), &access, &fields)
}

/// The address as viewers take it.
fn address(access: &DisplayAccess) -> String {
    let DisplayAccess { protocol, listen, .. } = access;
    match (protocol.as_str(), listen.parse::<SocketAddr>()) {
        ("spice", Ok(at)) => format!("spice://{}?tls-port={}", host(at), at.port()),
        _ => format!("{protocol}://{listen}"),
    }
}

/// The host in a URL.
fn host(at: SocketAddr) -> String {
    if at.is_ipv6() { format!("[{}]", at.ip()) } else { at.ip().to_string() }
}

/// A file that remote-viewer opens (its man page, "CONNECTION FILE").
fn viewer_file(access: &DisplayAccess) -> String {
    let DisplayAccess { protocol, listen, password, certificate, subject } = access;
    let at = listen.parse::<SocketAddr>().ok();
    let host = at.map(|at| at.ip().to_string()).unwrap_or_default();
    let port = at.map(|at| at.port()).unwrap_or_default();
    let mut lines = vec![
        "[virt-viewer]".to_owned(),
        format!("type={protocol}"),
        format!("host={host}"),
        format!("password={password}"),
    ];
    match certificate {
        Some(certificate) => {
            lines.push(format!("tls-port={port}"));
            lines.push(format!("ca={}", certificate.trim_end().replace('\n', "\\n")));
            lines.push("secure-channels=all".into());
        }
        None => lines.push(format!("port={port}")),
    }
    lines.extend(subject.iter().map(|subject| format!("host-subject={subject}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewer_file_has_all_that_a_viewer_needs() {
        let vnc = DisplayAccess {
            protocol: "vnc".into(),
            listen: "192.0.2.1:5902".into(),
            password: "s3cret".into(),
            ..DisplayAccess::default()
        };
        assert_eq!(
            viewer_file(&vnc),
            "[virt-viewer]\ntype=vnc\nhost=192.0.2.1\npassword=s3cret\nport=5902"
        );
        assert_eq!(address(&vnc), "vnc://192.0.2.1:5902");
        let spice = DisplayAccess {
            protocol: "spice".into(),
            listen: "[::1]:5902".into(),
            certificate: Some("-----BEGIN-----\nAA\n".into()),
            subject: Some("CN=dev".into()),
            ..vnc
        };
        assert_eq!(
            viewer_file(&spice),
            "[virt-viewer]\ntype=spice\nhost=::1\npassword=s3cret\ntls-port=5902\nca=-----BEGIN-----\\nAA\n\
             secure-channels=all\nhost-subject=CN=dev"
        );
        assert_eq!(address(&spice), "spice://[::1]?tls-port=5902");
    }
}
