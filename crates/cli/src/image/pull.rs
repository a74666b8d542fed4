//! `handover image pull`.

use std::time::Duration;

use api::client::{Client, segment};
use api::{Image, ImportImage};
use clap::Args;
use model::Refusal;

use super::until_ready;
use crate::connection::tag;
use crate::progress::waiting;

#[derive(Debug, Args)]
pub struct Pull {
    /// Name of the new image; without --from a reference, such as docker.io/library/debian:12
    name: String,
    /// Where it comes from.
    #[arg(
        long,
        value_name = "SOURCE",
        help = "Where it comes from: a reference, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:TAG] or \
                containers-storage:NAME; directories and files are below an --image-dir of the daemon"
    )]
    from: Option<String>,
    /// Name for the registry; by default what `podman login` or `docker login` keep for the daemon's user
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// File with the password for the registry
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<std::path::PathBuf>,
    /// Speak to the registry without TLS
    #[arg(long)]
    plain_http: bool,
    /// Tag (repeatable)
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
}

impl Pull {
    /// The pull of an image by its reference, from its registry.
    pub fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            from: None,
            username: None,
            password_file: None,
            plain_http: false,
            tags: Vec::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks for the image, and waits until it can be used.
    pub async fn send(self, client: &Client) -> Result<Image, Refusal> {
        let password = match (&self.password_file, &self.username) {
            (Some(path), _) => Some(read_password(path)?),
            (None, Some(name)) => Some(ask(name)?),
            (None, None) => None,
        };
        let body = ImportImage {
            name: self.name.clone(),
            from: self.from,
            username: self.username,
            password,
            plain_http: self.plain_http.then_some(true),
            tags: (!self.tags.is_empty()).then(|| self.tags.into_iter().collect()),
            ..ImportImage::default()
        };
        let image: Image = client.post("/images", Some(&body)).await?;
        let path = format!("/images/{}", segment(&self.name));
        let what = format!("the image {} is pulled", self.name);
        waiting(&what, async {
            let mut image = image;
            while matches!(image.status.as_str(), "pending" | "pulling") {
                tokio::time::sleep(Duration::from_millis(200)).await;
                image = client.get(&path).await?;
            }
            until_ready(client, image, &self.name, "mend that").await
        })
        .await
    }
}

/// The first line of a file.
fn read_password(path: &std::path::Path) -> Result<String, Refusal> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Refusal::new(
            model::Code::InvalidRequest,
            format!("cannot read the password in {}: {error}", path.display()),
            "check the path and its permissions",
        )
    })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn ask(name: &str) -> Result<String, Refusal> {
    rpassword::prompt_password(format!("Password of {name}: ")).map_err(|error| {
        Refusal::new(
            model::Code::InvalidRequest,
            format!("cannot ask for the password: {error}"),
            "give it in a file: `--password-file FILE`",
        )
    })
}
