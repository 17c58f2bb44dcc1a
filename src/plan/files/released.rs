//! What becomes of configuration files when a topology is released: plain files of the operator's, that say what they said.
//!
//! Texts only. What pgstead's file sets is put where the operator's file included it, so that each file stands alone. Of the records
//! that let somebody in only those of pgstead's own roles go; every other line, and every edit by hand, stays as it is.

use crate::diagnostic::{Code, Diagnostic};
use crate::model::identity::Configuration;
use crate::model::observed::Observed;
use crate::plan::files::marked;
use crate::plan::files::marked::MarkError;
use crate::plan::seen::Seen;
use crate::render::hba::{OPERATOR_MAP, roles};

/// The line that tells whoever opens such a file whose it is.
pub const RELEASED: &str = "# Written by pgstead until it was released (pgstead release). It is yours now.\n";

/// The roles that nobody but pgstead logs in as.
pub const ROLES: [&str; 2] = [roles::OPERATOR, roles::REWIND];

/// Says whether a file was released.
pub fn is_released(text: &str) -> bool {
    text.lines().any(|line| line == RELEASED.trim_end())
}

/// Returns a file of settings that pgstead wrote whole.
pub fn settings(text: &str) -> String {
    if is_released(text) {
        return text.to_owned();
    }
    let mut released = String::from(RELEASED);
    // What says who wrote it, and that it must not be edited, is not true any more.
    let is_title = |line: &str| {
        line.starts_with("# ") && line.trim_end().ends_with(", written by pgstead.")
            || line.starts_with("# Make changes in the inventory. ")
    };
    released.extend(text.split_inclusive('\n').filter(|line| !is_title(line)));
    released
}

/// Returns the operator's `postgresql.conf`, in which what our file sets stands where that was included.
///
/// # Errors
/// A mark has no end.
pub fn folded(text: &str, ours: &str) -> Result<String, MarkError> {
    marked::unmarked(text, |_| settings(ours))
}

/// Says whether a file of settings names our file: somebody includes it by a line of his own.
pub fn names(text: &str, file: &str) -> bool {
    text.lines().any(|line| !line.trim_start().starts_with('#') && line.contains(file))
}

/// Returns an HBA file without the records of pgstead's own roles.
///
/// # Errors
/// A mark has no end.
pub fn hba(text: &str, configuration: Configuration) -> Result<String, MarkError> {
    whole_or_parts(text, configuration, hba_line)
}

/// Returns an ident file without the maps of pgstead's own roles.
///
/// # Errors
/// A mark has no end.
pub fn ident(text: &str, configuration: Configuration) -> Result<String, MarkError> {
    whole_or_parts(text, configuration, ident_line)
}

fn whole_or_parts(
    text: &str,
    configuration: Configuration,
    line: fn(&str) -> Option<String>,
) -> Result<String, MarkError> {
    let lines = |text: &str| text.split_inclusive('\n').filter_map(line).collect::<String>();
    match configuration {
        Configuration::Written => Ok(settings(&lines(text))),
        Configuration::Kept => marked::unmarked(text, |part| [RELEASED, &lines(part)].concat()),
    }
}

/// Returns what stays of a line of an HBA file. Several roles may stand in one record.
fn hba_line(line: &str) -> Option<String> {
    if line.starts_with("# --- pgstead itself") {
        return None;
    }
    let mut fields = line.split_whitespace();
    let (Some(kind), Some(_), Some(users)) = (fields.next(), fields.next(), fields.next()) else {
        return Some(line.to_owned());
    };
    let is_own = |user: &str| ROLES.contains(&user.trim_matches('"'));
    if !kind.starts_with("host") || !users.split(',').any(is_own) {
        return Some(line.to_owned());
    }
    let others: Vec<&str> = users.split(',').filter(|user| !is_own(user)).collect();
    (!others.is_empty()).then(|| line.replacen(users, &others.join(","), 1))
}

/// Returns what stays of a line of an ident file.
fn ident_line(line: &str) -> Option<String> {
    let mut fields = line.split_whitespace();
    let is_own = match (fields.next(), fields.next(), fields.next()) {
        (Some(map), ..) if map.starts_with('#') => false,
        (Some(map), _, Some(role)) => map == OPERATOR_MAP || ROLES.contains(&role.trim_matches('"')),
        _ => false,
    };
    (!is_own).then(|| line.to_owned())
}

