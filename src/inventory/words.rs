//! Judges single words of the inventory: names, paths, users, sizes.
//!
//! Everything that passes here may travel into configuration files, SQL, connection strings and command lines
//! (hazard 87). The escapers of [`crate::quote`] are the fence there; this is the gate. Nothing is repaired: a word is
//! taken verbatim or refused with a reason that completes "invalid WHAT "TEXT": …".

use crate::model::address::is_host_name;
use crate::model::name::NAME_MAX_BYTES;

/// Why a word is refused, and what would help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The reason.
    pub(super) reason: String,
    /// The hint, a full sentence.
    pub(super) hint: Option<String>,
}

fn refuse(reason: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal { reason: reason.into(), hint: None })
}

fn refuse_with(reason: impl Into<String>, hint: impl Into<String>) -> Result<(), Refusal> {
    Err(Refusal { reason: reason.into(), hint: Some(hint.into()) })
}

fn only(text: &str, what: &str, allowed: impl Fn(char) -> bool) -> Result<(), Refusal> {
    match text.chars().find(|c| !allowed(*c)) {
        Some(found) => refuse(format!("it may have only {what}, not {found:?}")),
        None => Ok(()),
    }
}

/// Says whether a character moves a cursor, or makes a terminal show a text in another order than it has.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Judges a text that people read: any script, but nothing that moves a cursor.
pub(super) fn remark(text: &str) -> Result<(), Refusal> {
    match text.chars().find(|c| is_control(*c)) {
        Some(found) => refuse(format!("it must not have control characters such as {found:?}")),
        None if text.len() > 400 => refuse("it may have at most 400 bytes"),
        None => Ok(()),
    }
}

/// Judges the name of a database or role, which may be there already: whatever PostgreSQL takes, but what moves a cursor and could
/// not stand in a line of `pg_hba.conf`.
pub(super) fn object(text: &str) -> Result<(), Refusal> {
    if text.is_empty() {
        return refuse("it must not be empty");
    }
    if text.len() > NAME_MAX_BYTES {
        return refuse(format!("it may have at most {NAME_MAX_BYTES} bytes, this one has {}", text.len()));
    }
    match text.chars().find(|c| is_control(*c)) {
        Some(found) => refuse(format!("it must not have control characters such as {found:?}")),
        None => Ok(()),
    }
}

/// Judges a name in an HBA record. What begins like a group, a file or an expression is none: who writes that means more than one
/// name, and in quotes it would be one.
pub(super) fn hba_name(text: &str) -> Result<(), Refusal> {
    object(text)?;
    match text.chars().next() {
        Some(first @ ('+' | '/' | '@')) => refuse_with(
            format!("in pg_hba.conf {first:?} begins a group, an expression or a file"),
            "Write a record for each name, or \"all\".",
        ),
        _ => Ok(()),
    }
}

/// Judges the name of a role that pgstead makes.
pub(super) fn role(text: &str) -> Result<(), Refusal> {
    object(text)?;
    match text {
        "postgres" => refuse("it is the superuser"),
        "public" | "none" | "current_user" | "current_role" | "session_user" => {
            refuse("PostgreSQL keeps that word for itself")
        }
        "all" | "replication" => refuse("it is a keyword of pg_hba.conf and would be mistaken there"),
        _ if text.starts_with("pg_") => refuse("names that start with \"pg_\" are PostgreSQL's own"),
        _ => Ok(()),
    }
}

/// Judges the name of a tablespace.
fn identifier(text: &str) -> Result<(), Refusal> {
    if text.is_empty() {
        return refuse("it must not be empty");
    }
    if text.len() > NAME_MAX_BYTES {
        return refuse(format!("it may have at most {NAME_MAX_BYTES} bytes, this one has {}", text.len()));
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return refuse("it must start with an ASCII letter, a digit or \"_\"");
    }
    only(text, "ASCII letters, digits, \"_\", \"-\" and \".\"", |c| {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
    })
}

/// Judges a database that must exist.
pub(super) fn database(text: &str) -> Result<(), Refusal> {
    object(text)?;
    match text {
        "all" | "replication" | "sameuser" | "samerole" | "samegroup" => {
            refuse("it is a keyword of pg_hba.conf and would be mistaken there")
        }
        "template0" | "template1" => refuse("it is a template database"),
        _ => Ok(()),
    }
}

/// Judges the name of a tablespace.
pub(super) fn tablespace(text: &str) -> Result<(), Refusal> {
    identifier(text)?;
    if text.starts_with("pg_") { refuse("names that start with \"pg_\" are PostgreSQL's own") } else { Ok(()) }
}

