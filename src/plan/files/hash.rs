//! The hash by which texts are compared.

use sha2::{Digest, Sha256};

use crate::model::bytes::bytes;

/// Returns the SHA-256 of a text, hexadecimal.
pub fn sha256(text: &str) -> String {
    Sha256::digest(bytes(text)).iter().map(|byte| format!("{byte:02x}")).collect()
}
