//! Values of `postgresql.conf` (manual, 20.1.2).

/// Returns a quoted parameter value: one quote doubles, one backslash doubles, since the file's scanner reads escapes.
///
/// A line feed cannot occur inside a quoted value of the file; it is written as the escape `\n`, which the scanner reads back.
pub fn value(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars() {
        match c {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str(r"\\"),
            '\n' => quoted.push_str(r"\n"),
            '\r' => quoted.push_str(r"\r"),
            '\0' => {}
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_inert() {
        assert_eq!(value("4GB"), "'4GB'");
        assert_eq!(value("it's\n#\\"), r"'it''s\n#\\'");
    }
}
