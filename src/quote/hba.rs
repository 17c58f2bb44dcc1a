//! Fields of `pg_hba.conf` and `pg_ident.conf` (manual, 21.1 and 21.2).

/// Returns a quoted field. Quoting takes `all`, `replication`, a leading `+` or `/` their special meaning.
///
/// A double quote is doubled; line feeds and zero bytes cannot be written there and are dropped (the inventory refuses them earlier).
pub fn field(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\"\""),
            '\n' | '\r' | '\0' => {}
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_inert() {
        assert_eq!(field("crawler"), r#""crawler""#);
        assert_eq!(field("a\"b\nall all"), "\"a\"\"ball all\"");
    }
}
