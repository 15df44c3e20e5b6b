//! `makima completions` and `makima man`: what shells and `man` are told of the command line.

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::args::{Cli, CompletionsArgs, ManArgs};
use super::print;
use crate::report::Failure;

/// The program's name, for shells and `man`.
const NAME: &str = "makima";

pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    print::out(&String::from_utf8_lossy(&script));
    Ok(())
}

pub(super) fn man(args: &ManArgs) -> Result<(), Failure> {
    let command = Cli::command();
    let Some(folder) = &args.dir else {
        let mut page = Vec::new();
        let failed = |error: std::io::Error| Failure::failed(format!("the page cannot be made: {error}"));
        Man::new(built(command)).render(&mut page).map_err(failed)?;
        print::out(&String::from_utf8_lossy(&page));
        return Ok(());
    };
    let failed = |error: std::io::Error| {
        Failure::unusable(format!("{}: {error}", folder.display())).hint("name a folder that you can write to")
    };
    fs_err::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(command, folder).map_err(failed)?;
    print::note(&format!("written to {}", folder.display()));
    Ok(())
}

/// With what clap adds, so that a page names it.
fn built(mut command: Command) -> Command {
    command.build();
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(command: &Command, path: &str, look: &mut impl FnMut(&Command, &str)) {
        look(command, path);
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            each(inner, &format!("{path} {}", inner.get_name()), look);
        }
    }

    /// Protects people from a command that says nothing of itself.
    #[test]
    fn every_command_says_what_it_does_and_shows_how() {
        let mut commands = 0;
        each(&built(Cli::command()), NAME, &mut |command, path| {
            commands += 1;
            assert!(command.get_about().is_some(), "{path} does not say what it does");
            // What only holds others shows them.
            if command.get_subcommands().all(|inner| inner.get_name() == "help") {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Examples:\n"), "{path} shows no example");
                let name = path.split(' ').take(2).collect::<Vec<_>>().join(" ");
                assert!(help.contains(&name), "{path}: its examples are none of it");
            }
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(argument.get_help().is_some(), "{path}: nothing is said of {}", argument.get_id());
            }
        });
        assert!(commands > 25, "only {commands} commands were found");
    }

    #[test]
    fn clap_finds_no_contradiction() {
        Cli::command().debug_assert();
    }
}
