//! Makes the SCRAM-SHA-256 verifier of a password once more, with the salt of one that is there (RFC 5802, RFC 7677): equal
//! verifiers are of equal passwords, so that nobody has to send a password to see whether it changed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::model::secret::Secret;

/// More iterations than anybody configures (`scram_iterations` is 4096): a server cannot keep this machine busy with a number.
const MOST_ITERATIONS: u32 = 1_000_000;

/// Returns the verifier of a password; `salted` is `ITERATIONS:SALT`, as in `pg_authid.rolpassword`. None where that is none.
pub(super) fn verifier(password: &str, salted: &str) -> Option<Secret> {
    let (iterations, salt) = salted.split_once(':')?;
    let iterations: u32 = iterations.parse().ok().filter(|count| (1..=MOST_ITERATIONS).contains(count))?;
    let salt = STANDARD.decode(salt).ok()?;
    // What cannot be prepared is taken as it is, as libpq and the server do.
    let prepared = stringprep::saslprep(password).unwrap_or(password.into());
    let keyed = Hmac::<Sha256>::new_from_slice(prepared.as_bytes()).ok()?;
    let mut block = of(&keyed, &[&salt, &[0, 0, 0, 1]]);
    let mut salted_password = block;
    for _ in 1..iterations {
        block = of(&keyed, &[&block]);
        for (sum, byte) in salted_password.iter_mut().zip(block) {
            *sum ^= byte;
        }
    }
    let keyed = Hmac::<Sha256>::new_from_slice(&salted_password).ok()?;
    let stored = STANDARD.encode(Sha256::digest(of(&keyed, &[b"Client Key"])));
    let server = STANDARD.encode(of(&keyed, &[b"Server Key"]));
    Some(Secret::new(["SCRAM-SHA-256$", salted, "$", &stored, ":", &server].concat()))
}

fn of(keyed: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed.clone();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use postgres_protocol::password::scram_sha_256;
    use proptest::prelude::*;

    use super::*;

    fn salted(verifier: &str) -> &str {
        verifier.split('$').nth(1).unwrap()
    }

    /// The verifier of the empty password, which the server's own regression tests refuse (password.sql).
    #[test]
    fn it_is_what_a_server_makes() {
        let theirs = "SCRAM-SHA-256$4096:hpFyHTUsSWcR7O9P$LgZFIt6Oqdo27ZFKbZ2nV+vtnYM995pDh9ca6WSi120=:qVV5NeluNfUPkwm7Vqat25RjSPLkGeoZBQs6wVv+um4=";
        assert_eq!(verifier("", salted(theirs)).map(|made| made.expose() == theirs), Some(true));
    }

    #[test]
    fn what_is_no_salt_is_none() {
        for text in ["", "4096", "4096:***", "x:AAAA", "0:AAAA", "4294967295:AAAA"] {
            assert!(verifier("p", text).is_none(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn the_client_library_makes_the_same(password in "\\PC{0,20}", other in "\\PC{0,20}") {
            let theirs = scram_sha_256(password.as_bytes());
            let made = verifier(&password, salted(&theirs)).unwrap();
            prop_assert_eq!(made.expose(), &theirs);
            prop_assume!(stringprep::saslprep(&password).ok() != stringprep::saslprep(&other).ok());
            prop_assert!(verifier(&other, salted(&theirs)).unwrap().expose() != theirs);
        }
    }
}
