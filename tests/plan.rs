//! The plan's cases: one folder each. To add a case, add a folder with a `case.json` and run with `PGSTEAD_BLESS=1`;
//! then read the `expected.txt` that it wrote.
//!
//! A case names a base, `bare`, `adoptable` (an existing primary and two bare servers) or `running` (all captured from real
//! hosts), and what differs from it: a JSON merge patch (RFC 7386) for the inventory and one for the observation. With
//! `reseed`, a case is about that operation: a server, and where wished `method` and `accept_divergence`. With `switchover`
//! it is about that one: `to` a server, or `abort`; with `failover` about that: `to`, `accept_loss`, `attested`, `lost`, and `receives` where
//! standbys go on receiving from a server that does not run; `roles` are role files that an interrupted run left, and `settled` is a
//! change of the inventory that a bootstrap has carried out before. With `rotate`, a case is about new certificates of these servers,
//! or of all; `needs` are servers whose own do not serve. With `succession`, it is about another CA, of which these servers have
//! certificates already; with `release`, about pgstead's leaving; with `remove`, about taking a `server` out, with `keep_running` where wished; with `replace`, about new hardware for a server; with `in_rotation`, that has been begun. With `new_authority`, one has another CA, and `renewed` names servers that have certificates of it already. With
//! `rotate_passwords`, it is about other passwords of these roles, or of role replicator. With
//! `passwords`, this machine knows those of application roles; with `sql`, the text of steps whose title has this word is shown. With
//! `joins`, a case has standbys that somebody made by hand (`plan/joining.rs`). With
//! `lines`, a case shows only the lines of installed files that begin with one of these words. The files of a running base
//! are those that the plan itself wants for the unpatched inventory, so that templates can change without a new capture.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "plan/footprint.rs"]
mod footprint;
#[path = "plan/joining.rs"]
mod joining;
#[path = "plan/looks.rs"]
mod looks;
#[path = "plan/material.rs"]
mod material;
#[path = "plan/roles.rs"]
mod roles;
#[path = "plan/settled.rs"]
mod settled;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use pgstead::diagnostic::Diagnostic;
use pgstead::model::ServerName;
use pgstead::model::Topology;
use pgstead::model::argv::Argv;
use pgstead::model::lost::Lost;
use pgstead::model::observation::Observation;
use pgstead::model::observed::Observed;
use pgstead::model::wal::WalQuestion;
use pgstead::plan::Action;
use pgstead::plan::Consent;
use pgstead::plan::Hook;
use pgstead::plan::Material;
use pgstead::plan::Plan;
use pgstead::plan::SettingChange;
use pgstead::plan::material::Due;
use pgstead::plan::operation::failover;
use pgstead::plan::operation::release;
use pgstead::plan::operation::remove;
use pgstead::plan::operation::replace;
use pgstead::plan::operation::reseed;
use pgstead::plan::operation::reseed::Cost;
use pgstead::plan::operation::reseed::Request;
use pgstead::plan::operation::reseed::Rung;
use pgstead::plan::operation::reseed::room::Need;
use pgstead::plan::operation::rotate;
use pgstead::plan::operation::rotate::passwords;
use pgstead::plan::operation::rotate::succession;
use pgstead::plan::operation::switchover;
use pgstead::plan::operation::switchover::Switchover;
use pgstead::plan::plan_abort;
use pgstead::plan::plan_bootstrap;
use pgstead::plan::plan_failover;
use pgstead::plan::plan_switchover;
use pgstead::plan::survey::password;
use serde_json::Value;

use crate::settled::set_role;
use crate::settled::settle;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plan"))
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Default::default());
    }
    let Value::Object(target) = target else { unreachable!() };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

fn topology(inventory: &Value) -> Topology {
    pgstead::inventory::read(&inventory.to_string(), "inventory")
        .map_err(|problems| format!("{problems:#?}"))
        .unwrap()
        .0
}

fn diagnostics(text: &mut String, word: &str, all: &[Diagnostic]) {
    for one in all {
        let _ = writeln!(text, "{word} [{}]: {}", one.code, one.message);
        for (label, line) in [("  DETAIL: ", &one.detail), ("  HINT: ", &one.hint)] {
            if let Some(line) = line {
                let _ = writeln!(text, "{label}{line}");
            }
        }
    }
}

