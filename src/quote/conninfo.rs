//! libpq keyword/value connection strings (manual, 34.1.1.1).

/// Returns `keyword=value` pairs as one connection string.
pub fn join<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (keyword, value) in pairs {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(keyword);
        text.push('=');
        text.push_str(&quote(value));
    }
    text
}

/// Returns the value of a keyword in a connection string; the last one counts, as in libpq. None where it is not there, or the
/// string is a URI or is not understood.
pub fn value(text: &str, keyword: &str) -> Option<String> {
    let mut found = None;
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, behind) = rest.split_once('=')?;
        let behind = behind.trim_start();
        let quoted = behind.strip_prefix('\'');
        let inside = quoted.unwrap_or(behind);
        let mut value = String::new();
        let mut chars = inside.char_indices();
        let end = loop {
            match chars.next() {
                Some((_, '\\')) => value.extend(chars.next().map(|(_, c)| c)),
                Some((at, '\'')) if quoted.is_some() => break at + 1,
                Some((at, c)) if quoted.is_none() && c.is_whitespace() => break at,
                Some((_, c)) => value.push(c),
                None if quoted.is_some() => return None,
                None => break inside.len(),
            }
        };
        if name.trim_end() == keyword {
            found = Some(value);
        }
        rest = inside[end..].trim_start();
    }
    found
}

fn quote(value: &str) -> String {
    let plain = !value.is_empty() && !value.chars().any(|c| c.is_whitespace() || c == '\'' || c == '\\');
    if plain {
        return value.to_owned();
    }
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('\'');
    for c in value.chars() {
        if c == '\'' || c == '\\' {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_libpq_parser_reads_back_the_value(value in "[^\\x00]{0,20}") {
            let text = join([("application_name", value.as_str()), ("user", "u")]);
            let config: tokio_postgres::Config = text.parse().unwrap();
            prop_assert_eq!(config.get_application_name(), Some(value.as_str()));
        }

        #[test]
        fn a_value_is_read_back(one in "[^\\x00]{0,20}", other in "[^\\x00]{0,20}") {
            let text = join([("host", one.as_str()), ("user", other.as_str()), ("port", "1")]);
            prop_assert_eq!(super::value(&text, "host"), Some(one));
            prop_assert_eq!(super::value(&text, "user"), Some(other));
            prop_assert_eq!(super::value(&text, "port"), Some("1".to_owned()));
            prop_assert_eq!(super::value(&text, "dbname"), None);
        }
    }

    #[test]
    fn people_write_blanks_and_uris() {
        assert_eq!(value("host = a  host='b c' port=1", "host").as_deref(), Some("b c"));
        assert_eq!(value("postgresql://u@h/db", "host"), None);
        assert_eq!(value("host='a", "host"), None);
    }
}
