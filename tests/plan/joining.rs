//! Standbys that somebody made by hand of the primary of base `adoptable`, as a look finds them: `joins` of a case names each with
//! the server that it follows, where wished its slot, and what it calls itself.
//!
//! Their files are those of the primary, as `pg_basebackup -R` with Debian's tools leaves them; their WAL is the primary's. What
//! differs in a case is patched over it.

use serde_json::Value;
use serde_json::json;

/// How far the WAL of each reaches.
const END: &str = "0/1B84838";

/// Puts the standbys into an observation.
pub(crate) fn add(observation: &mut Value, joins: &Value) {
    let primary = observation["servers"]["a"]["known"].clone();
    let address = |name: &str| {
        [
            "10.213.0.1",
            match name {
                "a" => "1",
                "b" => "2",
                _ => "3",
            },
        ]
        .concat()
    };
    for (index, (name, join)) in joins.as_object().unwrap().iter().enumerate() {
        let (from, slot, pid) = (join["from"].as_str().unwrap(), join["slot"].as_str(), 700 + index);
        let auto = "/var/lib/postgresql/15/main/postgresql.auto.conf";
        let conninfo = format!("user=copier password=s3cret host={} port=5432", address(from));
        let known = &mut observation["servers"][name]["known"];
        for key in ["listener", "service", "version"] {
            known[key] = primary[key].clone();
        }
        for (path, fact) in primary["files"].as_object().unwrap().iter().filter(|(path, _)| path.starts_with("/etc/")) {
            known["files"][path] = fact.clone();
        }
        let mut data = primary["data_directory"].clone();
        data["known"]["standby_signal"] = true.into();
        data["known"]["control"]["known"]["state"] = "in archive recovery".into();
        known["data_directory"] = data;
        let mut instance = primary["instance"]["known"].clone();
        instance["in_recovery"] = true.into();
        instance["positions"] = json!({ "current": null, "receive": END, "replay": END });
        let set = |name: &str, value: &str| json!({ "file": auto, "name": name, "setting": value, "line": 3 });
        let settings = instance["file_settings"].as_array_mut().unwrap();
        settings.push(set("primary_conninfo", &conninfo));
        settings.extend(slot.map(|slot| set("primary_slot_name", slot)));
        instance["settings"]["primary_conninfo"]["setting"] = conninfo.clone().into();
        instance["settings"]["primary_slot_name"]["setting"] = slot.unwrap_or_default().into();
        instance["receiver"] = json!({
            "status": "streaming", "sender_host": address(from), "sender_port": 5432, "slot_name": slot,
            "conninfo": conninfo.replace("s3cret", "********"), "received_timeline": 1, "latest_end_lsn": END,
        });
        (instance["senders"], instance["slots"]) = (json!([]), json!({}));
        known["instance"] = json!({ "known": instance });
        let upstream = &mut observation["servers"][from]["known"]["instance"]["known"];
        let called = join["called"].as_str().unwrap_or("walreceiver");
        upstream["senders"].as_array_mut().unwrap().push(json!({
            "pid": pid, "usename": "copier", "application_name": called, "client_addr": address(name),
            "state": "streaming", "sync_state": "async", "sent_lsn": END, "flush_lsn": END, "replay_lsn": END,
            "reply_time_us": 0, "ssl": false, "tls_version": null, "client_dn": null, "slot_name": slot,
        }));
        if let Some(slot) = slot {
            upstream["slots"][slot] = json!({
                "slot_type": "physical", "active": true, "active_pid": pid, "wal_status": "reserved", "restart_lsn": END,
                "safe_wal_size": null,
            });
        }
        let wal = json!({ "known": {
            "histories": {}, "last": { "known": { "000000010000000000000001": "1a1a" } }, "earlier": "absent",
        } });
        observation["histories"][name] = json!({
            "question": {
                "joining": name, "upstream": "a", "timeline": 1, "end": END, "upstream_timeline": 1, "segment_bytes": 16777216,
            },
            "joining": wal, "upstream": wal,
        });
    }
}