/// Returns the lines of new files that a case is about: whatever begins with one of its words.
fn lines(plan: &Plan, words: &[&str]) -> String {
    let mut text = String::new();
    for planned in &plan.steps {
        let Some(server) = &planned.step.server else { continue };
        for after in planned.step.files.iter().filter_map(|file| file.after.as_deref()) {
            for line in after.lines().filter(|line| words.iter().any(|word| line.starts_with(word))) {
                let _ = writeln!(text, "{server}: {line}");
            }
        }
    }
    text
}

/// Scripts are fixed texts of their own; a case is about who runs what with which arguments.
fn line(command: &Argv) -> String {
    let words: Vec<&str> =
        command.args.iter().map(|word| if word.contains('\n') { "…" } else { word.as_str() }).collect();
    format!("{:?} {} {}", command.run_as, command.program, words.join(" "))
}

fn show(plan: &Plan) -> String {
    let mut text = String::new();
    for planned in &plan.steps {
        let step = &planned.step;
        let server = step.server.as_ref().map_or("-", ServerName::as_str);
        let after: Vec<String> = planned.after.iter().map(|id| id.0.to_string()).collect();
        let _ = write!(text, "{} {server} {:?}: {}", planned.id.0, step.risk, step.title);
        let _ = writeln!(
            text,
            "{}",
            if after.is_empty() { String::new() } else { format!(" [after {}]", after.join(", ")) }
        );
        for file in &step.files {
            match (&file.before, &file.after) {
                (Some(before), Some(after)) => {
                    let _ = writeln!(text, "    ~ {}", file.path);
                    let diff = similar::TextDiff::from_lines(before, after);
                    for change in diff.iter_all_changes().filter(|change| change.tag() != similar::ChangeTag::Equal) {
                        let _ = write!(text, "      {}{}", change.tag(), change.value());
                    }
                }
                (None, Some(after)) => drop(writeln!(text, "    + {} ({} lines)", file.path, after.lines().count())),
                (_, None) => drop(writeln!(text, "    * {} (secret)", file.path)),
            }
        }
        if let Action::Copy(copying) = &step.action
            && copying.sender != copying.room.server
        {
            let _ = writeln!(
                text,
                "    {} sends, {} keeps the WAL and its room is watched",
                copying.sender, copying.room.server
            );
        }
        for command in step.commands() {
            let _ = writeln!(text, "    $ {}", line(command));
        }
        if let Action::HandOver(hand_over) = &step.action {
            for (server, command) in
                hand_over.pause.iter().flat_map(|(server, all)| all.iter().map(move |one| (server, one)))
            {
                let _ = writeln!(text, "    before that: {server} $ {}", line(command));
            }
            let _ = writeln!(text, "    then: {} $ {}", hand_over.to, line(&hand_over.promote));
            for (when, undo) in [("running", &hand_over.unmark), ("stopped", &hand_over.undo)] {
                for (server, command) in undo.iter().flat_map(|(server, all)| all.iter().map(move |one| (server, one)))
                {
                    let _ =
                        writeln!(text, "    if not, and {} is {when}: {server} $ {}", hand_over.from, line(command));
                }
            }
            for (when, hook) in [("first", &hand_over.before), ("if not, behind that", &hand_over.undone)] {
                hook.iter().for_each(|hook| show_hook(&mut text, when, hook));
            }
        }
        if let Action::Hook(hook) = &step.action {
            show_hook(&mut text, "here", hook);
        }
    }
    for change in &plan.settings {
        let needs = if change.restart { "restart" } else { "reload" };
        let after = change.after.as_deref().unwrap_or("(not set)");
        let SettingChange { server, name, before, source, .. } = change;
        let _ = writeln!(text, "setting {server} {name}: '{before}' ({source}) -> '{after}', {needs}");
    }
    if plan.steps.is_empty() {
        text.push_str("no changes\n");
    }
    diagnostics(&mut text, "NOTE", &plan.notes);
    text
}

