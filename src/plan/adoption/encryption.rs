//! Whether sessions of pgstead and a server have TLS in common, by the settings that the server will have: its files' and the
//! inventory's. Clients and standbys use OpenSSL and whatever it knows; pgstead's own sessions know less.

use crate::diagnostic::{Code, Diagnostic};
use crate::plan::adoption::settings::{INVENTORY, Settings};
use crate::plan::seen::Seen;

/// The groups for the exchange of keys that `postgres/` offers, by all names that OpenSSL has for them.
const GROUPS: [&str; 6] = ["x25519", "prime256v1", "secp256r1", "p-256", "secp384r1", "p-384"];

/// Those of them that `ssl_ecdh_curve` can name before version 18, which takes one curve by the one name that OpenSSL keeps for it.
const CURVES: [&str; 2] = ["prime256v1", "secp384r1"];

/// Its suites of TLS 1.3.
const SUITES: [&str; 3] = ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"];

/// Its suites of TLS 1.2 for a certificate with a key on a curve, as those of the topology's CA have.
const CIPHERS: [&str; 3] =
    ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"];

/// What stands between the suites of `ssl_ciphers`. Those of TLS 1.3 have a colon.
const LIST: [char; 4] = [':', ',', ' ', ';'];

/// The versions, the oldest first. An empty value is no limit.
const VERSIONS: [&str; 4] = ["tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3"];
const TLS_1_2: usize = 2;

/// Returns why nobody of pgstead could connect, or nobody at all.
pub(super) fn refusals(seen: Seen<'_>, settings: &Settings<'_>) -> Vec<Diagnostic> {
    let name = &seen.server.name;
    let refused = |parameter: &str, value: &str, set: &str, why: &str, way: &str| {
        let (at, run_again) = match set == INVENTORY {
            true => ("In the inventory", ""),
            false => ("There", ", then: SELECT pg_reload_conf()"),
        };
        Diagnostic::error(
            Code::NoCommonTls,
            format!("server \"{name}\": {parameter} = {value} leaves no TLS for pgstead"),
        )
        .server(name)
        .detail(format!("{set} has it. {why}"))
        .hint(format!("{at}: {way}{run_again}."))
    };
    let mut refusals = Vec::new();
    let version = |name: &str, default: usize| {
        let set = settings.will_have(name);
        let rank = |value: &str| VERSIONS.iter().position(|one| *one == value.to_ascii_lowercase());
        set.map_or(default, |(value, _)| rank(&value).unwrap_or(default))
    };
    let oldest = version("ssl_min_protocol_version", TLS_1_2);
    let newest = version("ssl_max_protocol_version", VERSIONS.len() - 1);
    if let Some((value, set)) = settings.will_have("ssl_max_protocol_version")
        && (newest < TLS_1_2 || newest < oldest)
    {
        let why = match newest < oldest {
            true => "ssl_min_protocol_version is newer, and an instance with TLS does not start like this.",
            false => "Sessions of pgstead begin with TLS 1.2.",
        };
        let way = "set ssl_max_protocol_version to TLSv1.3, or to nothing";
        refusals.push(refused("ssl_max_protocol_version", &value, &set, why, way));
        return refusals;
    }
    // From version 18 on the former name stands for the new one, and the last of both counts.
    let takes_lists = seen.version.has_ssl_groups();
    let names: &[&str] = if takes_lists { &["ssl_ecdh_curve", "ssl_groups"] } else { &["ssl_ecdh_curve"] };
    if let Some((parameter, value, set)) = settings.will_have_one_of(names) {
        let is_shared = match takes_lists {
            true => has_one_of(&value.to_ascii_lowercase(), &[':', '/'], &GROUPS),
            false => CURVES.contains(&value.as_str()),
        };
        if !is_shared {
            let (why, way) = match takes_lists {
                true => (
                    "Sessions of pgstead exchange keys by X25519, P-256 and P-384.",
                    format!("{parameter} = '{value}:prime256v1'"),
                ),
                false => (
                    "Sessions of pgstead exchange keys by prime256v1 and secp384r1, as this version calls them.",
                    format!("{parameter} = 'prime256v1', or take the line out"),
                ),
            };
            refusals.push(refused(&parameter, &value, &set, why, &way));
        }
    }
    if let Some((value, set)) = settings.will_have("ssl_tls13_ciphers")
        && newest > TLS_1_2
        && !value.trim().is_empty()
        && !has_one_of(&value, &[':'], &SUITES)
    {
        let why = "Sessions of pgstead know the suites of AES-GCM and ChaCha20.";
        let way = format!("ssl_tls13_ciphers = '{value}:TLS_AES_128_GCM_SHA256'");
        refusals.push(refused("ssl_tls13_ciphers", &value, &set, why, &way));
    }
    if let Some((value, set)) = settings.will_have("ssl_ciphers")
        && newest == TLS_1_2
        && names_suites_alone(&value)
        && !has_one_of(&value, &LIST, &CIPHERS)
    {
        let why = "With ssl_max_protocol_version = TLSv1.2 it counts for everybody, and a certificate of the topology's CA has a key on a curve: none of these suites can use it.";
        let way = format!("ssl_ciphers = '{value}:ECDHE-ECDSA-AES256-GCM-SHA384'");
        refusals.push(refused("ssl_ciphers", &value, &set, why, &way));
    }
    refusals
}

/// Says whether a list of OpenSSL has one of the names. From version 3.5 on a name may have a mark before it, and DEFAULT is a list.
fn has_one_of(value: &str, separators: &[char], names: &[&str]) -> bool {
    fn plain(one: &str) -> &str {
        one.trim().trim_start_matches(['?', '*'])
    }
    value.split(separators).map(plain).any(|one| one.eq_ignore_ascii_case("default") || names.contains(&one))
}

/// Says whether a list of OpenSSL names single suites and nothing else: what HIGH and its like stand for, only OpenSSL knows.
fn names_suites_alone(value: &str) -> bool {
    let is_suite =
        |one: &str| one.starts_with('!') || one.contains('-') && one.starts_with(|c: char| c.is_ascii_alphanumeric());
    let mut all = value.split(LIST).filter(|one| !one.is_empty());
    all.all(is_suite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_openssl() {
        for (value, has) in [
            ("X25519:prime256v1", true),
            ("secp521r1", false),
            ("secp521r1:P-384", true),
            ("X25519MLKEM768 / *X25519", true),
            ("X25519MLKEM768", false),
            ("DEFAULT:-X448", true),
            ("secp521r1,prime256v1", false),
            ("", false),
        ] {
            assert_eq!(has_one_of(&value.to_ascii_lowercase(), &[':', '/'], &GROUPS), has, "{value}");
        }
        let suites = |value| has_one_of(value, &[':'], &SUITES);
        assert!(suites("TLS_AES_128_CCM_SHA256:TLS_AES_128_GCM_SHA256"));
        assert!(!suites("tls_aes_128_gcm_sha256") && !suites("TLS_AES_128_CCM_SHA256,TLS_AES_128_GCM_SHA256"));
        assert!(has_one_of("AES256-SHA;ECDHE-ECDSA-AES256-GCM-SHA384", &LIST, &CIPHERS));
        assert!(names_suites_alone("ECDHE-RSA-AES256-GCM-SHA384:AES256-SHA:!aNULL"));
        for value in
            ["HIGH:MEDIUM:+3DES:!aNULL", "DEFAULT@SECLEVEL=2", "ECDHE-RSA-AES256-GCM-SHA384:HIGH", "ECDHE+AESGCM"]
        {
            assert!(!names_suites_alone(value), "{value}");
        }
    }
}
