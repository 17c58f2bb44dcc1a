//! `conninfo`: connection strings for clients, offline.

use clap::Args;

use super::exit;
use super::exit::Exit;
use super::globals::Globals;
use super::inventory;
use crate::diagnostic::Failure;
use crate::plan::links::clients;
use crate::plan::links::clients::Client;
use crate::state::StateDir;
use crate::ui::Ui;
use crate::ui::conninfo;
use crate::ui::json::ConninfoDocument;

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
  psql \"$(pgstead conninfo --user crawler --format json | jq -r .databases[0].uri)\"")]
pub(super) struct ConninfoArgs {
    /// The database; those of the inventory where none is named
    #[arg(long = "database", value_name = "NAME")]
    databases: Vec<String>,
    /// The role that the client logs in as
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
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
    let strings = clients::strings(topology, &databases, client);
    let authority = StateDir::at(&inventory.state_dir).authority();
    let has_authority = authority.exists();
    ui.answer(
        |look| conninfo::render(&strings, args.sslrootcert.is_none().then_some((&authority, has_authority)), look),
        || ConninfoDocument::new(topology.name(), &strings),
    )?;
    Ok(exit::DONE)
}
