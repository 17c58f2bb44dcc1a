//! Command lines in unit files of systemd (systemd.service(5), "Command lines"; systemd.syntax(7), "Quoting").

/// Returns one argument of a command line: no specifier, no variable, no separator and no escape is left in it.
pub fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/_-.+@:=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '%' => quoted.push_str("%%"),
            '$' => quoted.push_str("$$"),
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str(r"\\"),
            '\0' => {}
            // A line feed would end the line, and a lone semicolon the command.
            ';' => quoted.push_str(r"\x3b"),
            control if control.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(control))),
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
    fn words_are_inert() {
        assert_eq!(word("/var/lib/postgresql/15/main"), "/var/lib/postgresql/15/main");
        assert_eq!(word("postgresql@15-main.service"), "postgresql@15-main.service");
        assert_eq!(word("a b"), "\"a b\"");
        assert_eq!(word("%n $HOME"), "\"%%n $$HOME\"");
        assert_eq!(word("it's \"x\"\\\n;"), "\"it's \\\"x\\\"\\\\\\x0a\\x3b\"");
        assert_eq!(word(""), "\"\"");
    }
}