fn show_hook(text: &mut String, when: &str, hook: &Hook) {
    let told: Vec<String> = hook.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let _ = writeln!(text, "    {when}: {} {}", told.join(" "), hook.program.display());
}

/// Adds the servers whose certificates do not serve.
fn add_needs(case: &Value, material: &mut Material) {
    for (name, why) in case["needs"].as_object().into_iter().flatten() {
        let why = Due::Unfit(why.as_str().unwrap().to_owned());
        material.certificates_to_replace.insert(name.parse().unwrap(), why);
    }
}

fn run(case: &Value) -> String {
    let base = case["base"].as_str().unwrap();
    let mut inventory = json(&root().join("base/inventory.json"));
    let mut observation: Observation = serde_json::from_value(json(&root().join(format!("base/{base}.json")))).unwrap();
    let all: BTreeSet<ServerName> = observation.servers.keys().cloned().collect();
    let mut replace = if base == "running" { BTreeSet::new() } else { all.clone() };
    if base == "adoptable" {
        // Who adopts a primary wishes no database and no parameter for a start.
        merge(&mut inventory, &serde_json::json!({ "postgres": { "databases": null, "parameters": null } }));
    }
    if !case["settled"].is_null() {
        merge(&mut inventory, &case["settled"]);
    }
    if base == "running" {
        let settled = plan_bootstrap(
            &topology(&inventory),
            &observation,
            &material::of(BTreeSet::new()),
            Consent { allow_restart: true, ..Consent::default() },
        );
        settle(&mut observation, &settled.unwrap());
        for (server, text) in case["roles"].as_object().into_iter().flatten() {
            set_role(&mut observation, server, text.as_str().unwrap());
        }
    }
    if !case["inventory"].is_null() {
        merge(&mut inventory, &case["inventory"]);
    }
    let mut patched = serde_json::to_value(&observation).unwrap();
    if !case["joins"].is_null() {
        joining::add(&mut patched, &case["joins"]);
    }
    if !case["observation"].is_null() {
        merge(&mut patched, &case["observation"]);
    }
    let observation: Observation = serde_json::from_value(patched).unwrap();
    replace.extend(observation.servers.keys().filter(|name| !all.contains(*name)).cloned());
    let new_authority = case["new_authority"] == true;
    let consent = Consent { allow_restart: case["allow_restart"] == true, new_authority };
    if new_authority {
        replace.extend(
            all.iter()
                .filter(|name| !case["renewed"].as_array().is_some_and(|some| some.contains(&name.as_str().into())))
                .cloned(),
        );
    }
    let topology = topology(&inventory);
    let seen = observation.clone();
    let material = |replace: BTreeSet<ServerName>| match case["elsewhere"].as_object() {
        Some(needs) => material::held_elsewhere(replace, needs),
        None if case["in_rotation"] == true => material::of_succession(replace),
        None if new_authority => material::of_new_authority(replace),
        None => {
            let mut material = roles::with_passwords(material::of(replace), case);
            if let Some(replication) = &mut material.replication {
                replication.is_new = !case["rotate_passwords"].is_null();
            }
            password::keep_anothers(&topology, &seen, &mut material);
            material
        }
    };
    if let Some(wish) = case["reseed"].as_object() {
        return reseed(wish, &topology, &observation, &material(replace));
    }
    if let Some(wish) = case["switchover"].as_object() {
        return switchover(wish, &topology, &observation, &material(replace));
    }
    if let Some(wish) = case["failover"].as_object() {
        let observation =
            if wish.contains_key("receives") { observation } else { torn(&topology, observation, &wish["to"]) };
        return failover(wish, &topology, &observation, &material(replace));
    }
    if let Some(renewed) = case["succession"].as_array() {
        let mut due = rotate::all(&topology, &observation);
        due.retain(|name| !renewed.contains(&name.as_str().into()));
        let mut material = match case["elsewhere"].as_object() {
            Some(needs) => material::held_elsewhere(due, needs),
            None => material::of_succession(due),
        };
        add_needs(case, &mut material);
        let plan = succession::plan_succession(&topology, &observation, &material);
        return plan.map_or_else(|refusals| refused(&refusals), |plan| show(&plan));
    }
    if let Some(named) = case["rotate_passwords"].as_array() {
        let named: Vec<String> = named.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
        let material = material(replace);
        let plan = passwords::meant(&topology, &named)
            .and_then(|meant| passwords::plan_passwords(&topology, &observation, &material, &meant));
        return plan.map_or_else(|refusals| refused(&refusals), |plan| show(&plan) + &roles::sql(&plan, case));
    }
    if let Some(names) = case["rotate"].as_array() {
        let named: BTreeSet<ServerName> = names.iter().map(|name| name.as_str().unwrap().parse().unwrap()).collect();
        let servers = if named.is_empty() { rotate::all(&topology, &observation) } else { named };
        replace.extend(servers.iter().cloned());
        let mut material = material(replace);
        for name in &servers {
            material.certificates_to_replace.insert(name.clone(), Due::Wished);
        }
        add_needs(case, &mut material);
        let plan = rotate::plan_rotation(&topology, &observation, &material, &servers);
        return plan.map_or_else(|refusals| refused(&refusals), |plan| show(&plan));
    }
    if let Some(wish) = case["remove"].as_object() {
        let server: ServerName = serde_json::from_value(wish["server"].clone()).unwrap();
        let request = remove::Request { server: &server, keep_running: wish.get("keep_running").is_some() };
        let observation = looks::looked_at(&topology, observation, consent);
        let plan = remove::plan_removal(&topology, &observation, &material(replace), request);
        return plan.map_or_else(|refusals| refused(&refusals), |plan| show(&plan) + &roles::sql(&plan, case));
    }
    if let Some(server) = case["replace"].as_str() {
        let server: ServerName = server.parse().unwrap();
        replace.insert(server.clone());
        return replacement(&topology, &looks::looked_at(&topology, observation, consent), &material(replace), &server);
    }
    if case["release"] == true {
        let plan = release::plan_release(&topology, &observation);
        return plan.map_or_else(|refusals| refused(&refusals), |plan| show(&plan) + &roles::sql(&plan, case));
    }
    let asked = looks::asked(&topology, &observation, consent);
    let observation = looks::looked_at(&topology, observation, consent);
    let planned = plan_bootstrap(&topology, &observation, &material(replace), consent);
    let decided = match planned.inspect(|plan| footprint::is_on_the_list(plan, &observation)) {
        Ok(plan) => match case["lines"].as_array() {
            None => show(&plan) + &roles::sql(&plan, case),
            Some(words) => {
                let words: Vec<&str> = words.iter().map(|word| word.as_str().unwrap()).collect();
                let mut text = lines(&plan, &words);
                diagnostics(&mut text, "NOTE", &plan.notes);
                text
            }
        },
        Err(refusals) => refused(&refusals),
    };
    asked + &decided
}

