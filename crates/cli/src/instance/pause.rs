//! `handover instance pause` and `handover instance resume`.

use api::Instance as Machine;
use api::client::segment;
use clap::Args;
use model::Refusal;

use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::output;

/// The instances of a command that takes several.
#[derive(Debug, Args)]
pub struct Several {
    /// Names or ids of instances, as `handover instance list` shows them
    #[arg(required = true, value_name = "INSTANCE")]
    instances: Vec<String>,
}

/// What is done with the guests.
#[derive(Clone, Copy, Debug)]
pub enum Verb {
    Pause,
    Resume,
}

impl Several {
    pub fn run(self, connection: &Connection, verb: Verb) -> Done {
        let (word, done) = match verb {
            Verb::Pause => ("pause", "Paused"),
            Verb::Resume => ("resume", "Resumed"),
        };
        let mut machines = Vec::new();
        let mut failed: Option<(String, Refusal)> = None;
        for instance in self.instances {
            let path = format!("/instances/{}/{word}", segment(&instance));
            let answer: Result<Machine, Refusal> =
                connection.talk(async |client| client.post(&path, None::<&()>).await);
            match answer {
                Ok(machine) => {
                    if !connection.json() {
                        output::line(&format!("{done} the instance {}.", machine.name))?;
                    }
                    if let Some(problem) = &machine.state_error {
                        output::warning(&format!("{}: {problem}", machine.name));
                    }
                    machines.push(machine);
                }
                // The next ones are done nevertheless.
                Err(refusal) => {
                    if let Some((earlier, refusal)) = failed.replace((instance, refusal)) {
                        output::warning(&format!("{earlier}: {}", refusal.message));
                    }
                }
            }
        }
        if connection.json() && !machines.is_empty() {
            output::json(&machines)?;
        }
        failed.map_or(Ok(()), |(instance, refusal)| {
            Err(Failure::to(format!("{word} the instance {instance}"))(refusal))
        })
    }
}
