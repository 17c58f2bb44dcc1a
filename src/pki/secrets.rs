//! What the operator's machine keeps for a topology: the CA, the operator's own certificate, the replication password.
//!
//! Making it writes nothing, so a plan can be made with it; `state/` writes it down.

use jiff::Timestamp;
use postgres_protocol::password::scram_sha_256;
use rand::RngExt;
use sha2::{Digest, Sha256};

use crate::model::lifetimes::Lifetimes;
use crate::model::name::TopologyName;
use crate::model::secret::Secret;
use crate::pki::facts::{hex, key_matches, parse_certificate, split_bundle, verify_signed_by};
use crate::pki::{Authority, CertificatePair, PkiError, Successor, scram};

/// Letters and digits that no grammar escapes and no reader confuses.
const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// 57 symbols to the power of 40: more than 230 bits.
const PASSWORD_LENGTH: usize = 40;

/// A role's password and the SCRAM verifier that servers receive in its place (hazard 84).
///
/// The verifier is kept, since it has a random salt: comparing it with a server's shows that nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolePassword {
    /// The password.
    pub password: Secret,
    /// The verifier, as in `pg_authid.rolpassword`.
    pub verifier: Secret,
}

impl RolePassword {
    /// Makes a random password and its verifier.
    pub fn generate() -> Self {
        let mut rng = rand::rng(); // Cryptographic, seeded by the operating system.
        let password: String =
            (0..PASSWORD_LENGTH).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect();
        Self::of(Secret::new(password))
    }

    /// Makes a verifier for a given password.
    pub fn of(password: Secret) -> Self {
        let verifier = Secret::new(scram_sha_256(password.expose().as_bytes()));
        Self { password, verifier }
    }

    /// Returns the SHA-256 of the verifier's text in lower-case hex, which is how a server's is observed.
    pub fn verifier_sha256(&self) -> String {
        hex(&Sha256::digest(self.verifier.expose()))
    }

    /// Returns a password with a verifier of it: this one, or another where this one is of another password.
    pub fn pair(password: Secret, verifier: Secret) -> Self {
        let salted = verifier.expose().split('$').nth(1).unwrap_or_default();
        match scram::verifier(password.expose(), salted) {
            Some(made) if made == verifier => Self { password, verifier },
            _ => Self::of(password),
        }
    }

    /// Says whether a server's verifier is one of this password: `salted` is with what it was made, `sha256` how it is observed.
    pub fn has_verifier(&self, salted: &str, sha256: &str) -> bool {
        let made = scram::verifier(self.password.expose(), salted);
        made.is_some_and(|made| hex(&Sha256::digest(made.expose())) == sha256)
    }
}

/// What is there of an operator's secrets; anything may be lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredSecrets {
    /// The CA.
    pub ca: Option<CertificatePair>,
    /// The CA whose place it takes, for as long as that goes on.
    pub former: Option<CertificatePair>,
    /// How far it is, where there is no former one to be read.
    pub succession: Succession,
    /// What leads from the CA to former ones, PEM ([`crate::pki::Successor::cross`]).
    pub chain: Option<String>,
    /// The operator's client certificate.
    pub operator: Option<CertificatePair>,
    /// The replication role's password.
    pub replication: Option<RolePassword>,
    /// The one whose place that takes, for as long as that goes on: servers may have either.
    pub former_password: Option<RolePassword>,
}

/// How far a CA is with taking the place of another, where that other one is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Succession {
    /// None was begun; or it goes on, and the former one is there.
    #[default]
    None,
    /// It was begun, and the former one cannot be read.
    WithoutFormer,
    /// No server needs the former one, and only files of this machine are to be cleared away.
    Ended,
}

/// The complete secrets of a topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorSecrets {
    /// The CA.
    pub ca: CertificatePair,
    /// The CA whose place it takes, for as long as that goes on: servers may have certificates of it.
    pub former: Option<CertificatePair>,
    /// What follows each certificate that the CA issues, PEM: it leads to former CAs that are still valid.
    pub chain: String,
    /// The operator's client certificate.
    pub operator: CertificatePair,
    /// The replication role's password.
    pub replication: RolePassword,
    /// The one whose place that takes, for as long as that goes on: servers may have either.
    pub former_password: Option<RolePassword>,
    /// Whether the replication role's was made just now: no server has it, and all are to get it.
    pub is_password_new: bool,
}

