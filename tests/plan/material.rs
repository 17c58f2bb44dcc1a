//! The material of cases: certificates and keys that are told apart by their text.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use pgstead::model::Secret;
use pgstead::model::ServerName;
use pgstead::pki::RolePassword;
use pgstead::plan::Leaf;
use pgstead::plan::Material;
use pgstead::plan::Replication;
use pgstead::plan::material::Authority;
use pgstead::plan::material::Due;
use serde_json::Value;

/// The CA that a machine makes in the place of one that is lost.
const NEW_CA: &str = "-----BEGIN CERTIFICATE-----\nNEW CA\n-----END CERTIFICATE-----\n";

/// The material of a machine that holds the CA, for servers that get new certificates.
pub(crate) fn of(replace: BTreeSet<ServerName>) -> Material {
    let leaf = |name: &ServerName| Leaf {
        server_certificate: format!("server certificate of {name}\n"),
        server_key: Secret::new("s3cret"),
        client_certificate: format!("client certificate of {name}\n"),
        client_key: Secret::new("s3cret"),
        id: "0123456789abcdef".to_owned(),
    };
    Material {
        run: "20260101000000abcd".to_owned(),
        ca_certificate: Some("-----BEGIN CERTIFICATE-----\nCA\n-----END CERTIFICATE-----\n".to_owned()),
        former: None,
        elsewhere: None,
        leaves: replace.iter().map(|name| (name.clone(), leaf(name))).collect(),
        certificates_to_replace: replace
            .into_iter()
            .map(|name| (name, Due::Unfit("it is not there".to_owned())))
            .collect(),
        passwords: BTreeMap::new(),
        replication: Some(Replication {
            role: RolePassword { password: Secret::new("s3cret"), verifier: Secret::new("SCRAM-SHA-256$s3cret") },
            verifier_sha256: "00".repeat(32),
            is_new: false,
        }),
        is_password_elsewhere: false,
    }
}

/// The material of a machine that makes another CA.
pub(crate) fn of_new_authority(replace: BTreeSet<ServerName>) -> Material {
    Material { ca_certificate: Some(NEW_CA.to_owned()), ..of(replace) }
}

/// The material of a machine where another CA takes the place of the one that servers use.
pub(crate) fn of_succession(replace: BTreeSet<ServerName>) -> Material {
    let material = of(replace);
    let due = material.certificates_to_replace.keys().map(|name| (name.clone(), Due::Wished)).collect();
    Material {
        former: material.ca_certificate,
        ca_certificate: Some(NEW_CA.to_owned()),
        certificates_to_replace: due,
        ..material
    }
}

/// The material of a machine that does not hold the CA: it issues nothing, and servers that need something are named.
pub(crate) fn held_elsewhere(replace: BTreeSet<ServerName>, needs: &serde_json::Map<String, Value>) -> Material {
    let needs = needs.iter().map(|(name, why)| (name.parse().unwrap(), Due::Unfit(why.as_str().unwrap().to_owned())));
    let elsewhere = Authority {
        server: "a".parse().unwrap(),
        certificate: None,
        maker: Some("ops@laptop1".to_owned()),
        since: Some("2026-05-03T10:00:00Z".parse().unwrap()),
    };
    Material {
        ca_certificate: None,
        elsewhere: Some(elsewhere),
        leaves: BTreeMap::new(),
        certificates_to_replace: needs.collect(),
        replication: None,
        ..of(replace)
    }
}