/// What is judged before anybody connects to the server, and the plan.
fn replacement(topology: &Topology, observation: &Observation, material: &Material, server: &ServerName) -> String {
    let mut others = observation.clone();
    others.servers.remove(server);
    let mut text = match replace::judge_before(topology, &others, server) {
        Ok(former) => former.iter().map(|address| format!("FORMER ADDRESS: {address}\n")).collect(),
        Err(refusals) => "before: ".to_owned() + &refused(&refusals),
    };
    let plan = replace::plan_replacement(topology, observation, material, server);
    text += &plan.map_or_else(|refusals| refused(&refusals), |plan| show(&plan));
    text
}

fn refused(refusals: &[Diagnostic]) -> String {
    let mut text = String::from("refused\n");
    diagnostics(&mut text, "ERROR", refusals);
    text
}

/// Nobody receives from an instance that does not run, or can log in to it.
fn torn(topology: &Topology, mut observation: Observation, to: &Value) -> Observation {
    let is_stopped = |name: &ServerName| {
        observation.server(name).is_some_and(|seen| seen.instance.is_absent()) && to.as_str() != Some(name.as_str())
    };
    let names: Vec<ServerName> = topology.servers().map(|one| one.name.clone()).filter(is_stopped).collect();
    let stopped: Vec<String> =
        topology.servers().filter(|one| is_stopped(&one.name)).map(|one| one.address.to_string()).collect();
    for seen in observation.servers.values_mut() {
        if let Observed::Known(seen) = seen {
            for (_, peer) in seen.peers.iter_mut().filter(|(name, _)| names.contains(name)) {
                peer.dial = Observed::Unreadable("Connection refused".to_owned());
            }
        }
        if let Observed::Known(seen) = seen
            && let Observed::Known(instance) = &mut seen.instance
        {
            let is_gone = |receiver: &pgstead::model::observation::Receiver| {
                receiver.sender_host.as_ref().is_some_and(|host| stopped.contains(host))
            };
            instance.receiver = instance.receiver.take().filter(|receiver| !is_gone(receiver));
        }
    }
    observation
}

