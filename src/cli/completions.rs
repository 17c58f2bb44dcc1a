//! `completions`: the completion script of a shell.

use clap::Args;
use clap_complete::Shell;
use serde::Serialize;

use super::exit;
use super::exit::Exit;
use crate::diagnostic::Failure;
use crate::ui::Ui;
use crate::ui::json::Versioned;

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead completions bash > ~/.local/share/bash-completion/completions/pgstead
  pgstead completions zsh > ~/.zfunc/_pgstead
  pgstead completions fish > ~/.config/fish/completions/pgstead.fish")]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Serialize)]
struct Script<'a> {
    script: &'a str,
}

pub(super) fn run(args: &CompletionsArgs, ui: &Ui) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "pgstead", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    ui.answer(|_| script.clone(), || Versioned::new(Script { script: &script }))?;
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_knows_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut super::super::command(), "pgstead", &mut script);
            let script = String::from_utf8(script).unwrap();
            for name in ["bootstrap", "allow-restart", "history"] {
                assert!(script.contains(name), "{shell}: {name}");
            }
        }
    }
}
