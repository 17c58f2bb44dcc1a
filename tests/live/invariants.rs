//! What must hold after every fault (hazards.md, section 5), judged by outcomes on the hosts: psql, systemctl, ls, ps.
//!
//! Shares nothing with pgstead's own checks. Every broken invariant is named, not the first alone.

use std::time::Duration;
use std::time::Instant;

use serde_json::Value;

use crate::scenario::Ran;
use crate::scenario::Scenario;
use crate::scenario::chain;
use crate::scenario::until;
use crate::traces::Sample;
use crate::traces::Traces;

/// Returns what is broken, a line each, after a run of which success was demanded.
pub(crate) fn broken(lab: &Scenario, traces: &Traces, last: &Ran) -> Vec<String> {
    broken_among(lab, traces, last, &[&primary(lab)])
}

/// The same where several were the primary, one after the other.
pub(crate) fn broken_among(lab: &Scenario, traces: &Traces, last: &Ran, primaries: &[&str]) -> Vec<String> {
    let mut broken = Vec::new();
    broken.extend(one_writer_among(lab, traces, primaries));
    broken.extend(incomplete_runs(lab));
    broken.extend(works_or_says_why(lab, last));
    broken.extend(ledger(lab, traces));
    broken.extend(effective(lab));
    broken.extend(secrets(lab));
    broken.extend(again(lab));
    broken.extend(leaked(lab));
    broken
}

/// Demands that nothing is broken.
#[track_caller]
pub(crate) fn invariants(lab: &Scenario, traces: &Traces, last: &Ran) {
    let broken = broken(lab, traces, last);
    assert!(broken.is_empty(), "{} invariants are broken:\n{}\nafter {last}", broken.len(), broken.join("\n"));
}

/// Returns the standbys of the inventory with their upstreams.
pub(crate) fn links(lab: &Scenario) -> Vec<(String, String)> {
    let servers = lab.inventory["servers"].as_object().unwrap();
    let primary = primary(lab);
    let standbys = servers.iter().filter(|(name, _)| **name != primary);
    standbys.map(|(name, server)| (server["upstream"].as_str().unwrap_or(&primary).to_owned(), name.clone())).collect()
}

fn primary(lab: &Scenario) -> String {
    if let Some(name) = &lab.moved_to {
        return name.clone();
    }
    let servers = lab.inventory["servers"].as_object().unwrap();
    servers.iter().find(|(_, server)| server["kind"] == "primary").unwrap().0.clone()
}

fn names(lab: &Scenario) -> Vec<String> {
    lab.inventory["servers"].as_object().unwrap().keys().cloned().collect()
}

fn major(lab: &Scenario) -> u64 {
    lab.inventory["postgres"]["version"].as_u64().unwrap()
}

/// Runs SQL and makes of a failure what the answer is compared with.
fn ask(lab: &Scenario, host: &str, sql: &str) -> String {
    lab.host(host).psql(lab.port, "postgres", sql).unwrap_or_else(|error| chain(&error))
}

/// I1: no two servers would ever have taken writes at the same time, and only the primary ever did.
pub(crate) fn one_writer(lab: &Scenario, traces: &Traces) -> Vec<String> {
    one_writer_among(lab, traces, &[&primary(lab)])
}

fn one_writer_among(lab: &Scenario, traces: &Traces, primaries: &[&str]) -> Vec<String> {
    let mut broken = never_two(traces);
    for (host, samples) in &traces.samples {
        if let Some(at) = writable(samples).first().filter(|_| !primaries.contains(&host.as_str())) {
            broken.push(format!("I1: {host}, which is no primary, was writable at {at:?}"));
        }
        if names(lab).contains(host) && samples.len() < 3 {
            broken.push(format!("I1: {host} was looked at {} times: nothing is known of it", samples.len()));
        }
    }
    broken
}

/// The first half of I1, where the primary changes.
pub(crate) fn never_two(traces: &Traces) -> Vec<String> {
    let mut broken = Vec::new();
    let spans: Vec<(&str, Vec<(u64, u64)>)> =
        traces.samples.iter().map(|(host, samples)| (host.as_str(), writable(samples))).collect();
    for (index, (one, of_one)) in spans.iter().enumerate() {
        for (other, of_other) in &spans[index + 1..] {
            let both = of_one.iter().find(|a| of_other.iter().any(|b| a.0 <= b.1 && b.0 <= a.1));
            broken.extend(both.map(|at| format!("I1: {one} and {other} were both writable at {}", at.0)));
        }
    }
    broken
}

