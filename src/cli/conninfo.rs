//! `conninfo`: connection strings for clients, offline.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use strum::VariantNames;

use super::exit::Exit;
use super::globals::Globals;
use super::{exit, inventory};
use crate::diagnostic::Failure;
use crate::model::role::PasswordSource;
use crate::plan::links::clients;
use crate::plan::links::clients::{Client, Driver};
use crate::state::StateDir;
use crate::ui::conninfo::Shown;
use crate::ui::json::ConninfoDocument;
use crate::ui::{Ui, conninfo};

/// The database that every instance has.
const ANY: &str = "postgres";

/// Print the connection strings that clients should use
///
/// They name every server, and the client finds the one that accepts writes by itself, before and after a change of the
/// primary. For each database of the inventory: a URI and keywords for libpq and what is built on it, and a URL for the JDBC
/// driver. No password is in them. No server is contacted.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead conninfo                            for every database of the inventory
  pgstead conninfo --user crawler --database image_crawler
  pgstead conninfo --for jdbc                 what Java's driver takes, for the owner of each database
  psql \"$(pgstead conninfo --user crawler --format json | jq -r .databases[0].uri)\"")]
pub(super) struct ConninfoArgs {
    /// The database; those of the inventory where none is named
    #[arg(long = "database", value_name = "NAME")]
    databases: Vec<String>,
    /// The role that the client logs in as; with --for, the owner of the database where none is named
    #[arg(long, visible_alias = "role", value_name = "NAME")]
    user: Option<String>,
    /// The strings for one driver: one that leads to the primary, and one that leads to standbys
    #[arg(long = "for", value_name = "DRIVER", value_parser = PossibleValuesParser::new(Driver::VARIANTS).try_map(|word| word.parse::<Driver>()))]
    driver: Option<Driver>,
    /// Where the client has the certificate of the CA, instead of ~/.postgresql/root.crt
    #[arg(long, value_name = "FILE")]
    sslrootcert: Option<String>,
}

pub(super) fn run(globals: &Globals, args: &ConninfoArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let topology = &inventory.topology;
    let databases = match (args.databases.as_slice(), topology.common().databases.as_slice()) {
        ([], []) => vec![ANY.to_owned()],
        ([], wished) => wished.to_vec(),
        (named, _) => named.to_vec(),
    };
    let client = Client { user: args.user.as_deref(), sslrootcert: args.sslrootcert.as_deref() };
    let strings = clients::strings(topology, &databases, client, args.driver);
    let state = StateDir::at(&inventory.state_dir);
    let authority = state.authority();
    let has_authority = authority.exists();
    let notes = args.driver.map(|driver| clients::notes(topology, driver)).unwrap_or_default();
    let passwords: BTreeSet<PathBuf> = match args.driver {
        Some(_) => databases
            .iter()
            .filter_map(|database| args.user.as_deref().or_else(|| clients::owner(topology, database)))
            .filter(|role| {
                // What is left of an earlier choice is not the password any more.
                let role = topology.common().roles.get(*role);
                role.is_some_and(|role| role.password == Some(PasswordSource::Generated))
            })
            .map(|role| state.role_password_file(role))
            .filter(|file| file.exists())
            .collect(),
        None => BTreeSet::new(),
    };
    let passwords: Vec<&Path> = passwords.iter().map(PathBuf::as_path).collect();
    let shown = Shown {
        strings: &strings,
        authority: args.sslrootcert.is_none().then_some((authority.as_path(), has_authority)),
        notes: &notes,
        passwords: &passwords,
    };
    ui.answer(|look| conninfo::render(&shown, look), || ConninfoDocument::new(topology.name(), &strings, &notes))?;
    Ok(exit::DONE)
}