/// Says of a server that another command is about that its release was begun; none where it was not.
pub fn unfinished(seen: Seen<'_>) -> Option<Diagnostic> {
    let path = [seen.layout.config_home(), "/postgresql.conf"].concat();
    let conf = seen.seen.files.get(&path).and_then(Observed::known)?.content.as_deref()?;
    // One that was released once, and adopted again, has parts of ours.
    let has_parts = marked::parse(conf).map_or(true, |marked| !marked.parts.is_empty());
    if seen.data.is_none() || seen.adopted || !is_released(conf) || has_parts {
        return None;
    }
    let name = &seen.server.name;
    let message = format!("server \"{name}\": its release was begun and is not finished");
    Some(
        Diagnostic::error(Code::ReleaseUnfinished, message)
            .server(name)
            .detail("Its configuration files are the operator's already. Its instance can be restarted and promoted as it is.")
            .hint("Finish it: pgstead release. To go on with pgstead: behind that pgstead bootstrap, which adopts the servers without a copy."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::files::marked::compose;
    use crate::render::hba::{Access, PeerAccess};

    fn access() -> Access {
        let peer =
            |last: u8, name: &str| PeerAccess { address: format!("192.0.2.{last}/32"), servers: vec![name.to_owned()] };
        Access {
            server: "a".to_owned(),
            topology: "crm".to_owned(),
            os_user: "postgres".to_owned(),
            peers: vec![peer(1, "a"), peer(2, "b")],
            own_addresses: vec!["192.0.2.1".parse().unwrap()],
            by_certificate: true,
            records: Vec::new(),
        }
    }

    fn records(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect()
    }

    #[test]
    fn whoever_replicates_and_the_administrator_are_let_in_still() {
        let text = hba(&access().render_hba().unwrap(), Configuration::Written).unwrap();
        assert_eq!(
            records(&text),
            [
                "local all \"postgres\" peer map=pgstead_admin",
                "hostssl replication \"replicator\" 192.0.2.1/32 cert map=pgstead_192_0_2_1_32",
                "hostssl replication \"replicator\" 192.0.2.2/32 cert map=pgstead_192_0_2_2_32",
                "hostssl all \"replicator\" all reject",
                "hostssl replication all all reject",
            ]
        );
        assert!(text.starts_with(RELEASED) && !text.contains("written by pgstead"), "{text}");
        let text = ident(&access().render_ident().unwrap(), Configuration::Written).unwrap();
        assert_eq!(
            records(&text),
            [
                "pgstead_admin \"postgres\" \"postgres\"",
                "pgstead_192_0_2_1_32 \"a\" \"replicator\"",
                "pgstead_192_0_2_2_32 \"b\" \"replicator\"",
            ]
        );
        assert!(text.starts_with(RELEASED), "{text}");
    }

    #[test]
    fn the_operators_lines_stay_where_they_are() {
        const OWN: &str = "# mine\nlocal all all peer\nhost all pgstead_fan 0.0.0.0/0 md5\n";
        let part = access().render_hba_part(&[roles::OPERATOR, roles::REPLICATOR, roles::REWIND]).unwrap();
        let text = hba(&compose(&part, OWN, "hostssl app app 0.0.0.0/0 cert\n"), Configuration::Kept).unwrap();
        let (before, behind) = text.split_once(OWN).unwrap();
        assert_eq!(records(before).last(), Some(&"host replication \"replicator\" all reject"), "{text}");
        assert_eq!(records(behind), ["hostssl app app 0.0.0.0/0 cert"]);
        assert!(!text.contains("\"pgstead\"") && !text.contains("pgstead_rewind"), "{text}");
        assert_eq!(marked::parse(&text).unwrap().parts, []);
        // A second time nothing is changed.
        assert_eq!(hba(&text, Configuration::Kept).unwrap(), text);
    }

    #[test]
    fn what_our_file_set_stands_where_it_was_included() {
        let text = folded(
            &compose("", "work_mem = '9MB'\n", "include 'pgstead.conf'\n"),
            "# pgstead.conf of server \"a\" in topology \"crm\", written by pgstead.\n# Make changes in the inventory. A change made here by hand is shown as drift and is never overwritten silently.\n\nssl = 'on'\n",
        );
        let text = text.unwrap();
        assert_eq!(text, ["work_mem = '9MB'\n", RELEASED, "\nssl = 'on'\n"].concat());
        assert!(is_released(&text) && !names(&text, "pgstead.conf"));
        assert_eq!(folded(&text, "ssl = 'off'\n").unwrap(), text);
        assert!(names("include 'pgstead.conf'\n", "pgstead.conf"));
    }
}