/// The spans in which every look found it writable; a second without a look ends one.
fn writable(samples: &[Sample]) -> Vec<(u64, u64)> {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    let mut before: Option<Sample> = None;
    for sample in samples {
        if sample.writable {
            match spans.last_mut() {
                Some(span) if before.is_some_and(|b| b.writable && sample.at.saturating_sub(b.at) < 1_000) => {
                    span.1 = sample.at;
                }
                _ => spans.push((sample.at, sample.at)),
            }
        }
        before = Some(*sample);
    }
    spans
}

/// I2: every acknowledged row is on the primary, and comes to every standby.
pub(crate) fn ledger(lab: &Scenario, traces: &Traces) -> Vec<String> {
    if traces.acknowledged.is_empty() {
        return Vec::new();
    }
    let mut broken = Vec::new();
    let primary = primary(lab);
    let standbys = names(lab).into_iter().filter(|name| *name != primary);
    for name in std::iter::once(primary.clone()).chain(standbys) {
        if !broken.is_empty() {
            // What the primary lacks comes to no standby.
            break;
        }
        let mut missing = vec!["not asked".to_owned()];
        let patience = Duration::from_secs(if name == primary { 1 } else { 15 });
        until(Instant::now() + patience, || {
            let there = ask(lab, &name, "SELECT coalesce(string_agg(id::text, ' '), '') FROM ledger");
            let there: std::collections::BTreeSet<&str> = there.split(' ').collect();
            missing =
                traces.acknowledged.iter().map(u64::to_string).filter(|id| !there.contains(id.as_str())).collect();
            missing.is_empty()
        });
        if !missing.is_empty() {
            let (n, all) = (missing.len(), traces.acknowledged.len());
            broken.push(format!("I2: {n} of {all} acknowledged rows are not on {name}, such as {}", missing[0]));
        }
    }
    broken
}

/// I3: whatever runs is a whole data directory in its place.
pub(crate) fn incomplete_runs(lab: &Scenario) -> Vec<String> {
    // A postmaster is who has a postmaster.pid in its working directory with its own id in it.
    const LOOK: &str = "for p in $(pgrep -x postgres) $(pgrep -x postmaster); do d=$(readlink /proc/$p/cwd) || continue; \
        [ \"$(head -n 1 $d/postmaster.pid 2>/dev/null)\" = $p ] || continue; \
        [ -s $d/pgstead.identity ] && m=marked || m=unmarked; echo $d $m; done";
    let mut broken = Vec::new();
    for host in lab.lab().hosts() {
        let place = format!("/var/lib/postgresql/{}/main", major(lab));
        for line in host.run(&["sh", "-c", LOOK]).unwrap_or_else(|error| chain(&error)).lines() {
            if line != format!("{place} marked") {
                broken.push(format!("I3: on {} runs: {line}", host.name()));
            }
        }
    }
    broken
}

/// I4: nothing is left of what was under way.
pub(crate) fn leaked(lab: &Scenario) -> Vec<String> {
    const LOOK: &str = "systemctl list-units --all --plain --no-legend 'pgstead-*' | sed 's/^/unit /'; \
        for p in pg_basebackup pg_verifybackup initdb strace; do pgrep -a -x \"$p\" | sed 's/^/process /'; done; \
        find /var/lib/pgstead /var/lib/postgresql /etc/postgresql \\( -name lock -path '/var/lib/pgstead/*' -o -name '*.new' \
        -o -name '*.pgstead-new' -o -name '*.pgstead-check' -o -name '*.seed.*' -o -name 'job.*' \\) -prune -print 2>/dev/null \
        | sed 's/^/file /'; exit 0";
    let mut broken = Vec::new();
    let links = links(lab);
    for name in names(lab) {
        let left = lab.host(&name).run(&["sh", "-c", LOOK]).unwrap_or_else(|error| chain(&error));
        broken.extend(left.lines().map(|line| format!("I4: left on {name}: {line}")));
        let standbys: Vec<&str> = links.iter().filter(|(up, _)| *up == name).map(|(_, down)| down.as_str()).collect();
        let slots = "SELECT coalesce(string_agg(slot_name || ' ' || active, ', ' ORDER BY slot_name), '') \
            FROM pg_replication_slots";
        let senders = "SELECT coalesce(string_agg(application_name || ' ' || state, ', ' ORDER BY application_name), '') \
            FROM pg_stat_replication";
        for (what, sql, state) in [("slots", slots, "true"), ("walsenders", senders, "streaming")] {
            let wanted: Vec<String> = standbys.iter().map(|name| format!("{name} {state}")).collect();
            let wanted = wanted.join(", ");
            let mut found = String::new();
            until(Instant::now() + Duration::from_secs(10), || {
                found = ask(lab, &name, sql);
                found == wanted
            });
            if found != wanted {
                broken.push(format!("I4: {what} of {name}: {found}; not: {wanted}"));
            }
        }
    }
    // A master outlives a killed run by some seconds, as it promises.
    let mut left = Vec::new();
    until(Instant::now() + Duration::from_secs(12), || {
        left = on_operators_side(lab);
        left.is_empty()
    });
    broken.extend(left.into_iter().map(|what| format!("I4: left on the operator's side: {what}")));
    broken
}

