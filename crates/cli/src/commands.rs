//! The commands: one line each.

use clap::{Args, Subcommand};

use crate::failure::Failure;
use crate::{
    backup, boot_list, catalog, cdi, claim, device, doctor, generate, image, instance, ls, pod,
    record, resources, return_devices, serve, show, sriov, topo, volume, watch,
};

/// Declares the commands: a variant, its arguments, and its name on the command line.
macro_rules! commands {
    ($($(#[$attribute:meta])* $variant:ident($arguments:ty) = $name:literal,)+) => {
        /// What to do, with its arguments.
        #[derive(Debug, Subcommand)]
        pub enum Command {
            $($(#[$attribute])* #[command(name = $name)] $variant($arguments),)+
        }

        impl Command {
            /// Runs it.
            pub fn run(self) -> Result<(), Failure> {
                match self {
                    $(Self::$variant(command) => command.run(),)+
                }
            }
        }

        /// The grammar of one command alone.
        pub fn grammar_of(name: &str) -> Option<clap::Command> {
            match name {
                $($name => Some(<$arguments as Args>::augment_args(clap::Command::new($name))),)+
                _ => None,
            }
        }
    };
}

commands! {
    Serve(serve::Serve) = "serve",
    Ls(ls::Ls) = "ls",
    Catalog(catalog::CatalogCommand) = "catalog",
    Doctor(doctor::Doctor) = "doctor",
    Record(record::Record) = "record",
    Show(show::Show) = "show",
    Topo(topo::Topo) = "topo",
    Watch(watch::Watch) = "watch",
    Claim(claim::Claim) = "claim",
    Claims(claim::Claims) = "claims",
    Prepare(claim::Prepare) = "prepare",
    Unprepare(claim::Unprepare) = "unprepare",
    Release(claim::Release) = "release",
    Renew(claim::Renew) = "renew",
    Cdi(Box<cdi::Cdi>) = "cdi",
    Sriov(sriov::Sriov) = "sriov",
    #[command(alias = "reserve")]
    BootList(boot_list::BootList) = "boot-list",
    #[command(alias = "recover")]
    Return(return_devices::Return) = "return",
    Reconcile(return_devices::Reconcile) = "reconcile",
    Backup(backup::Backup) = "backup",
    Restore(backup::Restore) = "restore",
    Device(device::Device) = "device",
    Instance(instance::Instance) = "instance",
    Image(image::Image) = "image",
    Volume(volume::Volume) = "volume",
    Pod(Box<pod::Pod>) = "pod",
    Resources(resources::Resources) = "resources",
    Completions(generate::Completions) = "completions",
    Man(generate::Man) = "man",
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is parsed by one command's grammar must mean the same by the whole grammar.
    #[test]
    fn the_grammar_of_one_command_is_that_of_the_whole() {
        let whole = crate::command();
        for of_whole in whole.get_subcommands() {
            let alone = grammar_of(of_whole.get_name()).unwrap();
            let long = |command: &clap::Command| command.clone().render_long_help().to_string();
            assert_eq!(long(&alone), long(of_whole));
            let arguments = |command: &clap::Command| {
                command.get_arguments().map(|of| format!("{of:?}")).collect::<Vec<_>>()
            };
            assert_eq!(arguments(&alone), arguments(of_whole));
        }
    }
}
