//! Whatever a bootstrap installs is on the list from which a release takes its files: one that is added later is not forgotten.

use pgstead::model::argv::Argv;
use pgstead::model::layout::Layout;
use pgstead::model::observation::Observation;
use pgstead::model::observed::Observed;
use pgstead::plan::Plan;
use pgstead::plan::files::footprint;
use pgstead::plan::files::footprint::Place;

/// Demands of every file, link and directory that a plan installs that it is on the list.
pub(crate) fn is_on_the_list(plan: &Plan, observation: &Observation) {
    for planned in &plan.steps {
        let Some(seen) = planned.step.server.as_ref().and_then(|name| observation.server(name)) else { continue };
        let Some(layout) = seen.layout.known() else { continue };
        for (word, path) in planned.step.commands().iter().flat_map(installed) {
            // What is put together beside the data directory becomes it.
            let beside = [layout.place(), ".seed."].concat();
            let path = match path.strip_prefix(&beside).and_then(|rest| rest.split_once('/')) {
                Some((_, rest)) => [&layout.data_directory, "/", rest].concat(),
                None => path,
            };
            let is_known = match word {
                'd' => is_on_the_way(layout, &path),
                _ => footprint::find(layout, &path).is_some(),
            };
            assert!(is_known, "{path} is installed, and not on the list of plan/files/footprint.rs");
        }
    }
}

/// A directory that something on the list is in.
fn is_on_the_way(layout: &Layout, path: &str) -> bool {
    let way = [path, "/"].concat();
    let places = footprint::LIST.iter().filter_map(|left| footprint::path(left.place, layout));
    footprint::find(layout, path).is_some() || places.into_iter().any(|place| place.starts_with(&way))
}

/// The words and paths of what `install-files.sh` is told to install.
fn installed(command: &Argv) -> Vec<(char, String)> {
    let mut words = command.args.iter().skip_while(|word| *word != "pgstead-install-files").skip(2);
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let more = match word.as_str() {
            "d" => 2,
            "f" | "b" | "u" => 3,
            "l" | "check" | "move" => 1,
            other => panic!("{other}"),
        };
        let path = words.next().unwrap().clone();
        if !matches!(word.as_str(), "check" | "move") {
            found.push((word.chars().next().unwrap(), path));
        }
        words.by_ref().take(more).for_each(drop);
    }
    found
}

#[test]
fn the_list_is_read_by_place() {
    let observation: Observation =
        serde_json::from_value(crate::json(&crate::root().join("base/running.json"))).unwrap();
    let Some(Observed::Known(a)) = observation.servers.get(&"a".parse().unwrap()) else { unreachable!() };
    let layout = a.layout.known().unwrap();
    let place = |path: &str| footprint::find(layout, path).map(|left| left.place);
    assert_eq!(place(&layout.own("tls.00ff/server.key")), Some(Place::OwnBelow("tls")));
    assert_eq!(place(&layout.own("peers")), Some(Place::Own("peers")));
    assert_eq!(place(&layout.own("added-later")), None);
    assert_eq!(place("/etc/cron.d/pgstead"), None);
}
