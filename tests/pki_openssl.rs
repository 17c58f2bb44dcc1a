//! `pki/` as the real `openssl` program sees it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::allow_attributes)]

use std::path::Path;
use std::process::Command;
use std::process::Output;

use jiff::Timestamp;
use pgstead::model::address::Address;
use pgstead::model::lifetimes::Lifetimes;
use pgstead::model::name::TopologyName;
use pgstead::pki;
use pgstead::pki::Authority;
use pgstead::pki::CertificatePair;
use pgstead::pki::OperatorSecrets;
use pgstead::pki::StoredSecrets;

struct Set {
    ca: CertificatePair,
    server: CertificatePair,
    client: CertificatePair,
    operator: CertificatePair,
}

fn addresses() -> Vec<Address> {
    ["192.168.1.100", "fd00::1", "Db-1.Example.com"].map(|text| text.parse().unwrap()).to_vec()
}

fn set(topology: &str, now: Timestamp) -> Set {
    let topology: TopologyName = topology.parse().unwrap();
    let ca = pki::create_authority(&topology, "ops@laptop", Lifetimes::default(), now).unwrap();
    let authority = Authority::open(&topology, &ca, Lifetimes::default()).unwrap();
    Set {
        server: authority.issue_server(&"db-a".parse().unwrap(), &addresses(), now).unwrap(),
        client: authority.issue_client(&"db-a".parse().unwrap(), now).unwrap(),
        operator: authority.issue_operator(now).unwrap(),
        ca,
    }
}

fn openssl(dir: &Path, args: &[&str]) -> Output {
    Command::new("openssl").current_dir(dir).args(args).output().expect("these tests need the program openssl")
}

#[test]
fn openssl_verifies_each_certificate_for_its_purpose_only() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let set = set("lab", Timestamp::now());
    let files = [("ca", &set.ca), ("server", &set.server), ("client", &set.client), ("operator", &set.operator)];
    for (name, pair) in files {
        std::fs::write(dir.join(name), &pair.certificate).unwrap();
    }
    let cases = [
        ("server", "sslserver", true),
        ("server", "sslclient", false),
        ("client", "sslclient", true),
        ("client", "sslserver", false),
        ("operator", "sslclient", true),
    ];
    for (file, purpose, good) in cases {
        let output = openssl(dir, &["verify", "-x509_strict", "-CAfile", "ca", "-purpose", purpose, file]);
        assert_eq!(output.status.success(), good, "{file} {purpose}: {output:?}");
    }
    for (option, value, good) in [
        ("-verify_ip", "192.168.1.100", true),
        ("-verify_ip", "fd00::1", true),
        ("-verify_ip", "192.168.1.101", false),
        ("-verify_hostname", "db-a", true),
        ("-verify_hostname", "db-1.example.com", true),
        ("-verify_hostname", "db-b", false),
    ] {
        let output = openssl(dir, &["verify", "-CAfile", "ca", option, value, "server"]);
        assert_eq!(output.status.success(), good, "{option} {value}: {output:?}");
    }
    let text = String::from_utf8(openssl(dir, &["x509", "-in", "server", "-noout", "-text"]).stdout).unwrap();
    for expected in
        ["ecdsa-with-SHA256", "prime256v1", "CN = db-a, O = lab", "CA:FALSE", "TLS Web Server Authentication"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let other = self::set("lab", Timestamp::now());
    std::fs::write(dir.join("other"), &other.server.certificate).unwrap();
    assert!(!openssl(dir, &["verify", "-CAfile", "ca", "other"]).status.success());
}

#[test]
fn openssl_and_we_read_the_same_facts() {
    let dir = tempfile::tempdir().unwrap();
    let now: Timestamp = "2030-06-15T12:00:00Z".parse().unwrap();
    let set = set("lab", now);
    let facts = pki::parse_certificate(&set.server.certificate).unwrap();
    assert_eq!((facts.subject_cn.as_str(), facts.issuer_cn.as_str(), facts.is_ca), ("db-a", "pgstead CA lab", false));
    assert_eq!(facts.dns_names, ["db-1.example.com", "db-a"]);
    assert_eq!(facts.ip_addresses.len(), 2);
    assert_eq!(facts.not_before.to_string(), "2030-06-15T11:00:00Z");
    assert_eq!(facts.days_left(now), i64::from(Lifetimes::default().valid));
    assert_eq!(facts.days_left("2040-01-01T00:00:00Z".parse().unwrap()).signum(), -1);
    assert!(pki::parse_certificate(&set.ca.certificate).unwrap().is_ca);
    std::fs::write(dir.path().join("c"), &set.server.certificate).unwrap();
    let output = openssl(dir.path(), &["x509", "-in", "c", "-noout", "-fingerprint", "-sha256"]).stdout;
    let theirs = String::from_utf8(output).unwrap().trim().rsplit('=').next().unwrap().replace(':', "").to_lowercase();
    assert_eq!(facts.fingerprint_sha256, theirs);
}

#[test]
fn signatures_and_keys_are_told_apart() {
    let now = Timestamp::now();
    let (ours, theirs) = (set("lab", now), set("lab", now));
    pki::verify_signed_by(&ours.server.certificate, &ours.ca.certificate).unwrap();
    assert!(pki::verify_signed_by(&ours.server.certificate, &theirs.ca.certificate).is_err());
    assert!(pki::verify_signed_by(&ours.server.certificate, &ours.client.certificate).is_err());
    assert!(pki::key_matches(&ours.server.certificate, &ours.server.key).unwrap());
    assert!(!pki::key_matches(&ours.server.certificate, &ours.client.key).unwrap());
    let bundle = format!("# old\n{}\n# new\n{}", ours.ca.certificate, theirs.ca.certificate);
    let parts = pki::split_bundle(&bundle).unwrap();
    assert_eq!(parts.len(), 2);
    assert_eq!(
        pki::parse_certificate(&parts[1]).unwrap().fingerprint_sha256,
        pki::parse_certificate(&theirs.ca.certificate).unwrap().fingerprint_sha256
    );
    assert!(pki::parse_certificate("garbage").is_err());
    assert!(pki::parse_certificate(ours.ca.key.expose()).is_err());
    assert!(!format!("{ours:?}", ours = ours.server).contains("PRIVATE"));
}

