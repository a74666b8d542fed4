//! Options for what a machine runs of a container image.

use api::CreateInstance;
use clap::Args;

use crate::values;

/// Options of a new instance
#[derive(Debug, Args)]
pub struct Container {
    /// Variable of the command's environment (repeatable), for a container image
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = values::variable)]
    pub env: Vec<(String, String)>,
    /// Entry point in place of the image's, one program; its arguments follow `--`
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// User that the command runs as, in place of the image's
    #[arg(long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Directory in which the command starts, in place of the image's
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Kernel for a container image: the name of an image that has one; by default its own, else the host's
    #[arg(long, value_name = "IMAGE")]
    pub kernel: Option<String>,
    /// When a container image is pulled before: missing (the usual one: if there is no image of this name, and the name has a
    /// slash, as docker.io/library/debian), always (the name may mean another image by now), or never
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["missing", "always", "never"])]
    pub pull: String,
    /// Command in place of the container image's, after `--`; no shell reads it
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

impl Container {
    /// Adds them to a request.
    pub fn fill(self, body: &mut CreateInstance) {
        body.env = (!self.env.is_empty()).then(|| self.env.into_iter().collect());
        body.entrypoint = self.entrypoint.map(|program| vec![program]);
        body.user = self.user;
        body.working_dir = self.workdir;
        body.kernel = self.kernel;
        body.pull = (self.pull == "always").then_some(self.pull);
        body.cmd = (!self.command.is_empty()).then_some(self.command);
    }
}
