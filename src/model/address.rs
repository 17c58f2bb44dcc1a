//! Where a server is reached: an IP address or a host name.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An IP address or a host name, as the inventory gives it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// An IPv4 or IPv6 address, without brackets or a zone.
    Ip(IpAddr),
    /// A host name of RFC 1123 form, kept in lower case.
    Name(String),
}

/// Why a text is neither an IP address nor a host name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is neither an IP address nor a host name")]
pub struct AddressError {
    /// The text as given.
    pub text: String,
}

impl Address {
    /// Returns the IP address, where the inventory gives one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Address::Ip(ip) => Some(*ip),
            Address::Name(_) => None,
        }
    }
}

/// Says whether a text is a host name: dot-separated labels of letters, digits and inner hyphens (RFC 1123, 2.1).
pub fn is_host_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        })
        // "10.0.0.256" is a mistyped address, not a name: a top-level label is never all digits.
        && !text.rsplit('.').next().is_some_and(|label| label.chars().all(|c| c.is_ascii_digit()))
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Address::Ip(ip));
        }
        if is_host_name(text) {
            return Ok(Address::Name(text.to_ascii_lowercase()));
        }
        Err(AddressError { text: text.to_owned() })
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(ip) => ip.fmt(f),
            Address::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names() {
        assert!(matches!("10.0.0.1".parse(), Ok(Address::Ip(_))));
        assert!(matches!("fd00::1".parse(), Ok(Address::Ip(_))));
        assert_eq!("DB-1.Example.com".parse(), Ok(Address::Name("db-1.example.com".into())));
        for text in ["", "10.0.0.256", "-oProxyCommand=x", "a b", "a;b", "a\n", "$(x)", "a..b", "fe80::1%eth0"] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