/// Shows what is found out about a server, the ways to bring it back, and the steps of the one that is taken.
fn reseed(
    wish: &serde_json::Map<String, Value>,
    topology: &Topology,
    observation: &Observation,
    material: &Material,
) -> String {
    let word = |key: &str| wish.get(key).cloned().unwrap_or(Value::Null);
    let server: ServerName = serde_json::from_value(word("server")).unwrap();
    let request = Request {
        server: &server,
        method: serde_json::from_value(word("method")).unwrap(),
        space: serde_json::from_value(wish.get("space").cloned().unwrap_or("keep".into())).unwrap(),
        accept_divergence: word("accept_divergence") == true,
        rate: word("rate").as_u64(),
        max_rate: wish.get("max_rate").and_then(Value::as_str),
        now: "2026-01-02T03:04:05Z".parse().unwrap(),
    };
    let mut text = String::new();
    for WalQuestion { joining, upstream, timeline, end, .. } in reseed::questions(topology, observation, &server) {
        let _ = writeln!(text, "ASK: has {upstream} the WAL of {joining}, timeline {timeline} up to {end}");
    }
    let observation = &looks::looked_at_for_reseed(topology, observation, &server);
    let planned = reseed::plan_reseed(topology, observation, material, request);
    let (diagnosis, rungs) = match &planned {
        Ok(planned) => (Some(&planned.diagnosis), &planned.rungs),
        Err(refused) => (refused.diagnosis.as_ref(), &refused.rungs),
    };
    if let Some(diagnosis) = diagnosis {
        let _ = writeln!(text, "{} {}", diagnosis.server, diagnosis.condition.words());
        for line in &diagnosis.evidence {
            let _ = writeln!(text, "    {line}");
        }
    }
    for Rung { method, cost, room, refused } in rungs {
        let cost = cost.map(|cost| {
            let how = if cost.is_compressed { ", compressed" } else { "" };
            let Cost { transfer_bytes, seconds, peak_bytes, .. } = cost;
            format!("{transfer_bytes} bytes over the link{how}, {seconds} s, {peak_bytes} bytes of room")
        });
        let _ = writeln!(text, "{method}: {}", cost.as_ref().or(refused.as_ref()).unwrap());
        for Need { mount, needed_bytes, free_bytes } in room.iter().filter(|_| room.len() > 1) {
            let _ = writeln!(text, "    {needed_bytes} bytes on {mount}, free {free_bytes:?}");
        }
    }
    match &planned {
        Ok(planned) => {
            let _ = writeln!(text, "taken: {}", planned.method.map_or("none", |method| method.word()));
            text + &show(&planned.plan)
        }
        Err(refused) => {
            text.push_str("refused\n");
            diagnostics(&mut text, "ERROR", &refused.refusals);
            text
        }
    }
}

/// Shows who hands over to whom, and how; or why not.
fn switchover(
    wish: &serde_json::Map<String, Value>,
    topology: &Topology,
    observation: &Observation,
    material: &Material,
) -> String {
    let mut text = String::new();
    let planned = match wish.get("to").cloned() {
        Some(to) => {
            let to: ServerName = serde_json::from_value(to).unwrap();
            for WalQuestion { joining, upstream, timeline, end, .. } in
                switchover::questions(topology, observation, &to)
            {
                let _ = writeln!(text, "ASK: has {upstream} the WAL of {joining}, timeline {timeline} up to {end}");
            }
            text += &looks::places(topology, observation, switchover::OF_BOOTSTRAP);
            let observation = looks::looked_at(topology, observation.clone(), switchover::OF_BOOTSTRAP);
            plan_switchover(topology, &observation, material, &to)
        }
        None => plan_abort(topology, observation, material),
    };
    match planned {
        Ok(Switchover { from, to, plan }) => {
            let from = from.as_ref().map_or("-", ServerName::as_str);
            let _ = writeln!(text, "from {from} to {to}");
            text + &show(&plan)
        }
        Err(refusals) => {
            text.push_str("refused\n");
            diagnostics(&mut text, "ERROR", &refusals);
            text
        }
    }
}

