//! When `forget-aside` may remove: each refusal by what differs from a directory that may go, and that one itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use pgstead::diagnostic::Diagnostic;
use pgstead::model::Topology;
use pgstead::model::observation::Observation;
use pgstead::plan::operation::forget::Forget;
use pgstead::plan::operation::forget::LinkProof;
use pgstead::plan::plan_forget;
use serde_json::Value;
use serde_json::json;

const DATA: &str = "/var/lib/postgresql/15/main";
const NAME: &str = "main.aside.20260102T030405Z.r0.replaced";

/// A running topology a → b → c with something set aside on every server, and what a check says of its links.
struct Case {
    topology: Topology,
    observation: Value,
    links: Vec<LinkProof>,
}

impl Case {
    fn new() -> Self {
        let read = |name: &str| {
            let path = format!("{}/tests/plan/base/{name}.json", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap()
        };
        let topology = pgstead::inventory::read(&read("inventory"), "inventory").unwrap().0;
        let mut observation: Value = serde_json::from_str(&read("running")).unwrap();
        for server in ["a", "b", "c"] {
            observation["servers"][server]["known"]["beside_facts"] = json!([{
                "path": format!("{DATA}.aside.20260102T030405Z.r0.replaced"),
                "kind": "directory", "owner": "postgres", "modified_s": 1_767_323_045, "entries": 24,
                "mount": "absent", "process": "absent", "control": "absent",
                "identity": { "known": format!("topology {}\nserver {server}\n", topology.name()) },
                "leads_to": ["/srv/space"], "bytes": { "known": 4096 },
            }]);
        }
        let proven =
            |standby: &str| LinkProof { standby: standby.parse().unwrap(), is_proven: true, verdict: "healthy".into() };
        Self { topology, observation, links: vec![proven("b"), proven("c")] }
    }

    fn fact(&mut self, server: &str) -> &mut Value {
        &mut self.observation["servers"][server]["known"]["beside_facts"][0]
    }

    fn system_identifier(&self) -> Value {
        self.observation["servers"]["a"]["known"]["data_directory"]["known"]["control"].clone()
    }

    fn plan(&self, server: &str, name: &str) -> Result<Forget, Vec<Diagnostic>> {
        let observation: Observation = serde_json::from_value(self.observation.clone()).unwrap();
        plan_forget(&self.topology, &observation, &self.links, server, name, "r1")
    }

    fn codes(&self, server: &str) -> Vec<&'static str> {
        self.plan(server, NAME)
            .map_or_else(|refusals| refusals.iter().map(|refusal| refusal.code.as_str()).collect(), |_| vec![])
    }
}

/// What differs in the directory of server b, and what it is refused for.
#[track_caller]
fn refused_for(change: impl FnOnce(&mut Value), expected: &[&str]) {
    let mut case = Case::new();
    change(case.fact("b"));
    assert_eq!(case.codes("b"), expected);
}

#[test]
fn what_may_go_is_proven_once_more_and_then_removed() {
    let case = Case::new();
    for (server, proven) in [("a", "a → b, b → c"), ("b", "a → b"), ("c", "b → c")] {
        let forget = case.plan(server, NAME).unwrap();
        let [proof, removal] = forget.plan.steps.as_slice() else { panic!("{:#?}", forget.plan) };
        assert_eq!(proof.step.title, format!("prove {proven}: a row written on a arrives"));
        assert_eq!(removal.after, [proof.id]);
        assert_eq!(removal.step.title, format!("remove {DATA}.aside.20260102T030405Z.r0.replaced for good"));
        assert_eq!(removal.step.risk, pgstead::plan::Risk::Destructive);
        let args = &removal.step.commands()[0].args;
        assert_eq!(args[3..5], [format!("{DATA}.aside.20260102T030405Z.r0.replaced"), DATA.to_owned()]);
        assert_eq!((forget.bytes, forget.leads_to), (Some(4096), vec!["/srv/space".to_owned()]));
    }
}

#[test]
fn a_removal_that_has_begun_is_finished_under_both_names() {
    let mut case = Case::new();
    let path = format!("{DATA}.aside.20260102T030405Z.r0.replaced");
    case.fact("b")["path"] = format!("{path}.forgotten").into();
    for name in [NAME.to_owned(), format!("{NAME}.forgotten")] {
        let forget = case.plan("b", &name).unwrap();
        assert_eq!(forget.name, NAME);
        let step = &forget.plan.steps[1].step;
        assert_eq!(step.title, format!("finish the removal of {path}"));
        assert_eq!(step.commands()[0].args[3], path);
    }
    // The mark goes last; an empty directory has nothing to lose. Only one whose removal has begun.
    case.fact("b")["identity"] = "absent".into();
    assert_eq!(case.codes("b"), ["aside-not-ours"]);
    case.fact("b")["entries"] = 0.into();
    assert_eq!(case.codes("b"), [""; 0]);
    case.fact("b")["path"] = path.into();
    assert_eq!(case.codes("b"), ["aside-not-ours"]);
}