fn on_operators_side(lab: &Scenario) -> Vec<String> {
    let runtime = lab.runtime();
    let mut left: Vec<String> = Vec::new();
    left.extend(std::fs::read_dir(&runtime).unwrap().flatten().map(|entry| entry.path().display().to_string()));
    let place = runtime.display().to_string();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&place) {
            left.push(line);
        }
    }
    left
}

/// I5: the same command again has nothing to do, and says so.
pub(crate) fn again(lab: &Scenario) -> Vec<String> {
    let ran = lab.pgstead(&["bootstrap", "--yes", "--format", "json"]);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    match ran.code == 0 && document["changed"] == false {
        true => Vec::new(),
        false => vec![format!("I5: the same command again: {ran}")],
    }
}

/// I5 for a run that was refused: whoever reads it knows the next command.
pub(crate) fn refusal_helps(ran: &Ran) -> Vec<String> {
    let document: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    let told: Vec<&Value> =
        ["refusals", "errors"].iter().filter_map(|key| document[key].as_array()).flatten().collect();
    if ran.code == 0 || told.is_empty() {
        return vec![format!("I5: neither success nor a refusal: {ran}")];
    }
    let silent = told.into_iter().filter(|refusal| refusal["hint"].as_str().is_none_or(str::is_empty));
    silent.map(|refusal| format!("I5: no next command: {refusal}")).collect()
}

/// I6: what the operator keeps secret shows nowhere on a host but where it belongs, and there to its owner alone.
pub(crate) fn secrets(lab: &Scenario) -> Vec<String> {
    // The patterns go to grep by a file in memory, so that looking does not leak them.
    const LOOK: &str = "umask 077; cat >/dev/shm/patterns; cd /; \
        journalctl --output=export --no-pager | grep -aFqf /dev/shm/patterns && echo the journal; \
        for p in /proc/[0-9]*; do for f in cmdline environ; do \
        grep -aFqf /dev/shm/patterns $p/$f 2>/dev/null && echo $p/$f; done; done; \
        grep -arlFf /dev/shm/patterns /var/log /var/lib/postgresql /etc /tmp /var/tmp /root /home /run/systemd 2>/dev/null; \
        find /var/lib/pgstead -type f ! -name passfile ! -path '*/tls*/*.key' -exec grep -alFf /dev/shm/patterns {} +; \
        find /var/lib/pgstead -type f \\( -name passfile -o -name '*.key' \\) ! -perm 0600 -printf '%p %m\\n'; \
        rm /dev/shm/patterns; exit 0";
    let mut patterns = String::new();
    let mut add = |text: &str, is_key: bool| {
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("-----") && !line.is_empty()).collect();
        // The last whole line of a key, or all of a password.
        let line = lines.iter().rev().find(|line| !is_key || line.len() >= 40);
        patterns.extend(line.map(|line| format!("{line}\n")));
    };
    for entry in std::fs::read_dir(lab.state()).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".key") || name.ends_with(".password") {
            add(&std::fs::read_to_string(entry.path()).unwrap(), name.ends_with(".key"));
        }
    }
    for name in names(lab) {
        let keys = lab.host(&name).run(&["sh", "-c", "for k in /var/lib/pgstead/*/*/tls/*.key; do cat $k; echo; done"]);
        for key in keys.unwrap_or_default().split("-----BEGIN").skip(1) {
            add(key, true);
        }
    }
    if patterns.lines().count() < 2 {
        return vec!["I6: there are no secrets to look for".to_owned()];
    }
    let look = &|name: &String| {
        let found = lab.host(name).exec_with_input(&["sh", "-c", LOOK], patterns.as_bytes()).unwrap();
        let text = [found.stdout, found.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().map(|place| format!("I6: a secret shows on {name}: {place}")).collect::<Vec<_>>()
    };
    // All hosts at once: this is the longest look.
    let names = names(lab);
    std::thread::scope(|scope| {
        let looks: Vec<_> = names.iter().map(|name| scope.spawn(move || look(name))).collect();
        looks.into_iter().flat_map(|look| look.join().unwrap()).collect()
    })
}

