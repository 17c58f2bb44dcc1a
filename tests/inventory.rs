//! The inventory's cases: one folder each, `inventory.yaml` and what `pgstead validate` would say about it.
//!
//! To add a case, add a folder with an `inventory.yaml` and run with `PGSTEAD_BLESS=1`; then read what it wrote.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;
use std::path::Path;

use pgstead::diagnostic::Diagnostic;
use pgstead::diagnostic::Severity;

fn render(diagnostics: &[Diagnostic]) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        let word = match diagnostic.severity {
            Severity::Error => "ERROR",
            Severity::Warning => "WARNING",
            Severity::Note => "NOTE",
        };
        let _ = writeln!(text, "{word} [{}]: {}", diagnostic.code, diagnostic.message);
        let lines = [("  at ", &diagnostic.at), ("DETAIL: ", &diagnostic.detail), ("HINT: ", &diagnostic.hint)];
        for (label, line) in lines {
            if let Some(line) = line {
                let _ = writeln!(text, "{label}{line}");
            }
        }
    }
    text
}

#[test]
fn cases() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inventory/cases");
    let bless = std::env::var_os("PGSTEAD_BLESS").is_some();
    let mut wrong = Vec::new();
    let mut names: Vec<_> = std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert!(names.len() > 30, "only {} cases were found", names.len());
    for name in names {
        let folder = root.join(&name);
        let text = std::fs::read_to_string(folder.join("inventory.yaml")).unwrap();
        let found = match pgstead::inventory::read(&text, "inventory.yaml") {
            Ok((_, warnings)) => format!("{}valid\n", render(&warnings)),
            Err(problems) => {
                assert!(!problems.is_empty(), "{name:?}: refused without a reason");
                assert!(problems.iter().all(|problem| problem.at.is_some()), "{name:?}: a problem without a place");
                render(&problems)
            }
        };
        let expected_file = folder.join("expected.txt");
        if bless {
            std::fs::write(&expected_file, &found).unwrap();
        } else if std::fs::read_to_string(&expected_file).unwrap_or_default() != found {
            wrong.push(format!("--- {name:?} says now\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "PGSTEAD_BLESS=1 accepts these:\n{}", wrong.join("\n"));
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/inventory.schema.json");
    let schema = format!("{}\n", serde_json::to_string_pretty(&pgstead::inventory::schema::json_schema()).unwrap());
    if std::env::var_os("PGSTEAD_BLESS").is_some() {
        std::fs::write(&file, &schema).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), schema, "PGSTEAD_BLESS=1 writes it");
}

#[test]
fn every_key_of_the_schema_is_explained() {
    let schema = pgstead::inventory::schema::json_schema();
    let mut keys = 0;
    let mut stack = vec![&schema];
    while let Some(node) = stack.pop() {
        if let Some(properties) = node.get("properties").and_then(|properties| properties.as_object()) {
            for (key, property) in properties {
                keys += 1;
                assert!(property.get("description").is_some(), "{key} has no description");
                assert!(
                    pgstead::inventory::init::EXAMPLE.contains(&format!("{key}:")),
                    "inventories/example.yaml does not mention {key}"
                );
            }
        }
        stack.extend(node.as_object().into_iter().flat_map(|object| object.values()));
        stack.extend(node.as_array().into_iter().flatten());
    }
    assert!(keys > 35, "only {keys} keys were found");
}

/// The example says that its thresholds are the defaults.
#[test]
fn the_thresholds_of_the_example_are_the_defaults() {
    let (topology, _) = pgstead::inventory::read(pgstead::inventory::init::EXAMPLE, "example.yaml").unwrap();
    assert_eq!(topology.common().thresholds, pgstead::model::thresholds::Thresholds::default());
    let given = serde_saphyr::from_str::<serde_json::Value>(pgstead::inventory::init::EXAMPLE).unwrap();
    let schema = pgstead::inventory::schema::json_schema();
    let known = schema["$defs"]["Thresholds"]["properties"].as_object().unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut given = keys(&given["thresholds"]);
    given.sort();
    assert_eq!(given, known.keys().cloned().collect::<Vec<_>>());
}

mod hostile {
    use std::net::IpAddr;

    use pgstead::model::Server;
    use pgstead::model::Topology;
    use pgstead::model::hba::Cidr;
    use proptest::prelude::*;
    use serde_json::json;

    /// Every place of the inventory where a text may stand, and whether the model has a text there verbatim.
    type Field = (&'static str, fn(&Topology, &str) -> bool);

    fn b(topology: &Topology) -> &Server {
        topology.servers().find(|server| server.name != *topology.preferred_primary()).unwrap()
    }

    const FIELDS: &[Field] = &[
        ("/topology", |t, x| t.name().as_str() == x),
        ("/purpose", |_, x| x == "lab" || x == "production"),
        ("/postgres/databases/0", |t, x| t.common().databases[0] == x),
        ("/postgres/parameters/log_line_prefix", |t, x| t.common().parameters.values().any(|value| value == x)),
        ("/postgres/hba/0/type", |_, x| x == "hostssl"),
        ("/postgres/hba/0/database", |t, x| t.common().hba[0].database == x),
        ("/postgres/hba/0/user", |t, x| t.common().hba[0].user == x),
        ("/postgres/hba/0/address", |t, x| x.parse::<Cidr>() == Ok(t.common().hba[0].address)),
        ("/postgres/hba/0/method", |t, x| t.common().hba[0].method.as_str() == x),
        ("/sites/main/location", |t, x| t.common().sites.values().any(|site| site.location.as_deref() == Some(x))),
        ("/sites/main/region", |t, x| t.common().sites.values().any(|site| site.region.as_deref() == Some(x))),
        ("/servers/b/address", |t, x| {
            b(t).address.to_string() == x.to_ascii_lowercase() || b(t).address.ip() == x.parse::<IpAddr>().ok()
        }),
        ("/servers/b/site", |t, x| b(t).site.as_str() == x),
        ("/servers/b/kind", |_, x| x == "standby"),
        ("/servers/b/upstream", |_, x| x == "a"),
        ("/servers/b/parameters/work_mem", |t, x| b(t).parameters.values().any(|value| value == x)),
        ("/servers/b/data_directory", |t, x| b(t).data_directory.as_deref() == Some(x)),
        ("/servers/b/tablespaces/fast", |t, x| b(t).tablespaces["fast"] == x),
        ("/servers/b/bin_directory", |t, x| b(t).bin_directory.as_deref() == Some(x)),
        ("/servers/b/service", |t, x| b(t).service.as_deref() == Some(x)),
        ("/servers/b/ssh/user", |t, x| b(t).ssh.user.as_deref() == Some(x)),
        ("/servers/b/ssh/jump", |t, x| b(t).ssh.jump == [x]),
        ("/servers/b/ssh/identity_file", |t, x| b(t).ssh.identity_file.as_ref().is_some_and(|p| p.as_os_str() == x)),
        ("/servers/b/ssh/known_hosts", |t, x| b(t).ssh.known_hosts.as_ref().is_some_and(|p| p.as_os_str() == x)),
        ("/replication/authentication", |_, x| x == "certificate" || x == "scram-sha-256"),
        ("/replication/synchronous", |t, x| x == "off" && t.common().replication.synchronous.is_none()),
        ("/replication/max_slot_wal_keep_size", |t, x| t.common().replication.max_slot_wal_keep_size == x),
    ];

    /// Mappings whose keys are names.
    const KEYS: &[Field] = &[
        ("/servers", |t, x| t.servers().any(|server| server.name.as_str() == x)),
        ("/sites", |t, x| t.common().sites.keys().any(|name| name.as_str() == x)),
        ("/postgres/parameters", |t, x| {
            t.common().parameters.keys().any(|name| name.as_str() == x.to_ascii_lowercase())
        }),
        ("/servers/b/tablespaces", |_, _| false),
    ];

    fn inventory() -> serde_json::Value {
        json!({
            "topology": "t", "purpose": "lab",
            "postgres": {
                "version": 15, "databases": ["d"], "parameters": {"log_line_prefix": "x"},
                "hba": [{"type": "hostssl", "database": "d", "user": "u", "address": "10.0.0.0/16", "method": "cert"}],
            },
            "sites": {"main": {"location": "x", "region": "y"}},
            "servers": {
                "a": {"address": "10.0.0.1", "site": "main", "kind": "primary", "tablespaces": {"fast": "/fast"}},
                "b": {
                    "address": "10.0.0.2", "site": "main", "kind": "standby", "upstream": "a",
                    "parameters": {"work_mem": "4MB"}, "data_directory": "/srv/pg", "tablespaces": {"fast": "/fast"},
                    "bin_directory": "/opt/pg/bin", "service": "pg_ctl",
                    "ssh": {"user": "ops", "jump": "bastion", "identity_file": "k", "known_hosts": "h"},
                },
            },
            "replication": {"authentication": "certificate", "synchronous": "off", "max_slot_wal_keep_size": "64GB"},
        })
    }

    fn hostile_text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-zA-Z0-9/._@:-]{0,6}",
            proptest::sample::select(vec![
                "$(reboot)",
                "`id`",
                "'",
                "\"",
                "\n",
                "\r",
                "\0",
                "\t",
                " ",
                ";",
                "|",
                "&",
                "\\",
                "-",
                "..",
                "/",
                "%h",
                "${HOME}",
                "\u{1b}[2J",
                "\u{85}",
                "\u{202e}",
                "#",
                "=",
                ",",
                "*",
                "~",
                "!",
                "\u{feff}",
                "é",
                "库",
            ])
            .prop_map(str::to_owned),
        ];
        prop_oneof![any::<String>(), proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())]
    }

    #[test]
    fn the_untouched_inventory_is_valid_and_every_field_is_there() {
        let inventory = inventory();
        let (topology, _) = pgstead::inventory::read(&inventory.to_string(), "i").unwrap();
        for (pointer, verbatim) in FIELDS {
            let text = inventory.pointer(pointer).unwrap().as_str().unwrap();
            assert!(verbatim(&topology, text), "{pointer}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1500))]

        #[test]
        fn a_text_is_refused_or_taken_verbatim(field in proptest::sample::select(FIELDS), text in hostile_text()) {
            let mut inventory = inventory();
            *inventory.pointer_mut(field.0).unwrap() = json!(text);
            if let Ok((topology, _)) = pgstead::inventory::read(&inventory.to_string(), "i") {
                prop_assert!(field.1(&topology, &text), "{} became something else than {text:?}", field.0);
                let control = text.chars().any(|c| c.is_control() || c == '\u{202e}');
                prop_assert!(!control, "{} took {text:?}", field.0);
            }
        }

        #[test]
        fn a_key_is_refused_or_taken_verbatim(field in proptest::sample::select(KEYS), text in hostile_text()) {
            let mut inventory = inventory();
            let value = match field.0 {
                "/servers" => json!({"address": "10.0.0.3", "site": "main", "kind": "standby", "tablespaces": {"fast": "/f"}}),
                "/sites" => json!({}),
                _ => json!("/x"),
            };
            let known = inventory.pointer(field.0).unwrap().get(&text).is_some();
            prop_assume!(!known);
            inventory.pointer_mut(field.0).unwrap()[&text] = value;
            if let Ok((topology, _)) = pgstead::inventory::read(&inventory.to_string(), "i") {
                prop_assert!(field.1(&topology, &text), "{} became something else than {text:?}", field.0);
            }
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[ -~\n{}\\[\\]:,&*!?|>'\"%@`#-]{0,200}") {
            let _ = pgstead::inventory::read(&text, "i");
            let _ = pgstead::inventory::init::convert(&text, "i");
        }
    }
}
