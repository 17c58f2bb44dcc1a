//! Names in PgBouncer's configuration, and in commands of its console, which reads SQL's quoted identifiers.

/// Returns a name as a key of the configuration. None where that cannot hold it: one with any other character ends the reading
/// of the whole file, whatever quotes stand around it (seen with 1.18).
pub fn key(name: &str) -> Option<&str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (!name.is_empty() && name.chars().all(fits)).then_some(name)
}

/// Returns a name as one token of a command.
pub fn name(name: &str) -> String {
    let mut quoted = String::from("\"");
    for c in name.chars() {
        if c == '"' {
            quoted.push('"');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::proptest;

    use super::*;

    #[test]
    fn a_key_is_what_the_configuration_can_hold() {
        assert_eq!(key("image-crawler.2_x"), Some("image-crawler.2_x"));
        for name in ["", "a b", "a=b", "\"a\"", "数据库", "a\n%include /etc/shadow"] {
            assert_eq!(key(name), None, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_one_name(text in "\\PC*") {
            let quoted = name(&text);
            let inner = quoted.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            assert_eq!(inner.replace("\"\"", ""), text.replace('"', ""));
            assert_eq!(inner.replace("\"\"", "\""), text);
        }
    }
}
