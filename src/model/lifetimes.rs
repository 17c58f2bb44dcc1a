//! How long certificates are valid, and how long before their end they are renewed.

/// The lifetimes of the certificates of a topology, in days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// How long a server's or client's certificate is valid.
    pub valid: u32,
    /// How long before its end a certificate is due for renewal, and `check` warns.
    pub renew_before: u32,
    /// How long a CA is valid.
    pub ca_valid: u32,
}

/// A forgotten topology does not stop within the year, and rotation stays practised.
impl Default for Lifetimes {
    fn default() -> Self {
        Self { valid: 730, renew_before: 30, ca_valid: 3653 }
    }
}

impl Lifetimes {
    /// Says whether so many days are few enough that a certificate is due.
    pub fn is_due(self, days_left: i64) -> bool {
        days_left < i64::from(self.renew_before)
    }
}