#[test]
fn odd_names_still_give_valid_certificates() {
    let long = "x".repeat(63);
    let topology: TopologyName = long.parse().unwrap();
    let ca = pki::create_authority(&topology, "ops@laptop", Lifetimes::default(), Timestamp::now()).unwrap();
    let authority = Authority::open(&topology, &ca, Lifetimes::default()).unwrap();
    let pair = authority.issue_server(&"Db_1".parse().unwrap(), &[], Timestamp::now()).unwrap();
    assert!(pki::parse_certificate(&pair.certificate).unwrap().dns_names.is_empty());
    assert_eq!(pki::parse_certificate(&ca.certificate).unwrap().subject_cn.len(), 64);
}

/// Who trusts a former CA alone accepts what its successors sign, and who trusts the newest alone does.
#[test]
fn openssl_verifies_a_successor_by_the_former_ca_and_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (topology, now): (TopologyName, _) = ("lab".parse().unwrap(), Timestamp::now());
    let lifetimes = Lifetimes::default();
    let verifies = |ca: &str, leaf: &str| {
        // The first certificate is the leaf; whoever serves it shows the rest as well.
        let strict = ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ca, "-untrusted", leaf, leaf];
        openssl(dir, &strict).status.success()
    };
    let stored = |ca: &CertificatePair| StoredSecrets { ca: Some(ca.clone()), ..StoredSecrets::default() };
    let complete =
        |stored: StoredSecrets| OperatorSecrets::complete(stored, &topology, "ops@laptop2", lifetimes, now).unwrap().0;
    let write = |name: &str, secrets: &OperatorSecrets| {
        let authority = Authority::open(&topology, &secrets.ca, lifetimes).unwrap().with_chain(&secrets.chain);
        let leaf = authority.issue_server(&"db-a".parse().unwrap(), &addresses(), now).unwrap();
        std::fs::write(dir.join(["ca", name].concat()), &secrets.ca.certificate).unwrap();
        std::fs::write(dir.join(["leaf", name].concat()), leaf.certificate).unwrap();
    };
    let first = pki::create_authority(&topology, "ops@laptop", lifetimes, now).unwrap();
    let one = complete(stored(&first));
    let two = complete(stored(&first).succeed(&topology, "ops@laptop2", lifetimes, now).unwrap());
    assert_eq!(two.former.as_ref(), Some(&first));
    // There is no third before the first has left.
    let again = StoredSecrets { former: two.former.clone(), chain: Some(two.chain.clone()), ..stored(&two.ca) };
    assert_eq!(again.clone().succeed(&topology, "ops@laptop2", lifetimes, now).unwrap(), again);
    let left = StoredSecrets { former: None, ..again };
    let three = complete(left.succeed(&topology, "ops@laptop3", lifetimes, now).unwrap());
    for (name, secrets) in [("1", &one), ("2", &two), ("3", &three)] {
        write(name, secrets);
    }
    for (ca, leaf, good) in [
        ("ca1", "leaf1", true),
        ("ca1", "leaf2", true),
        ("ca2", "leaf2", true),
        ("ca1", "leaf3", true),
        ("ca2", "leaf3", true),
        ("ca3", "leaf3", true),
        ("ca2", "leaf1", false),
        ("ca3", "leaf1", false),
        ("ca3", "leaf2", false),
    ] {
        assert_eq!(verifies(ca, leaf), good, "{leaf} by {ca}");
    }
    // What leads to a CA that has ended leads nowhere, and what a run wrote before it was killed is not the CA's.
    let later = two.ca.clone();
    let ended = now + jiff::SignedDuration::from_hours(24 * 3660);
    let late = StoredSecrets { chain: Some(two.chain.clone()), ..stored(&later) };
    assert_eq!(OperatorSecrets::complete(late, &topology, "ops", lifetimes, ended).unwrap().0.chain, "");
    let killed = StoredSecrets { chain: Some(three.chain.clone()), ..stored(&two.ca) };
    assert_eq!(complete(killed).chain, two.chain);

    // A CA of an earlier release allows none below itself, but of its own name.
    let subject = "/CN=pgstead CA lab/OU=made by ops@laptop";
    let made = openssl(
        dir,
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-noenc",
            "-keyout",
            "key",
            "-out",
            "ca0",
            "-subj",
            subject,
            "-days",
            "3000",
            "-addext",
            "basicConstraints=critical,CA:TRUE,pathlen:0",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ],
    );
    assert!(made.status.success(), "{made:?}");
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let earlier = CertificatePair { certificate: read("ca0"), key: pgstead::model::Secret::new(read("key")) };
    let next = complete(stored(&earlier).succeed(&topology, "ops@laptop2", lifetimes, now).unwrap());
    write("4", &next);
    assert!(verifies("ca0", "leaf4") && verifies("ca4", "leaf4"));
    // Nor does the one after that stand in the way, whoever makes it.
    let chain = Some(next.chain.clone());
    let left = StoredSecrets { chain, ..stored(&next.ca) };
    let last = complete(left.succeed(&topology, "ops@laptop3", lifetimes, now).unwrap());
    write("5", &last);
    assert!(["ca0", "ca4", "ca5"].iter().all(|ca| verifies(ca, "leaf5")));
}