/// Shows who takes whose place, what is lost by that, and how; or why not. `lost` is what the WAL of the former primary told.
fn failover(
    wish: &serde_json::Map<String, Value>,
    topology: &Topology,
    observation: &Observation,
    material: &Material,
) -> String {
    let to: ServerName = serde_json::from_value(wish["to"].clone()).unwrap();
    let attested = wish.get("attested").map(|attested| serde_json::from_value(attested.clone()).unwrap());
    let attested: BTreeSet<ServerName> = attested.unwrap_or_default();
    let accept_loss = wish.get("accept_loss") == Some(&Value::Bool(true));
    let request = failover::Request { to: &to, accept_loss, attested: &attested };
    let mut text = String::new();
    if let Some(failover::Parting { from, timeline, left_at }) = failover::parting(topology, observation, request) {
        let _ = writeln!(text, "ASK: what has {from} on timeline {timeline} from {left_at} on");
    }
    for WalQuestion { joining, upstream, timeline, end, .. } in failover::questions(topology, observation, request) {
        let _ = writeln!(text, "ASK: has {upstream} the WAL of {joining}, timeline {timeline} up to {end}");
    }
    let lost = wish.get("lost").map(|lost| match lost.as_str() {
        Some(why) => Observed::Unreadable(why.to_owned()),
        None => Observed::Known(Lost {
            transactions: lost["transactions"].as_u64().unwrap(),
            end: serde_json::from_value(lost["end"].clone()).unwrap(),
            first: lost["first"].as_str().map(str::to_owned),
            last: lost["last"].as_str().map(str::to_owned),
            ..Lost::default()
        }),
    });
    match plan_failover(topology, observation, material, request, lost.as_ref()) {
        Ok(failover::Failover { from, to, loss, plan }) => {
            let from = from.as_ref().map_or("-", ServerName::as_str);
            let _ = writeln!(text, "from {from} to {to}");
            if let Some(loss) = loss {
                let _ = writeln!(text, "{}", loss.words());
            }
            text + &show(&plan)
        }
        Err(refusals) => {
            text.push_str("refused\n");
            diagnostics(&mut text, "ERROR", &refusals);
            text
        }
    }
}

#[test]
fn cases() {
    let bless = std::env::var_os("PGSTEAD_BLESS").is_some();
    let folders: BTreeMap<String, std::path::PathBuf> = std::fs::read_dir(root().join("cases"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .collect();
    assert!(folders.len() >= 20, "only {} cases were found", folders.len());
    let mut wrong = String::new();
    for (name, folder) in folders {
        let found = run(&json(&folder.join("case.json")));
        assert!(!found.contains("s3cret"), "{name} shows a secret:\n{found}");
        let expected = folder.join("expected.txt");
        if bless {
            std::fs::write(&expected, &found).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != found {
            let _ = writeln!(wrong, "--- {name} says now\n{found}");
        }
    }
    assert!(wrong.is_empty(), "PGSTEAD_BLESS=1 accepts these:\n{wrong}");
}

/// Whatever fails at whatever step, planning again from what is left asks for no step twice that would destroy, since
/// no step destroys: every command of every case is one of those that make, install, start, stop or look.
#[test]
fn no_plan_removes_anything() {
    for entry in std::fs::read_dir(root().join("cases")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path().join("expected.txt")).unwrap();
        for line in text.lines().filter_map(|line| line.trim().strip_prefix("$ ")) {
            for word in line.split_whitespace() {
                assert!(
                    !matches!(word, "rm" | "rmdir" | "dropdb" | "pg_dropcluster" | "mkfs" | "dd" | "shred"),
                    "{line}"
                );
            }
        }
    }
}
