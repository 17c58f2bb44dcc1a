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
    }
}
