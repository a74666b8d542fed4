//! `handover instance start`, `restart`, `pause` and `resume`, of one or several.

use api::client::{Client, segment};
use api::{Instance as Machine, UpdateInstance};
use clap::Args;
use model::Refusal;

use super::show;
use super::stop::stop;
use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::output;
use crate::progress::waiting;

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
    Start,
    StartWithDisplay,
    Restart,
    Pause,
    Resume,
}

impl Verb {
    /// The word of the command, and that of its success.
    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Start | Self::StartWithDisplay => ("start", "Started"),
            Self::Restart => ("restart", "Restarted"),
            Self::Pause => ("pause", "Paused"),
            Self::Resume => ("resume", "Resumed"),
        }
    }

    async fn send(self, client: &Client, instance: &str) -> Result<Machine, Refusal> {
        let path = format!("/instances/{}", segment(instance));
        let word = match self {
            Self::Restart => {
                let machine: Machine = client.get(&path).await?;
                if matches!(machine.state.as_str(), "Running" | "Paused") {
                    stop(client, instance, None).await?;
                }
                "start"
            }
            Self::StartWithDisplay => {
                let change = UpdateInstance { take_display: Some(true), ..Default::default() };
                let _: Machine = client.patch(&path, &change).await?;
                "start"
            }
            _ => self.words().0,
        };
        client.post(&format!("{path}/{word}"), None::<&()>).await
    }
}

impl Several {
    /// One instance is shown as it is afterwards, of several each is a line.
    pub fn run(self, connection: &Connection, verb: Verb) -> Done {
        let (word, done) = verb.words();
        if let (Verb::Start | Verb::StartWithDisplay | Verb::Restart, [instance]) =
            (verb, self.instances.as_slice())
        {
            let what = format!("{word} the instance {instance}");
            let sent = async |client: Client| waiting(&what, verb.send(&client, instance)).await;
            return show(connection, &connection.talk(sent).map_err(Failure::to(&*what))?);
        }
        let mut machines = Vec::new();
        let mut failed: Option<(String, Refusal)> = None;
        for instance in self.instances {
            let what = format!("{word} the instance {instance}");
            let sent = async |client: Client| waiting(&what, verb.send(&client, &instance)).await;
            let answer: Result<Machine, Refusal> = connection.talk(sent);
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
