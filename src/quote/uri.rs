//! Connection URIs of libpq (manual, 34.1.1.2) and of the JDBC driver: RFC 3986 with percent-encoding.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but what RFC 3986 calls unreserved, so that a token is inert wherever it stands.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Returns a text as one token of a URI.
pub fn token(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Returns a host as a URI has it: an IPv6 address in brackets.
pub fn host(text: &str) -> String {
    if text.contains(':') { ["[", text, "]"].concat() } else { token(text) }
}

/// Returns `keyword=value` pairs as a query.
pub fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pairs: Vec<String> = pairs.into_iter().map(|(keyword, value)| [keyword, "=", &token(value)].concat()).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_libpq_parser_reads_back_the_value(value in "[^\\x00]{1,20}") {
            let uri = ["postgresql://h:1/", &token(&value), "?", &query([("application_name", value.as_str())])].concat();
            let config: tokio_postgres::Config = uri.parse().unwrap();
            prop_assert_eq!(config.get_application_name(), Some(value.as_str()));
            prop_assert_eq!(config.get_dbname(), Some(value.as_str()));
        }
    }

    #[test]
    fn hosts() {
        assert_eq!(host("fd00::1"), "[fd00::1]");
        assert_eq!(host("db-1.example.com"), "db-1.example.com");
    }
}