/// I7: success means that every link works, seen from both ends and by a row; and no success means that something is said.
pub(crate) fn works_or_says_why(lab: &Scenario, last: &Ran) -> Vec<String> {
    let mut broken = Vec::new();
    let mut bad: Vec<String> = Vec::new();
    let links = links(lab);
    for (upstream, standby) in &links {
        let sql = format!(
            "SELECT concat_ws(' ', r.state, s.ssl, l.slot_name, s.client_dn, l.wal_status) FROM pg_stat_replication r \
             JOIN pg_stat_ssl s USING (pid) JOIN pg_replication_slots l ON l.active_pid = r.pid \
             WHERE r.application_name = '{standby}' AND r.usename = 'replicator'"
        );
        let topology = lab.inventory["topology"].as_str().unwrap();
        let wanted = format!("streaming t {standby} /CN={standby}/O={topology} reserved");
        let seen = ask(lab, upstream, &sql);
        if seen != wanted {
            bad.push(format!("{upstream} sees {standby} as: {seen}; not: {wanted}"));
        }
        let own = "SELECT concat_ws(' ', w.status, w.slot_name, pg_get_wal_replay_pause_state(), \
            position('sslmode=verify-full' IN w.conninfo) > 0) FROM pg_stat_wal_receiver w";
        let (wanted, seen) = (format!("streaming {standby} not paused t"), ask(lab, standby, own));
        if seen != wanted {
            bad.push(format!("{standby} sees itself as: {seen}; not: {wanted}"));
        }
    }
    let row = "CREATE TABLE IF NOT EXISTS arrives (id bigserial, at timestamptz DEFAULT clock_timestamp()); \
        INSERT INTO arrives DEFAULT VALUES RETURNING id";
    let id = ask(lab, &primary(lab), row);
    for (_, standby) in &links {
        let mut there = String::new();
        until(Instant::now() + Duration::from_secs(10), || {
            there = ask(lab, standby, &format!("SELECT id FROM arrives WHERE id::text = '{id}'"));
            there == id
        });
        if there != id {
            bad.push(format!("row {id} does not come to {standby}: {there}"));
        }
    }
    if last.code == 0 {
        broken.extend(bad.into_iter().map(|bad| format!("I7: exit 0, but {bad}")));
    } else if bad.is_empty() {
        broken.push(format!("I7: every link works, but {last}"));
    }
    broken
}

/// I8: what is in the files is what the servers do, now and after a restart.
pub(crate) fn effective(lab: &Scenario) -> Vec<String> {
    let bad = "WITH file AS (SELECT DISTINCT ON (lower(name)) * FROM pg_file_settings ORDER BY lower(name), seqno DESC) \
        SELECT 'in a file: ' || concat_ws(' ', sourcefile, sourceline, name, error) FROM pg_file_settings WHERE error IS NOT NULL \
        UNION ALL SELECT 'not in force: ' || f.name || ' = ' || f.setting || ', but ' || s.setting FROM file f \
          JOIN pg_settings s ON lower(s.name) = lower(f.name) \
          WHERE (s.sourcefile, s.sourceline) IS DISTINCT FROM (f.sourcefile, f.sourceline) AND s.source <> 'override' \
        UNION ALL SELECT 'waits for a restart: ' || name FROM pg_settings WHERE pending_restart \
        UNION ALL SELECT 'pg_hba.conf: ' || concat_ws(' ', line_number, error) FROM pg_hba_file_rules WHERE error IS NOT NULL \
        UNION ALL SELECT 'not read since it changed: ' || path FROM (SELECT DISTINCT sourcefile AS path FROM pg_file_settings \
          UNION SELECT current_setting('hba_file') UNION SELECT current_setting('ident_file')) files \
          WHERE (pg_stat_file(path)).modification > date_trunc('second', pg_conf_load_time())";
    let mut broken = Vec::new();
    for name in names(lab) {
        broken.extend(ask(lab, &name, bad).lines().map(|line| format!("I8: {name}: {line}")));
    }
    broken
}
