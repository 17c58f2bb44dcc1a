//! Turns the probe's records about directories beside the data directory into facts. Pure.

use crate::model::beside::{BesideFact, BesideKind};
use crate::observe::parse::{MapParsed, parse_control};
use crate::observe::records::Records;

/// Parses what stands beside the data directory.
pub fn parse_beside(records: &Records) -> Vec<BesideFact> {
    records.with_prefix("beside.").filter_map(|(number, value)| parse_one(records, number, value.known()?)).collect()
}

fn parse_one(records: &Records, number: &str, text: &str) -> Option<BesideFact> {
    let of = |fact: &str| records.get(&[fact, ".", number].concat());
    let (words, path) = text.split_once('\n')?;
    let mut words = words.split_whitespace();
    let kind = match words.next()? {
        "directory" => BesideKind::Directory,
        "link" => BesideKind::Link,
        "data" => BesideKind::DataDirectory,
        _ => BesideKind::Other,
    };
    Some(BesideFact {
        path: path.to_owned(),
        kind,
        entries: words.next()?.parse().ok()?,
        owner: words.next()?.to_owned(),
        modified_s: words.next()?.parse().ok()?,
        mount: of("beside_mount"),
        process: of("beside_process").map_parsed(|text| text.trim().parse().ok()),
        identity: of("beside_identity"),
        control: of("beside_control").map_parsed(parse_control),
        leads_to: of("beside_leads").known().map_or(Vec::new(), |text| text.lines().map(str::to_owned).collect()),
        bytes: of("beside_bytes").map_parsed(|text| text.trim().parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::observed::Observed;

    #[test]
    fn three_answers_stay_three() {
        let answer = b"#beside.1 43\ndirectory 3 postgres 1790000000\n/srv/d.seed.r\n#beside_mount.1 -\n#beside_process.1 2\n42\n\
            #beside_leads.1 10\n/srv/fast\n\n#beside_bytes.1 ! counting took more than 10 s\n#end 2\nok\n";
        let length = "directory 3 postgres 1790000000\n/srv/d.seed.r".len();
        let answer = String::from_utf8_lossy(answer).replacen("43", &length.to_string(), 1);
        let facts = parse_beside(&Records::parse(answer.as_bytes()).unwrap());
        let [fact] = facts.as_slice() else { panic!("{facts:?}") };
        assert_eq!((fact.path.as_str(), fact.kind, fact.entries), ("/srv/d.seed.r", BesideKind::Directory, 3));
        assert_eq!((&fact.mount, &fact.process), (&Observed::Absent, &Observed::Known(42)));
        assert_eq!((fact.leads_to.as_slice(), fact.identity.known()), (&["/srv/fast".to_owned()][..], None));
        assert!(fact.bytes.unreadable().is_some_and(|why| why.contains("10 s")));
    }
}
