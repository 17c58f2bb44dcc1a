//! Passwords in texts that somebody else wrote: a connection string in a configuration file, a line of a log. What is shown
//! has asterisks in their place.

/// What stands before a value that nobody should read: the end of a keyword, in small letters.
const KEYWORDS: [&str; 6] = ["password", "passwd", "passphrase", "secret", "secrets", "token"];

const MASK: &str = "********";

/// Returns a text without the passwords in it: behind `password=` and its like, and in `scheme://user:password@host`.
pub fn passwords(text: &str) -> String {
    let text = in_uris(text);
    let lower = text.to_ascii_lowercase();
    let mut masked = String::with_capacity(text.len());
    let mut rest = 0;
    for (at, _) in lower.match_indices('=') {
        if at < rest {
            continue;
        }
        let keyword = lower[..at].trim_end();
        if !KEYWORDS.iter().any(|word| keyword.ends_with(word)) {
            continue;
        }
        let begin = at + 1 + (text[at + 1..].len() - text[at + 1..].trim_start_matches(' ').len());
        let end = begin + value(&text[begin..]);
        if end > begin {
            masked.push_str(&text[rest..begin]);
            masked.push_str(MASK);
            rest = end;
        }
    }
    masked.push_str(&text[rest..]);
    masked
}

/// Returns the length of the value that a text begins with: quoted as libpq has it, quoted once more inside a quoted value of
/// a configuration file, or up to a blank.
fn value(text: &str) -> usize {
    for quote in ["''", "\\'", "'", "\""] {
        let Some(inside) = text.strip_prefix(quote) else { continue };
        // '' alone is an empty value, or begins one that is quoted twice.
        if quote == "''" && inside.starts_with([' ', '\n', ')', ',']) || inside.is_empty() {
            return 0;
        }
        let mut escaped = false;
        for (at, c) in inside.char_indices() {
            if !escaped && inside[at..].starts_with(quote) {
                return quote.len() + at + quote.len();
            }
            escaped = !escaped && c == '\\';
        }
        return text.len();
    }
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if !escaped && (c.is_whitespace() || matches!(c, '\'' | '"' | '&' | ';')) {
            return at;
        }
        escaped = !escaped && c == '\\';
    }
    text.len()
}

fn in_uris(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        masked.push_str(before);
        let authority =
            behind.find(|c: char| c.is_whitespace() || matches!(c, '/' | '\'' | '"' | '?')).unwrap_or(behind.len());
        rest = behind;
        if let Some(host) = behind[..authority].rfind('@')
            && let Some(colon) = behind[..host].find(':')
        {
            masked.push_str(&behind[..=colon]);
            masked.push_str(MASK);
            rest = &behind[host..];
        }
    }
    masked.push_str(rest);
    masked
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_password_is_not_shown_and_all_else_is() {
        for (text, shown) in [
            ("host=a password=s3cret user=b", "host=a password=******** user=b"),
            ("host=a password = 's3 \\' cret' user=b", "host=a password = ******** user=b"),
            ("primary_conninfo = 'host=a password=s3cret'", "primary_conninfo = 'host=a password=********'"),
            ("primary_conninfo = 'password=''s3 cret'' port=1'", "primary_conninfo = 'password=******** port=1'"),
            ("primary_conninfo = 'password=\\'s3 cret\\' port=1'", "primary_conninfo = 'password=******** port=1'"),
            ("archive_command = 'PGPASSWORD=s3cret cp %p'", "archive_command = 'PGPASSWORD=******** cp %p'"),
            ("host all all 0/0 ldap ldapbindpasswd=\"s3 cret\" x", "host all all 0/0 ldap ldapbindpasswd=******** x"),
            ("radius radiussecrets=s3cret", "radius radiussecrets=********"),
            ("sslpassword=s3cret&x=1", "sslpassword=********&x=1"),
            ("'postgresql://u:s3cret@h/db?password=s3cret'", "'postgresql://u:********@h/db?password=********'"),
            ("postgresql://u:s3:cr@et@h:5432/db", "postgresql://u:********@h:5432/db"),
            ("password=''", "password=''"),
            (
                "password_encryption = scram-sha-256, https://h:1/x",
                "password_encryption = scram-sha-256, https://h:1/x",
            ),
            ("Its password would be replaced", "Its password would be replaced"),
        ] {
            assert_eq!(passwords(text), shown);
        }
    }

    proptest! {
        #[test]
        fn a_password_of_a_connection_string_never_remains(password in "[a-zA-Z0-9 '\\\\]{0,8}s3cret[a-zA-Z0-9 '\\\\]{0,8}") {
            let text = crate::quote::conninfo::join([("host", "h"), ("password", password.as_str()), ("port", "1")]);
            let masked = passwords(&text);
            prop_assert!(!masked.contains("s3cret"), "{} {}", text, masked);
            prop_assert!(masked.ends_with(" port=1"), "{} {}", text, masked);
        }
    }
}
