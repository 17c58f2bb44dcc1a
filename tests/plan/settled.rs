//! What is on servers after a run: the files of a plan, and role files.

use std::collections::BTreeMap;

use pgstead::model::ServerName;
use pgstead::model::observation::FileFact;
use pgstead::model::observation::Observation;
use pgstead::model::observed::Observed;
use pgstead::plan::Plan;

/// Gives a server another role file, as a run of pgstead does: the manifest knows of it.
pub(crate) fn set_role(observation: &mut Observation, server: &str, text: &str) {
    let Some(Observed::Known(seen)) = observation.servers.get_mut(&server.parse().unwrap()) else { unreachable!() };
    let layout = seen.layout.known().unwrap().clone();
    let set = |path: &str, text: &str, files: &mut BTreeMap<String, Observed<FileFact>>| {
        let Some(Observed::Known(fact)) = files.get_mut(path) else { unreachable!() };
        let (content, sha256) = (Some(text.to_owned()), pgstead::plan::files::hash::sha256(text));
        *fact = FileFact { content, sha256, ..fact.clone() };
    };
    let (role, manifest) = (layout.own("role"), layout.own("manifest"));
    set(&role, text, &mut seen.files);
    let recorded = seen.files[&manifest].known().unwrap().content.clone().unwrap();
    let line = |line: &str| match line.strip_suffix(&role) {
        Some(_) => format!("{}  {role}\n", pgstead::plan::files::hash::sha256(text)),
        None => format!("{line}\n"),
    };
    let manifested: String = recorded.lines().map(line).collect();
    set(&manifest, &manifested, &mut seen.files);
}

/// Puts the files of a plan into an observation, as if they had been installed.
pub(crate) fn settle(observation: &mut Observation, plan: &Plan) {
    let mut manifests: BTreeMap<ServerName, BTreeMap<String, String>> = BTreeMap::new();
    for step in &plan.steps {
        let Some(server) = &step.step.server else { continue };
        let Some(Observed::Known(seen)) = observation.servers.get_mut(server) else { continue };
        for file in &step.step.files {
            let Some(after) = &file.after else { continue };
            let sha256 = pgstead::plan::files::hash::sha256(after);
            manifests.entry(server.clone()).or_default().insert(file.path.clone(), sha256.clone());
            let fact = FileFact {
                owner: "postgres:postgres".into(),
                mode: "640".into(),
                content: Some(after.clone()),
                sha256,
                is_link: false,
            };
            seen.files.insert(file.path.clone(), Observed::Known(fact));
        }
    }
    for (server, manifest) in manifests {
        let Some(Observed::Known(seen)) = observation.servers.get_mut(&server) else { continue };
        let content: String = manifest.iter().map(|(path, sha256)| format!("{sha256}  {path}\n")).collect();
        let path = seen.layout.known().unwrap().own("manifest");
        let sha256 = pgstead::plan::files::hash::sha256(&content);
        let fact =
            FileFact { owner: "root:root".into(), mode: "644".into(), content: Some(content), sha256, is_link: false };
        seen.files.insert(path, Observed::Known(fact));
    }
}
