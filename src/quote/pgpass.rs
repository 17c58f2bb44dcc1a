//! Lines of a libpq passfile (manual, 34.16).

use crate::model::secret::Secret;

/// Returns one line `host:port:database:user:password`, with `:` and `\` escaped in every field.
pub fn line(host: &str, port: &str, database: &str, user: &str, password: &Secret) -> Secret {
    let mut line = String::new();
    for field in [host, port, database, user, password.expose()] {
        for c in field.chars() {
            if c == ':' || c == '\\' {
                line.push('\\');
            }
            line.push(c);
        }
        line.push(':');
    }
    line.pop();
    line.push('\n');
    Secret::new(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colons_and_backslashes_are_escaped() {
        let line = line("fd00::1", "5432", "*", "replicator", &Secret::new(r"a:b\c"));
        assert_eq!(line.expose(), "fd00\\:\\:1:5432:*:replicator:a\\:b\\\\c\n");
    }
}