const SYSTEM_DIRECTORIES: &[&str] = &[
    "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc", "/root", "/run",
    "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/log", "/var/run",
];

/// Judges the path of a directory on a server.
pub(super) fn server_directory(text: &str) -> Result<(), Refusal> {
    if !text.starts_with('/') {
        return refuse("it must be an absolute path");
    }
    if text.len() > 900 {
        return refuse("it may have at most 900 bytes"); // MAXPGPATH is 1024, and names are appended to it.
    }
    if text == "/" {
        return refuse("the root directory belongs to the system");
    }
    only(text, "letters, digits and \"/\", \"_\", \"-\", \".\", \"+\", \"@\", \":\"", path_character)?;
    let parts: Vec<&str> = text.split('/').skip(1).collect();
    if parts.contains(&"..") || parts.contains(&".") {
        return refuse("it must not have \"..\" or \".\" in it");
    }
    if parts.iter().any(|part| part.is_empty()) {
        let meant: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        return refuse_with("it must not have empty parts", format!("Write \"/{}\".", meant.join("/")));
    }
    if SYSTEM_DIRECTORIES.contains(&text) || ["/proc/", "/sys/", "/dev/"].iter().any(|own| text.starts_with(own)) {
        return refuse("that directory belongs to the system");
    }
    Ok(())
}

fn path_character(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '/' | '_' | '-' | '.' | '+' | '@' | ':')
}

/// Says whether a directory is another one, or lies inside it.
pub(super) fn is_within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Judges the path of a file beside the inventory.
pub(super) fn local_file(text: &str) -> Result<(), Refusal> {
    if text.is_empty() {
        return refuse("it must not be empty");
    }
    if text.starts_with('-') {
        return refuse("it must not start with \"-\"");
    }
    let rest = match text.strip_prefix('~') {
        Some(rest) if rest.starts_with('/') => rest,
        Some(_) => return refuse("only \"~/\", your own home directory, can be expanded"),
        None => text,
    };
    // OpenSSH expands "%" and "${" in such paths and splits them at blanks.
    only(rest, "letters, digits and \"/\", \"_\", \"-\", \".\", \"+\", \"@\", \":\"", path_character)?;
    if rest.ends_with('/') { refuse("it must be a file, not a directory") } else { Ok(()) }
}

/// Judges a systemd unit, or `pg_ctl`.
pub(super) fn service(text: &str) -> Result<(), Refusal> {
    if text.is_empty() || text.starts_with(['-', '.']) || text.len() > 255 {
        return refuse("it must be the name of a systemd unit, or \"pg_ctl\"");
    }
    only(text, "ASCII letters, digits and \":\", \"_\", \".\", \"@\", \"-\"", |c| {
        c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '.' | '@' | '-')
    })
}

/// Judges a login user.
pub(super) fn login_user(text: &str) -> Result<(), Refusal> {
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') || text.len() > 64 {
        return refuse("it must be the name of a user, and start with a letter, a digit or \"_\"");
    }
    only(text, "ASCII letters, digits, \"_\", \"-\" and \".\"", |c| {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
    })
}

/// Judges a jump host, `[user@]host[:port]`.
pub(super) fn jump(text: &str) -> Result<(), Refusal> {
    if text.contains(',') {
        return refuse_with("it names several hosts", "Write a list, such as [first, second].");
    }
    if text.eq_ignore_ascii_case("none") {
        return refuse_with("ssh takes that word for \"no jump host\"", "Write [] for no jump host.");
    }
    let (user, place) = text.split_once('@').map_or((None, text), |(user, place)| (Some(user), place));
    if let Some(user) = user {
        login_user(user).map_err(|refusal| Refusal {
            reason: format!("its user is invalid: {}", refusal.reason),
            hint: refusal.hint,
        })?;
    }
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ip, "")) => (ip, None),
        Some((ip, rest)) => (ip, Some(rest.strip_prefix(':').unwrap_or_default())),
        None if place.parse::<std::net::Ipv6Addr>().is_ok() => (place, None),
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    if host.parse::<std::net::IpAddr>().is_err() && !is_host_name(host) {
        return refuse("it must be [user@]host[:port], with an IP address or a host name");
    }
    match port {
        Some(port) if !port.parse::<u16>().is_ok_and(|number| number > 0 && !port.starts_with('+')) => {
            refuse("its port must be a number from 1 to 65535")
        }
        _ => Ok(()),
    }
}

