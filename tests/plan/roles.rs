//! Cases about roles of applications: their passwords, and what a server is told.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pgstead::model::Secret;
use pgstead::model::argv::Piece;
use pgstead::pki::RolePassword;
use pgstead::plan::Material;
use pgstead::plan::Plan;
use serde_json::Value;

/// Gives a run the passwords of a case, by role.
pub(crate) fn with_passwords(material: Material, case: &Value) -> Material {
    let password = |text: &Value| RolePassword {
        password: Secret::new(text.as_str().unwrap()),
        verifier: Secret::new("SCRAM-SHA-256$s3cret"),
    };
    let all = case["passwords"].as_object().into_iter().flatten();
    let passwords: BTreeMap<String, RolePassword> = all.map(|(role, text)| (role.clone(), password(text))).collect();
    Material { passwords, ..material }
}

/// Returns what servers are told in steps whose title has a word that the case names.
pub(crate) fn sql(plan: &Plan, case: &Value) -> String {
    let mut text = String::new();
    let Some(word) = case["sql"].as_str() else { return text };
    for planned in plan.steps.iter().filter(|planned| planned.step.title.contains(word)) {
        for command in planned.step.commands() {
            let told: String = command
                .stdin
                .iter()
                .map(|piece| match piece {
                    Piece::Text(text) => text.clone(),
                    Piece::Secret(secret) => secret.to_string(),
                })
                .collect();
            let _ = writeln!(text, "SQL of step {}:\n{}", planned.id.0, told.trim_end());
        }
    }
    text
}
