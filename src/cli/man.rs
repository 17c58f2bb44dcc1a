//! `man`: manual pages made from the command line itself, so that they cannot disagree with it.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use serde::Serialize;

use super::exit;
use super::exit::Exit;
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::ui::Ui;
use crate::ui::json::Versioned;

/// Print the manual page, or write one page per command
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead man | man -l -
  pgstead man -o ~/.local/share/man/man1")]
pub(super) struct ManArgs {
    /// Write pgstead.1 and one page per command into DIR
    #[arg(short = 'o', long, value_name = "DIR")]
    output: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Page<'a> {
    page: &'a str,
}

#[derive(Debug, Serialize)]
struct Pages {
    files: Vec<PathBuf>,
}

const EXAMPLES: &[(&str, &str)] = &[
    ("pgstead init", "write an annotated inventory"),
    ("pgstead validate", "check it, offline"),
    ("pgstead trust", "record the SSH host keys"),
    ("pgstead preflight", "check the servers and the lines between them; changes nothing"),
    ("pgstead plan", "see every step, diff and command; changes nothing"),
    ("pgstead bootstrap", "carry the plan out"),
    ("pgstead check", "prove every link"),
    ("pgstead reseed b", "bring a failed server back"),
    ("pgstead switchover --to b", "make b the primary, with nothing lost"),
    ("pgstead failover --to b", "make b the primary: the other one is dead"),
    ("pgstead remove c", "take a standby out"),
    ("pgstead replace c", "put new hardware in its place, under its name"),
    ("pgstead release", "stop using pgstead"),
    ("pgstead status --watch", "watch the topology"),
];

const FILES: &[(&str, &str)] = &[
    ("pgstead.yaml", "The inventory that is read when none is named."),
    (
        ".pgstead/TOPOLOGY/",
        "State beside the inventory: certificate authority, certificates, role passwords, known_hosts, journal.jsonl. \
         Only its owner can read it. Losing it is survivable: the servers are the truth.",
    ),
    (
        "/var/lib/pgstead/TOPOLOGY/SERVER/",
        "On each server: CA, certificates and keys, role file, manifest of owned files, audit log, lock. DATA.pgstead/ \
         beside the data directory where pg_ctl runs the instance.",
    ),
    (
        "DATA.seed.RUN",
        "On a server: a new data directory before it is complete. Nothing starts it; nothing removes it.",
    ),
    (
        "DATA.aside.TIME.RUN.REASON",
        "On a server: a data directory that another one replaced. Nothing starts it; \"pgstead forget-aside\" removes it.",
    ),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    ("PGSTEAD_INVENTORY", "The inventory, when -i is not given and pgstead.yaml is not there."),
    ("PGSTEAD_CACHE", "Where labs keep the Debian systems that they are made of, instead of /var/cache/pgstead."),
    ("NO_COLOR", "When set, no colour is used."),
    ("CLICOLOR_FORCE", "When set and not 0, colour is used even without a terminal."),
    ("TERM", "When \"dumb\", neither colour nor redrawing is used."),
    ("LC_ALL, LC_CTYPE, LANG", "Where they name no UTF-8 locale, pictures are drawn in ASCII."),
];

/// Returns the examples of the whole program, for its help.
pub(super) fn examples_of_main() -> String {
    let rows: Vec<String> = EXAMPLES.iter().map(|(line, meaning)| format!("  {line:<28}{meaning}")).collect();
    format!("Examples:\n{}", rows.join("\n"))
}

pub(super) fn run(args: &ManArgs, ui: &Ui) -> Result<Exit, Failure> {
    let mut main = super::command();
    main.build();
    let Some(dir) = &args.output else {
        let page = page(&main, true)?;
        ui.answer(|_| page.clone(), || Versioned::new(Page { page: &page }))?;
        return Ok(exit::DONE);
    };
    let mut files = Vec::new();
    write_all(dir, &main, &mut files)?;
    let count = files.len();
    ui.answer(
        |_| format!("{count} manual pages are written to {}.\n", dir.display()),
        || Versioned::new(Pages { files }),
    )?;
    Ok(exit::DONE)
}

/// Returns the name of a command's page: `pgstead`, `pgstead-plan`. Only a built command knows it.
fn page_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
}

fn write_all(dir: &Path, command: &Command, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    files.push(write(dir, page_name(command), &page(command, false)?)?);
    visible(command).try_for_each(|sub| write_all(dir, sub, files))
}

fn write(dir: &Path, name: &str, page: &str) -> Result<PathBuf, Failure> {
    let path = dir.join(format!("{name}.1"));
    std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, page)).map_err(|error| failed(&error))?;
    Ok(path)
}

fn failed(error: &io::Error) -> Failure {
    let diagnostic = Diagnostic::error(Code::WriteMan, "could not write a manual page").detail(format!("{error}."));
    Failure::one(FailureKind::StepFailed, diagnostic)
}

/// Makes a page; the page of the program can hold the help of every command.
fn page(command: &Command, with_commands: bool) -> Result<String, Failure> {
    let man = Man::new(command.clone()).title(page_name(command).to_uppercase()).manual("pgstead manual");
    let mut out = Vec::new();
    let sections = || -> io::Result<()> {
        man.render_title(&mut out)?;
        man.render_name_section(&mut out)?;
        man.render_synopsis_section(&mut out)?;
        man.render_description_section(&mut out)?;
        man.render_options_section(&mut out)?;
        if command.has_subcommands() {
            man.render_subcommands_section(&mut out)?;
        }
        if with_commands {
            for sub in visible(command) {
                help_section(sub).to_writer(&mut out)?;
            }
        }
        own_sections(command).to_writer(&mut out)
    };
    let mut sections = sections;
    sections().map_err(|error| failed(&error))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn help_section(command: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [format!("pgstead {}", command.get_name()).as_str()]);
    // The examples follow the options in the help text itself; the global options stand in their own section.
    verbatim(
        &mut roff,
        &command
            .clone()
            .mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg })
            .render_long_help()
            .to_string(),
    );
    roff
}

fn verbatim(roff: &mut Roff, text: &str) {
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

fn own_sections(command: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (exit, meaning) in exit::TABLE {
        roff.control("TP", []);
        roff.text([bold(exit.0.to_string())]);
        roff.text([roman(*meaning)]);
    }
    for (title, rows) in [("FILES", FILES), ("ENVIRONMENT", ENVIRONMENT)] {
        roff.control("SH", [title]);
        for (name, meaning) in rows {
            roff.control("TP", []);
            roff.text([bold(*name)]);
            roff.text([roman(*meaning)]);
        }
    }
    let examples = match command.get_name() {
        "pgstead" => examples_of_main(),
        _ => command.get_after_long_help().map(ToString::to_string).unwrap_or_default(),
    };
    if let Some(examples) = examples.strip_prefix("Examples:\n") {
        roff.control("SH", ["EXAMPLES"]);
        verbatim(&mut roff, examples);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_the_sections_that_readers_look_for() {
        let mut main = super::super::command();
        main.build();
        let sub = main.get_subcommands().find(|sub| sub.get_name() == "plan").unwrap();
        for page in [page(&main, true).unwrap(), page(sub, false).unwrap()] {
            for title in ["NAME", "SYNOPSIS", "OPTIONS", "\"EXIT STATUS\"", "FILES", "ENVIRONMENT", "EXAMPLES"] {
                assert!(page.contains(&format!(".SH {title}\n")), "{title} in\n{page}");
            }
        }
        assert!(page(&main, true).unwrap().contains("pgstead bootstrap"));
    }
}