/// Returns the bytes of a size such as `64GB`.
pub(super) fn size(text: &str) -> Result<u128, Refusal> {
    let syntax =
        |hint: Option<String>| Refusal { reason: "it must be a number with kB, MB, GB or TB".to_owned(), hint };
    if text.starts_with('-') {
        return Err(Refusal {
            reason: "without a cap, a standby that stays away fills the disk of its upstream".to_owned(),
            hint: Some("Choose how much WAL the upstream can spare, such as 64GB.".to_owned()),
        });
    }
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(|| syntax(Some(format!("Write \"{text}MB\"."))))?;
    let (digits, unit) = text.split_at(split);
    let factor: u128 = match unit {
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        other => {
            let known = ["kB", "MB", "GB", "TB"].into_iter().find(|unit| unit.eq_ignore_ascii_case(other.trim()));
            return Err(syntax(known.filter(|_| !digits.is_empty()).map(|unit| format!("Write \"{digits}{unit}\"."))));
        }
    };
    let number: u128 = digits.parse().map_err(|_| syntax(None))?;
    let bytes = number.saturating_mul(factor);
    let bounds = (16 << 20)..=(2_147_483_647u128 << 20);
    if !bounds.contains(&bytes) {
        return Err(Refusal {
            reason: "it must be from 16MB, one WAL segment, to 2147483647MB".to_owned(),
            hint: None,
        });
    }
    Ok(bytes)
}

/// Judges the value of a parameter.
pub(super) fn parameter_value(text: &str) -> Result<(), Refusal> {
    match text.chars().find(|c| is_control(*c)) {
        Some(found) => refuse(format!("it must not have control characters such as {found:?}")),
        None if text.len() > 8192 => refuse("it may have at most 8192 bytes"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &[&str] = &[
        "",
        "-x",
        "$(reboot)",
        "`id`",
        "a'b",
        "a\"b",
        "a\nb",
        "a\0b",
        "a\u{1b}[2J",
        "a b",
        "a;b",
        "a|b",
        "a\\b",
        "a&b",
        "*",
        "a{b,c}",
        "%h",
        "${HOME}",
    ];

    #[test]
    fn hostile_words_are_refused_everywhere() {
        for text in HOSTILE {
            for check in [identifier, tablespace, server_directory, local_file, service, login_user, jump] {
                assert!(check(text).is_err(), "{text:?}");
                assert!(check(&format!("/srv/{text}")).is_err() || text == &"-x", "{text:?}");
            }
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_that_people_give_their_databases_are_taken() {
        for text in ["a=b", "postgresql://x", "Müller & Söhne", "a.b c", "\"q\" 'p'", "-x", "$(x)", "顧客", "#1"] {
            assert_eq!((database(text), hba_name(text)), (Ok(()), Ok(())), "{text}");
        }
        for text in ["", "a\nb", "a\0b", "a\u{1b}[2J", "a\u{202e}b", &"ä".repeat(32)] {
            assert!(database(text).is_err() && hba_name(text).is_err(), "{text:?}");
        }
        for text in ["+admins", "/^x", "@file"] {
            assert!(hba_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn directories() {
        for text in ["/srv/pg/main", "/data", "/var/lib/postgresql/15/main", "/数据/pg", "/a/-b"] {
            assert_eq!(server_directory(text), Ok(()), "{text}");
        }
        for text in
            ["/", "//", "/srv/", "/srv//a", "/srv/../etc", "/srv/./a", "a", "~/a", "/etc", "/var/lib", "/proc/1"]
        {
            assert!(server_directory(text).is_err(), "{text}");
        }
        assert!(is_within("/a/b", "/a/b") && is_within("/a/b/c", "/a/b") && !is_within("/a/bc", "/a/b"));
    }

    #[test]
    fn jumps() {
        for text in ["bastion", "ops@bastion.example.com:2222", "10.0.0.1:22", "[fd00::1]:22", "fd00::1", "a@[fd00::1]"]
        {
            assert_eq!(jump(text), Ok(()), "{text}");
        }
        for text in
            ["a,b", "none", "a@b@c", "a:0", "a:x", "a:", "[fd00::1]22", "-oProxyCommand=x", "@a", "a:+2", "ssh://a"]
        {
            assert!(jump(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("64GB"), Ok(64 << 30));
        assert_eq!(size("64gb").unwrap_err().hint.as_deref(), Some("Write \"64GB\"."));
        assert_eq!(size("64").unwrap_err().hint.as_deref(), Some("Write \"64MB\"."));
        for text in ["-1", "0GB", "1kB", "9999999999TB", "GB", "1.5GB", "99999999999999999999999999999999999999999TB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
