//! Judges the roles of applications.

use std::collections::BTreeMap;

use crate::diagnostic::{Code, Diagnostic};
use crate::inventory::problems::{Path, list, shown};
use crate::inventory::raw::PasswordChoice;
use crate::inventory::validate::Judge;
use crate::inventory::validate::access::OWN_ROLES;
use crate::inventory::{raw, words};
use crate::model::role;
use crate::model::role::{ApplicationRole, PasswordSource};

impl Judge<'_, '_> {
    /// Returns the roles; what is wrong with one is added to the problems.
    pub(super) fn roles(&mut self, databases: &[String]) -> BTreeMap<String, ApplicationRole> {
        let path = Path::of(&["postgres", "roles"]);
        let raw = self.postgres(|postgres| &postgres.roles).cloned().unwrap_or_default();
        let mut roles = BTreeMap::new();
        let mut owners: BTreeMap<String, String> = BTreeMap::new();
        for (name, given) in &raw {
            let own = path.key(name);
            if OWN_ROLES.iter().any(|role| role.eq_ignore_ascii_case(name)) {
                let problem = Diagnostic::error(Code::InvalidRole, format!("role {name:?} is pgstead's own"))
                    .hint("Give the application a role of another name.");
                self.problems.add(&own, problem);
            } else {
                self.word(&own, Code::InvalidRole, "role", name, words::role);
            }
            let given = given.clone().unwrap_or_default();
            let login = given.login.unwrap_or(true);
            for (index, database) in given.owns.iter().flatten().enumerate() {
                let at = own.key("owns").index(index);
                self.owned(database, databases, &at);
                if let Some(other) = owners.insert(database.clone(), name.clone()) {
                    let problem = Diagnostic::error(
                        Code::DatabaseOwnedTwice,
                        format!("database {} belongs to role {} already", shown(database), shown(&other)),
                    )
                    .hint("Make both roles members of a third that owns it.");
                    self.problems.add(&at, problem);
                }
            }
            for (index, group) in given.member_of.iter().flatten().enumerate() {
                self.group(group, &raw, &own.key("member_of").index(index));
            }
            if !login && given.password.is_some() {
                let problem =
                    Diagnostic::error(Code::PasswordSource, "a role that nobody logs in as needs no password")
                        .hint("Leave \"password\" out, or \"login: false\".");
                self.problems.add(&own.key("password"), problem);
            }
            let role = ApplicationRole {
                login,
                owns: given.owns.unwrap_or_default(),
                uses: given.uses.unwrap_or_default(),
                reads: given.reads.unwrap_or_default(),
                member_of: given.member_of.unwrap_or_default(),
                connection_limit: given.connection_limit,
                password: given.password.and_then(|choice| self.password(choice, &own.key("password"))),
            };
            roles.insert(name.clone(), role);
        }
        for (name, role) in &roles {
            self.visits(role, &owners, databases, &path.key(name));
        }
        if role::in_order(&roles).is_none() {
            let problem = Diagnostic::error(Code::RoleCycle, "roles are members of each other in a circle")
                .hint("Take one \"member_of\" out.");
            self.problems.add(&path, problem);
        }
        roles
    }

    fn owned(&mut self, database: &str, databases: &[String], path: &Path) {
        if database == "postgres" {
            let problem = Diagnostic::error(Code::InvalidDatabase, "database \"postgres\" stays the superuser's")
                .detail("pgstead and other tools work in it.")
                .hint("Give the application a database of its own.");
            self.problems.add(path, problem);
        } else if !databases.iter().any(|known| known == database) {
            let message = format!("database {} is not among postgres.databases", shown(database));
            let known = databases.iter().map(String::as_str);
            self.problems.add(path, Self::unknown_name(Code::UnknownDatabase, message, "databases", database, known));
        }
    }

    /// What a role gets in a database of another is what that one makes there.
    fn visits(&mut self, role: &ApplicationRole, owners: &BTreeMap<String, String>, databases: &[String], path: &Path) {
        let mut seen: Vec<&str> = role.owns.iter().map(String::as_str).collect();
        for (key, all) in [("uses", &role.uses), ("reads", &role.reads)] {
            for (index, database) in all.iter().enumerate() {
                let at = path.key(key).index(index);
                if seen.contains(&database.as_str()) {
                    let message = format!("database {} is named twice for this role", shown(database));
                    let problem = Diagnostic::error(Code::DuplicateDatabase, message)
                        .detail("Whoever owns a database may do everything in it, and whoever uses it may read it.");
                    self.problems.add(&at, problem);
                } else if databases.contains(database) && !owners.contains_key(database) {
                    let message = format!("database {} belongs to none of postgres.roles", shown(database));
                    let problem = Diagnostic::error(Code::DatabaseWithoutOwner, message)
                        .detail("Rights are given on what its owner makes there.")
                        .hint("Give it an owner: \"owns\" of the role that makes its tables.");
                    self.problems.add(&at, problem);
                } else {
                    self.owned(database, databases, &at);
                }
                seen.push(database);
            }
        }
    }

    fn group(&mut self, group: &str, roles: &BTreeMap<String, Option<raw::Role>>, path: &Path) {
        if roles.contains_key(group) || role::PREDEFINED.contains(&group) {
            return;
        }
        let problem = if group.starts_with("pg_") || group == "postgres" {
            Diagnostic::error(Code::InvalidRole, format!("pgstead gives no application the rights of {}", shown(group)))
                .detail(format!("Of PostgreSQL's own roles it gives those of {}.", list(role::PREDEFINED)))
        } else {
            let message = format!("role {} is not among postgres.roles", shown(group));
            Self::unknown_name(Code::UnknownRole, message, "roles", group, roles.keys().map(String::as_str))
        };
        self.problems.add(path, problem);
    }

    fn password(&mut self, choice: PasswordChoice, path: &Path) -> Option<PasswordSource> {
        let given = match choice {
            PasswordChoice::Generated => return Some(PasswordSource::Generated),
            PasswordChoice::Kept(given) => given,
        };
        match (given.file, given.command) {
            (Some(file), None) => self
                .word(&path.key("file"), Code::InvalidPath, "file", &file, words::local_file)
                .then(|| PasswordSource::File(self.local(&file))),
            (None, Some(command)) => self.command(command, &path.key("command")),
            (Some(_), Some(_)) | (None, None) => {
                let problem = Diagnostic::error(Code::PasswordSource, "a password comes from one place")
                    .hint("Write \"password: generated\", or one of \"file\" and \"command\".");
                self.problems.add(path, problem);
                None
            }
        }
    }

    fn command(&mut self, mut command: Vec<String>, path: &Path) -> Option<PasswordSource> {
        let is_unfit = |word: &String| word.contains('\0');
        if command.first().is_none_or(String::is_empty) || command.iter().any(is_unfit) {
            let problem = Diagnostic::error(Code::PasswordSource, "a command is a program and its arguments")
                .hint("Write a list, such as [pass, show, crawler].");
            self.problems.add(path, problem);
            return None;
        }
        // As a shell has it: a word without a slash is looked for in PATH.
        if let Some(program) = command.first_mut().filter(|program| program.contains('/')) {
            *program = self.local(program).to_string_lossy().into_owned();
        }
        Some(PasswordSource::Command(command))
    }

    fn local(&self, text: &str) -> std::path::PathBuf {
        self.places.map_or_else(|| text.into(), |places| places.resolve(text))
    }
}