#[test]
fn a_directory_that_is_more_than_that_is_kept() {
    refused_for(|fact| fact["kind"] = "link".into(), &["aside-not-a-directory"]);
    refused_for(|fact| fact["kind"] = "other".into(), &["aside-not-a-directory"]);
    refused_for(|fact| fact["kind"] = "data_directory".into(), &["aside-in-use"]);
    refused_for(|fact| fact["mount"] = json!({ "known": "/x" }), &["aside-holds-mount"]);
    refused_for(|fact| fact["mount"] = json!({ "unreadable": "no" }), &["aside-unreadable"]);
    refused_for(|fact| fact["process"] = json!({ "known": 7 }), &["aside-in-use"]);
    refused_for(|fact| fact["process"] = json!({ "unreadable": "no" }), &["aside-unreadable"]);
    let mut case = Case::new();
    let within = format!("{DATA}.aside.20260102T030405Z.r0.replaced/space");
    case.observation["servers"]["b"]["known"]["instance"]["known"]["tablespaces"] = json!({ "fast": within });
    assert_eq!(case.codes("b"), ["aside-in-use"]);
}

#[test]
fn a_directory_that_is_somebody_elses_is_kept() {
    refused_for(|fact| fact["identity"] = json!({ "known": "topology other\nserver b\n" }), &["aside-not-ours"]);
    refused_for(|fact| fact["identity"] = json!({ "known": "not understood" }), &["aside-not-ours"]);
    refused_for(|fact| fact["identity"] = json!({ "unreadable": "no" }), &["aside-unreadable"]);
    refused_for(|fact| fact["identity"] = "absent".into(), &["aside-not-ours"]);
    // Without a mark the system identifier decides.
    let mut case = Case::new();
    let control = case.system_identifier();
    case.fact("b")["identity"] = "absent".into();
    case.fact("b")["control"] = control.clone();
    assert_eq!(case.codes("b"), [""; 0]);
    case.fact("b")["control"]["known"]["system_identifier"] = 7.into();
    assert_eq!(case.codes("b"), ["aside-not-ours"]);
    // With the mark of another topology it does not.
    case.fact("b")["control"] = control;
    case.fact("b")["identity"] = json!({ "known": "topology other\nserver b\n" });
    assert_eq!(case.codes("b"), ["aside-not-ours"]);
}

#[test]
fn without_a_proven_successor_it_is_kept() {
    let mut case = Case::new();
    case.links[0].is_proven = false;
    case.links[0].verdict = "unknown".into();
    // The primary answers for every link, a standby for its own.
    assert_eq!(["a", "b", "c"].map(|server| case.codes(server).len()), [1, 1, 0]);
    assert_eq!(case.codes("b"), ["successor-not-proven"]);
    case.links.clear();
    assert_eq!(case.codes("c"), ["successor-not-proven"]);
    assert_eq!(case.codes("a"), ["successor-not-proven"]);

    for (key, value) in [
        ("instance", json!("absent")),
        ("instance", json!({ "unreadable": "no" })),
        ("data_directory", json!("absent")),
    ] {
        let mut case = Case::new();
        case.observation["servers"]["b"]["known"][key] = value;
        assert_eq!(case.codes("b"), ["successor-not-proven"], "{key}");
    }
    // Nobody knows which of two is the primary.
    let mut case = Case::new();
    case.observation["servers"]["c"]["known"]["instance"]["known"]["in_recovery"] = false.into();
    assert_eq!(case.codes("b"), ["successor-not-proven"]);
    // The data directory in its place is another server's.
    let mut case = Case::new();
    let mark = json!({ "known": "topology lab\nserver c\n" });
    case.observation["servers"]["b"]["known"]["data_directory"]["known"]["identity"] = mark;
    assert_eq!(case.codes("b"), ["successor-not-proven"]);
}

#[test]
fn a_name_must_be_one_of_those_there() {
    let mut case = Case::new();
    let only = |case: &Case, server: &str, name: &str| {
        let refusals = case.plan(server, name).unwrap_err();
        let [one] = refusals.as_slice() else { panic!("{refusals:#?}") };
        (one.code.as_str(), one.detail.clone().unwrap_or_default())
    };
    for name in [
        "main",
        "",
        "..",
        "main.aside.20260102T030405Z.r9.replaced",
        &format!("{DATA}.aside.20260102T030405Z.r0.replaced"),
    ] {
        let (code, detail) = only(&case, "b", name);
        assert_eq!(code, "aside-unknown", "{name}");
        assert!(detail.contains(NAME), "it lists those there are: {detail}");
    }
    assert_eq!(only(&case, "z", NAME).0, "server-unknown");
    for name in ["main.aside.old", "main.seed.r1"] {
        case.fact("b")["path"] = format!("/var/lib/postgresql/15/{name}").into();
        assert_eq!(only(&case, "b", name).0, "aside-not-named-by-us");
        assert!(!only(&case, "b", "x").1.contains(name), "what cannot go is not offered");
    }
    case.observation["servers"]["b"] = json!({ "unreadable": "no route" });
    assert_eq!(only(&case, "b", NAME).0, "unreachable");
    // All reasons at once.
    let mut case = Case::new();
    case.fact("c")["mount"] = json!({ "known": "/x" });
    case.fact("c")["identity"] = "absent".into();
    case.links.clear();
    assert_eq!(case.codes("c"), ["aside-holds-mount", "aside-not-ours", "successor-not-proven"]);
}
