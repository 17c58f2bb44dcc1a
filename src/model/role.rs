//! Roles of applications, as an inventory wishes them.

use std::path::PathBuf;

/// A role that applications log in as, or share rights through. It is created and altered, never dropped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApplicationRole {
    /// Whether somebody may log in as it.
    pub login: bool,
    /// The databases that belong to it.
    pub owns: Vec<String>,
    /// The databases of others that it reads and writes.
    pub uses: Vec<String>,
    /// The databases of others that it reads.
    pub reads: Vec<String>,
    /// The roles whose rights it has.
    pub member_of: Vec<String>,
    /// How many connections it may have at a time, -1 for any number; none leaves it as it is.
    pub connection_limit: Option<i32>,
    /// Where its password comes from; none leaves it as it is.
    pub password: Option<PasswordSource>,
}

impl ApplicationRole {
    /// Returns the databases of others that it works in, and whether it writes there.
    pub fn visits(&self) -> impl Iterator<Item = (&str, bool)> {
        let uses = self.uses.iter().map(|database| (database.as_str(), true));
        uses.chain(self.reads.iter().map(|database| (database.as_str(), false)))
    }

    /// Says whether it has anything to do in a database.
    pub fn works_in(&self, database: &str) -> bool {
        self.owns.iter().map(String::as_str).chain(self.visits().map(|(name, _)| name)).any(|name| name == database)
    }
}

/// Where a password comes from, on the operator's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// pgstead makes it, and keeps it in the state directory.
    Generated,
    /// The operator keeps it in a file.
    File(PathBuf),
    /// A program prints it.
    Command(Vec<String>),
}

/// The roles of PostgreSQL itself that an application may be a member of: each only reads or writes rows, or looks at what the
/// server does. The others act as the server's OS user, or as others.
pub const PREDEFINED: [&str; 5] =
    ["pg_monitor", "pg_read_all_data", "pg_read_all_settings", "pg_read_all_stats", "pg_write_all_data"];

/// Returns names so that each stands behind those it is a member of; none where they are members of each other in a circle.
pub fn in_order<'a>(roles: &'a std::collections::BTreeMap<String, ApplicationRole>) -> Option<Vec<&'a str>> {
    let mut ordered: Vec<&'a str> = Vec::new();
    while ordered.len() < roles.len() {
        let is_next = |(name, role): &(&'a String, &ApplicationRole)| {
            let is_there = |group: &String| !roles.contains_key(group) || ordered.contains(&group.as_str());
            !ordered.contains(&name.as_str()) && role.member_of.iter().all(is_there)
        };
        let (next, _) = roles.iter().find(is_next)?;
        ordered.push(next);
    }
    Some(ordered)
}