/// Which secrets are new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    /// The CA: every certificate on every server is to be replaced.
    pub ca: bool,
    /// The operator's client certificate.
    pub operator: bool,
    /// The replication role's password.
    pub replication: bool,
}

impl Made {
    /// Says whether there is anything to save.
    pub fn any(self) -> bool {
        self.ca || self.operator || self.replication
    }
}

impl OperatorSecrets {
    /// Completes what is stored: makes what is missing, and renews the operator's certificate where it is not the CA's,
    /// not its key's, or near its end. `maker` is who makes a CA, `user@host`.
    ///
    /// A CA whose key is damaged, or does not belong to its certificate, is an error: replacing it in silence would cut
    /// every server off.
    ///
    /// # Errors
    /// What is stored cannot be read, or the operating system gives no randomness.
    pub fn complete(
        stored: StoredSecrets,
        topology: &TopologyName,
        maker: &str,
        lifetimes: Lifetimes,
        now: Timestamp,
    ) -> Result<(Self, Made), PkiError> {
        let mut made = Made { ca: stored.ca.is_none(), replication: stored.replication.is_none(), operator: false };
        let ca = match stored.ca {
            Some(ca) => ca,
            None => crate::pki::create_authority(topology, maker, lifetimes, now)?,
        };
        if !key_matches(&ca.certificate, &ca.key)? {
            return Err(PkiError::ForeignKey { whose: "the CA".to_owned() });
        }
        let chain = chain(stored.chain.as_deref().unwrap_or_default(), &ca, now);
        let operator = match stored.operator.filter(|pair| still_good(pair, &ca, lifetimes, now)) {
            Some(operator) => operator,
            None => {
                made.operator = true;
                Authority::open(topology, &ca, lifetimes)?.with_chain(&chain).issue_operator(now)?
            }
        };
        let replication = stored.replication.unwrap_or_else(RolePassword::generate);
        let (former, former_password, is_password_new) = (stored.former, stored.former_password, made.replication);
        Ok((Self { ca, former, chain, operator, replication, former_password, is_password_new }, made))
    }

    /// Returns the same with another password of the replication role, in the place of the one that is in use.
    #[must_use]
    pub fn with_another_password(self, in_use: RolePassword) -> Self {
        let replication = RolePassword::generate();
        Self { replication, former_password: Some(in_use), is_password_new: true, ..self }
    }

    /// Returns the certificates of the CAs that servers may have certificates of, PEM.
    pub fn authorities(&self) -> String {
        let former = self.former.as_ref().map_or("", |former| former.certificate.as_str());
        [self.ca.certificate.as_str(), former].concat()
    }

    /// Returns the operator's certificate as one that the former CA issues now, where it is being replaced and its key is there: to
    /// see that it is refused.
    ///
    /// # Errors
    /// The former CA cannot be read, or the operating system gives no randomness.
    pub fn of_former(
        &self,
        topology: &TopologyName,
        lifetimes: Lifetimes,
        now: Timestamp,
    ) -> Result<Option<CertificatePair>, PkiError> {
        let Some(former) = &self.former else { return Ok(None) };
        // A run that was killed while it wrote the new one in its place has left another key there.
        if !key_matches(&former.certificate, &former.key)? {
            return Ok(None);
        }
        Authority::open(topology, former, lifetimes)?.issue_operator(now).map(Some)
    }
}

impl StoredSecrets {
    /// Puts a new CA in the place of the one that is stored, where that is not being done already, or was done but for the end: there
    /// are never three.
    ///
    /// # Errors
    /// It was begun and the former CA is lost, what is stored cannot be read, or the operating system gives no randomness.
    pub fn succeed(
        self,
        topology: &TopologyName,
        maker: &str,
        lifetimes: Lifetimes,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        let (Some(ca), None) = (&self.ca, &self.former) else { return Ok(self) };
        match self.succession {
            Succession::None => {}
            Succession::WithoutFormer => return Err(PkiError::FormerMissing),
            Succession::Ended => return Ok(self),
        }
        if !key_matches(&ca.certificate, &ca.key)? {
            return Err(PkiError::ForeignKey { whose: "the CA".to_owned() });
        }
        let before = chain(self.chain.as_deref().unwrap_or_default(), ca, now);
        let maker = if before.is_empty() { Some(maker) } else { None };
        let Successor { ca: next, cross } = crate::pki::succeed_authority(topology, ca, maker, lifetimes, now)?;
        Ok(Self { ca: Some(next), former: self.ca, chain: Some([cross, before].concat()), ..self })
    }
}

