//! Records of `pg_hba.conf` that an inventory may ask for.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One client authentication record. Only TLS connections and only strong methods can be expressed (hazards 82, 91).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HbaRecord {
    /// The database it is for; `all` means every database but never `replication`.
    pub database: String,
    /// The role it is for; `all` means every role.
    pub user: String,
    /// The client addresses it is for.
    pub address: Cidr,
    /// How such a client authenticates.
    pub method: HbaMethod,
}

/// An authentication method that an inventory may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HbaMethod {
    /// A password, as a SCRAM exchange.
    ScramSha256,
    /// A client certificate whose CN is the role's name.
    Cert,
    /// Nobody.
    Reject,
}

impl HbaMethod {
    /// Returns PostgreSQL's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            HbaMethod::ScramSha256 => "scram-sha-256",
            HbaMethod::Cert => "cert",
            HbaMethod::Reject => "reject",
        }
    }
}

/// A range of addresses, `address/prefix length`, with no bits set behind the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    ip: IpAddr,
    prefix: u8,
}

/// Why a text is not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    #[error("{text:?} is not an address range such as 192.168.0.0/16")]
    Syntax {
        /// The text as given.
        text: String,
    },
    /// Bits are set behind the prefix; PostgreSQL would silently ignore them.
    #[error("{text:?} has bits set behind its prefix; the range is {meant}")]
    HostBits {
        /// The text as given.
        text: String,
        /// The range without those bits.
        meant: Cidr,
    },
}

impl Cidr {
    /// Returns the range that holds one address only.
    pub fn single(ip: IpAddr) -> Self {
        Self { ip, prefix: if ip.is_ipv4() { 32 } else { 128 } }
    }

    /// Returns the prefix length in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Says whether an address lies in the range.
    pub fn contains(self, ip: IpAddr) -> bool {
        ip.is_ipv4() == self.ip.is_ipv4() && mask(ip, self.prefix) == self.ip
    }
}

fn mask(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let bits = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & bits).into())
        }
        IpAddr::V6(v6) => {
            let bits = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & bits).into())
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;
    fn from_str(text: &str) -> Result<Self, CidrError> {
        let syntax = || CidrError::Syntax { text: text.to_owned() };
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => (ip.parse::<IpAddr>(), prefix.parse::<u8>().map_err(|_| syntax())?),
            None => {
                let ip = text.parse::<IpAddr>().map_err(|_| syntax())?;
                return Ok(Cidr::single(ip));
            }
        };
        let ip = ip.map_err(|_| syntax())?;
        if prefix > Cidr::single(ip).prefix {
            return Err(syntax());
        }
        let masked = mask(ip, prefix);
        if masked != ip {
            return Err(CidrError::HostBits { text: text.to_owned(), meant: Cidr { ip: masked, prefix } });
        }
        Ok(Cidr { ip, prefix })
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;
    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let range: Cidr = "192.168.0.0/16".parse().unwrap();
        assert!(range.contains("192.168.255.1".parse().unwrap()));
        assert!(!range.contains("192.169.0.1".parse().unwrap()));
        assert_eq!("10.0.0.1".parse::<Cidr>().unwrap().to_string(), "10.0.0.1/32");
        assert!("0.0.0.0/0".parse::<Cidr>().is_ok());
        assert!(matches!("10.0.0.1/8".parse::<Cidr>(), Err(CidrError::HostBits { .. })));
        for text in ["", "10.0.0.0/33", "x/8", "10.0.0.0/8 trust", "samenet"] {
            assert!(text.parse::<Cidr>().is_err(), "{text:?}");
        }
    }
}
