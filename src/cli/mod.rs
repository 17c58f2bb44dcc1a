//! The command line: what can be asked, and who answers.
//!
//! One file per command. A command reads its options, calls the modules that know, and hands the result to `ui/`; it
//! has no logic about servers of its own. `clap` is used nowhere else.

mod bootstrap;
mod check;
mod completions;
mod conninfo;
mod drill;
pub mod exit;
mod failover;
mod forget_aside;
pub mod globals;
mod history;
mod host_key;
mod init;
mod interrupts;
mod inventory;
mod lab;
mod man;
mod plan;
mod preflight;
mod release;
mod remove;
mod render;
mod replace;
mod reseed;
mod role_change;
mod rotate;
mod runner;
mod session;
mod status;
mod switchover;
mod trust;
mod unlock;
mod validate;
mod ways;

use std::ffi::OsString;
use std::panic;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::ui::nagios::State;
use crate::ui::{Format, Options, Ui};
use exit::Exit;
use globals::Globals;

/// Bootstrap PostgreSQL replication over SSH, and prove that it works
///
/// From an inventory of servers on several sites pgstead renders configuration, makes certificates and roles, takes base
/// backups, and leaves a primary with streaming standbys whose links are proven to move data. It needs nothing on the
/// servers but PostgreSQL and OpenSSH.
#[derive(Debug, Parser)]
#[command(name = "pgstead", version, propagate_version = false, max_term_width = 100)]
#[command(after_help = exit_table(), after_long_help = main_long_help())]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Validate(validate::ValidateArgs),
    Trust(trust::TrustArgs),
    Preflight(preflight::PreflightArgs),
    Render(render::RenderArgs),
    Plan(plan::PlanArgs),
    Bootstrap(bootstrap::BootstrapArgs),
    Reseed(reseed::ReseedArgs),
    Switchover(switchover::SwitchoverArgs),
    Failover(failover::FailoverArgs),
    Remove(remove::RemoveArgs),
    Replace(replace::ReplaceArgs),
    Release(release::ReleaseArgs),
    Rotate(rotate::RotateArgs),
    Drill(drill::DrillArgs),
    Conninfo(conninfo::ConninfoArgs),
    Check(check::CheckArgs),
    Status(status::StatusArgs),
    ForgetAside(forget_aside::ForgetAsideArgs),
    Unlock(unlock::UnlockArgs),
    History(history::HistoryArgs),
    Lab(lab::LabArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

fn exit_table() -> String {
    let rows: Vec<String> = exit::TABLE.iter().map(|(exit, meaning)| format!("  {:>2}  {meaning}", exit.0)).collect();
    format!("Exit codes:\n{}", rows.join("\n"))
}

fn main_long_help() -> String {
    format!("{}\n\n{}", man::examples_of_main(), exit_table())
}

/// Returns the command line as a value, for completions, the man page and tests.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the arguments, runs the command and says how the process should end. Nothing escapes it, not even a panic.
pub fn main(args: impl Iterator<Item = OsString>) -> Exit {
    let args: Vec<OsString> = args.collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &args),
    };
    let ui = Ui::new(cli.globals.options());
    panic::set_hook(Box::new(move |info| ui.diagnostics(&[defect(info)])));
    if cli.globals.format == Format::Nagios && !matches!(cli.command, Command::Check(_)) {
        ui.diagnostics(&[
            Diagnostic::error(Code::Usage, "--format nagios is for check alone").hint("Try --format json.")
        ]);
        return exit::USAGE;
    }
    guard(&ui, || run(&cli, &ui))
}

/// Runs a command and maps its end, whichever it is, to an exit code.
fn guard(ui: &Ui, work: impl FnOnce() -> Result<Exit, Failure>) -> Exit {
    // A command owns everything it touches; nothing half-changed is looked at after a panic.
    match panic::catch_unwind(panic::AssertUnwindSafe(work)) {
        Ok(Ok(exit)) => exit,
        Ok(Err(failure)) => {
            ui.failure(&failure);
            early_end(ui, failure.kind.into())
        }
        Err(_) => {
            // The hook has written the diagnostic; only who reads a document or a line still waits for one.
            ui.error_document(&[Diagnostic::error(Code::Bug, DEFECT).hint(REPORT_HINT)]);
            early_end(ui, exit::BUG)
        }
    }
}

/// Returns how a run that has no result ends: a monitoring system knows no other word for it than unknown.
fn early_end(ui: &Ui, exit: Exit) -> Exit {
    match ui.options.format {
        Format::Nagios => exit::of_nagios(State::Unknown),
        Format::Human | Format::Json => exit,
    }
}