/// Returns what of a chain leads anywhere: from the CA's own key to the first that has expired.
fn chain(stored: &str, ca: &CertificatePair, now: Timestamp) -> String {
    let key = |pem: &str| parse_certificate(pem).ok().map(|facts| facts.public_key_sha256);
    let lasts = |pem: &String| parse_certificate(pem).is_ok_and(|facts| facts.not_after > now);
    // A run that was killed before it wrote down a new CA has left what leads to that one in front.
    let own = split_bundle(stored).unwrap_or_default().into_iter().skip_while(|pem| key(pem) != key(&ca.certificate));
    own.take_while(lasts).collect()
}

fn still_good(pair: &CertificatePair, ca: &CertificatePair, lifetimes: Lifetimes, now: Timestamp) -> bool {
    let fresh = parse_certificate(&pair.certificate)
        .is_ok_and(|facts| facts.not_before <= now && !lifetimes.is_due(facts.days_left(now)));
    fresh
        && verify_signed_by(&pair.certificate, &ca.certificate).is_ok()
        && key_matches(&pair.certificate, &pair.key).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> TopologyName {
        "lab".parse().unwrap()
    }

    #[test]
    fn what_is_there_is_kept_and_what_is_missing_is_made() {
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let (first, made) =
            OperatorSecrets::complete(StoredSecrets::default(), &topology(), "ops@laptop1", Lifetimes::default(), now)
                .unwrap();
        assert_eq!(made, Made { ca: true, operator: true, replication: true });
        let maker = parse_certificate(&first.ca.certificate).unwrap().maker;
        assert_eq!(maker.as_deref(), Some("ops@laptop1"));
        let stored = |secrets: &OperatorSecrets| StoredSecrets {
            ca: Some(secrets.ca.clone()),
            former: secrets.former.clone(),
            succession: Succession::None,
            chain: Some(secrets.chain.clone()),
            operator: Some(secrets.operator.clone()),
            replication: Some(secrets.replication.clone()),
            former_password: secrets.former_password.clone(),
        };
        let (again, made) =
            OperatorSecrets::complete(stored(&first), &topology(), "ops@laptop1", Lifetimes::default(), now).unwrap();
        let kept = OperatorSecrets { is_password_new: false, ..first.clone() };
        assert_eq!((again, made.any()), (kept, false));

        let later: Timestamp = "2031-12-15T00:00:00Z".parse().unwrap();
        let (renewed, made) =
            OperatorSecrets::complete(stored(&first), &topology(), "ops@laptop1", Lifetimes::default(), later).unwrap();
        assert_eq!(made, Made { ca: false, operator: true, replication: false });
        assert_eq!(renewed.ca, first.ca);

        let lost = StoredSecrets { ca: None, ..stored(&first) };
        assert!(
            OperatorSecrets::complete(lost, &topology(), "ops@laptop1", Lifetimes::default(), now).unwrap().1.operator
        );

        let other = crate::pki::create_authority(&topology(), "ops@laptop1", Lifetimes::default(), now).unwrap();
        let mixed = CertificatePair { key: other.key, ..first.ca.clone() };
        let mixed = StoredSecrets { ca: Some(mixed), ..stored(&first) };
        assert!(matches!(
            OperatorSecrets::complete(mixed, &topology(), "ops@laptop1", Lifetimes::default(), now),
            Err(PkiError::ForeignKey { .. })
        ));
    }

    #[test]
    fn passwords_are_long_random_and_never_shown() {
        let (one, two) = (RolePassword::generate(), RolePassword::generate());
        assert_ne!(one, two);
        assert_eq!(one.password.expose().len(), PASSWORD_LENGTH);
        assert!(one.password.expose().chars().all(|c| c.is_ascii_alphanumeric()));
        assert!(one.verifier.expose().starts_with("SCRAM-SHA-256$4096:"));
        assert_eq!(one.verifier_sha256().len(), 64);
        assert!(!format!("{one:?}").contains(one.password.expose()));
    }
}
