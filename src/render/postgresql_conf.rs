//! The text of `postgresql.conf`, section by section.

use serde::Serialize;

use crate::quote::conf;
use crate::render::RenderError;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PostgresqlConf {
    /// The file's name: `postgresql.conf`, or the one that an operator's own includes.
    pub file: &'static str,
    /// The server's name.
    pub server: String,
    /// The topology's name.
    pub topology: String,
    /// Its sections, in order.
    pub sections: Vec<Section>,
    /// A directory whose files are read last, as Debian has it. Quoted.
    pub include_dir: Option<String>,
}

/// Settings that belong together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Section {
    /// What they are about.
    pub title: &'static str,
    pub settings: Vec<ConfSetting>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConfSetting {
    /// The parameter.
    pub name: String,
    /// Its value, quoted for the file.
    pub value: String,
    /// Why it has that value, where the reason is not plain.
    pub why: Option<&'static str>,
}

impl ConfSetting {
    /// Makes a setting of an unquoted value.
    pub fn new(name: impl Into<String>, value: impl AsRef<str>) -> Self {
        Self { name: name.into(), value: conf::value(value.as_ref()), why: None }
    }

    /// Makes a setting with a reason.
    pub fn because(name: impl Into<String>, value: impl AsRef<str>, why: &'static str) -> Self {
        Self { why: Some(why), ..Self::new(name, value) }
    }
}

impl PostgresqlConf {
    /// Returns the text of the file.
    ///
    /// # Errors
    /// A defect in the template.
    pub fn render(&self) -> Result<String, RenderError> {
        super::render("postgresql.conf", self)
    }
}

/// Returns the settings of a file of this form: name to unquoted value, the last one of a name winning.
///
/// It reads what [`PostgresqlConf::render`] writes; it is no general parser, since a hand-edited file is drift and is not read.
pub fn parse_settings(text: &str) -> std::collections::BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(" = ")?;
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
            plain.then(|| Some((name.to_owned(), unquote(rest)?)))?
        })
        .collect()
}

fn unquote(text: &str) -> Option<String> {
    let mut chars = text.strip_prefix('\'')?.chars().peekable();
    let mut value = String::new();
    loop {
        match chars.next()? {
            '\'' if chars.peek() == Some(&'\'') => {
                chars.next();
                value.push('\'');
            }
            '\'' => return Some(value),
            '\\' => value.push(match chars.next()? {
                'n' => '\n',
                'r' => '\r',
                other => other,
            }),
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in "[^\\x00]{0,20}") {
            let file = PostgresqlConf {
                file: "postgresql.conf",
                server: "a".into(), topology: "t".into(), include_dir: None,
                sections: vec![Section { title: "T", settings: vec![ConfSetting::because("work_mem", &value, "why = 'x'")] }],
            };
            let text = file.render().unwrap();
            let read = parse_settings(&text);
            prop_assert_eq!(read.get("work_mem"), Some(&value));
        }
    }
}