fn run(cli: &Cli, ui: &Ui) -> Result<Exit, Failure> {
    let globals = &cli.globals;
    match &cli.command {
        Command::Init(args) => init::run(globals, args, ui),
        Command::Validate(args) => validate::run(globals, args, ui),
        Command::Trust(args) => trust::run(globals, args, ui),
        Command::Preflight(args) => preflight::run(globals, args, ui),
        Command::Render(args) => render::run(globals, args, ui),
        Command::Plan(args) => plan::run(globals, args, ui),
        Command::Bootstrap(args) => bootstrap::run(globals, args, ui),
        Command::Reseed(args) => reseed::run(globals, args, ui),
        Command::Switchover(args) => switchover::run(globals, args, ui),
        Command::Failover(args) => failover::run(globals, args, ui),
        Command::Remove(args) => remove::run(globals, args, ui),
        Command::Replace(args) => replace::run(globals, args, ui),
        Command::Release(args) => release::run(globals, args, ui),
        Command::Rotate(args) => rotate::run(globals, args, ui),
        Command::Drill(args) => drill::run(globals, args, ui),
        Command::Conninfo(args) => conninfo::run(globals, args, ui),
        Command::Check(args) => check::run(globals, args, ui),
        Command::Status(args) => status::run(globals, args, ui),
        Command::ForgetAside(args) => forget_aside::run(globals, args, ui),
        Command::Unlock(args) => unlock::run(globals, args, ui),
        Command::History(args) => history::run(globals, args, ui),
        Command::Lab(args) => lab::run(globals, args, ui),
        Command::Completions(args) => completions::run(args, ui),
        Command::Man(args) => man::run(args, ui),
    }
}

/// Answers what is not a command: help and version on stdout, usage errors on stderr or as a document.
fn usage(error: &clap::Error, args: &[OsString]) -> Exit {
    let format = match () {
        () if asks_for(args, "json") => Format::Json,
        () if asks_for(args, "nagios") && args.iter().any(|arg| arg == "check") => Format::Nagios,
        () => Format::Human,
    };
    let ui = Ui::new(Options { format, ..Options::default() });
    let text = |colour: bool| {
        let rendered = error.render();
        if colour { rendered.ansi().to_string() } else { rendered.to_string() }
    };
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match ui.result(&text(ui.out.colour)) {
            Ok(_) => exit::DONE,
            Err(failure) => {
                ui.failure(&failure);
                failure.kind.into()
            }
        };
    }
    let diagnostic = match error.kind() {
        // clap answers with the help, which is no message.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Diagnostic::error(Code::Usage, "no command was given"),
        _ => usage_diagnostic(&text(false)),
    };
    ui.error_document(&[diagnostic.hint("Try --help.")]);
    ui.say(&text(ui.err.colour));
    early_end(&ui, exit::USAGE)
}

/// Says whether a format was asked for, in arguments that could not be parsed.
fn asks_for(args: &[OsString], format: &str) -> bool {
    let follows = |pair: &[OsString]| pair[0] == "--format" && pair[1] == format;
    let is_it = |arg: &OsString| arg.to_str().and_then(|arg| arg.strip_prefix("--format=")) == Some(format);
    args.iter().any(is_it) || args.windows(2).any(follows)
}

fn usage_diagnostic(text: &str) -> Diagnostic {
    let text = text.trim_end().trim_end_matches("For more information, try '--help'.");
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let diagnostic = Diagnostic::error(Code::Usage, message.trim_end_matches('.'));
    if rest.trim().is_empty() { diagnostic } else { diagnostic.detail(rest.trim()) }
}

const DEFECT: &str = "pgstead ran into a defect of its own";
const REPORT_HINT: &str = "Please report it with this message and the output of \"pgstead --version\". It is safe to run \
                           the same command again: what is there is observed first.";

fn defect(info: &panic::PanicHookInfo<'_>) -> Diagnostic {
    let message = info.payload_as_str().unwrap_or("no message");
    let place = info.location().map(|at| format!(" at {at}")).unwrap_or_default();
    Diagnostic::error(Code::Bug, DEFECT)
        .detail(format!("{message}{place}, version {}.", env!("CARGO_PKG_VERSION")))
        .hint(REPORT_HINT)
}

/// Runs asynchronous work to its end.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => Err(Failure::one(
            FailureKind::Bug,
            Diagnostic::error(Code::Runtime, "could not start the asynchronous runtime").detail(format!("{error}.")),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in ["pgstead -i x.yaml --format json plan", "pgstead plan -i x.yaml --format=json"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.globals.options().format, Format::Json);
            assert_eq!(cli.globals.inventory_path(), std::path::Path::new("x.yaml"));
        }
    }

    #[test]
    fn every_command_has_help_in_the_imperative_and_an_example() {
        for sub in command().get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty() && !about.ends_with('.'), "{}: {about:?}", sub.get_name());
            assert!(sub.get_after_long_help().is_some(), "{} has no example", sub.get_name());
        }
    }

    #[test]
    fn every_end_has_its_code() {
        let ui = Ui::new(Options::default());
        assert_eq!(guard(&ui, || Ok(exit::CHANGES_PENDING)), exit::CHANGES_PENDING);
        assert_eq!(
            guard(&ui, || Err(Failure::one(FailureKind::Bug, Diagnostic::error(Code::Bug, "this test")))),
            exit::BUG
        );
        assert_eq!(guard(&ui, || panic!("this panic is part of a test")), exit::BUG);
    }

    #[test]
    fn usage_errors_become_diagnostics() {
        let error = Cli::try_parse_from(["pgstead", "plam"]).unwrap_err();
        let diagnostic = usage_diagnostic(&error.render().to_string());
        assert_eq!(diagnostic.message, "unrecognized subcommand 'plam'");
        assert!(!diagnostic.detail.unwrap_or_default().contains("--help"));
    }
}
