//! What servers are asked beyond the first look, and what cases say of the answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pgstead::model::ServerName;
use pgstead::model::Topology;
use pgstead::model::observation::Observation;
use pgstead::model::observed::Observed;
use pgstead::model::place::Place;
use pgstead::model::place::PlaceKind;
use pgstead::model::place::Question;
use pgstead::model::wal::WalQuestion;
use pgstead::plan::Consent;
use pgstead::plan::adoption::elsewhere;
use pgstead::plan::adoption::elsewhere::Inquiry;
use pgstead::plan::links::network;
use pgstead::plan::operation::reseed;
use pgstead::plan::survey::history;

/// Shows what servers must be asked before this is planned.
pub(crate) fn asked(topology: &Topology, observation: &Observation, consent: Consent) -> String {
    let mut text = String::new();
    for meeting in network::meetings(topology, observation) {
        let _ = writeln!(text, "ASK: {} calls {}", meeting.caller, meeting.called);
    }
    for question in history::questions(topology, observation) {
        let WalQuestion { joining, upstream, timeline, end, .. } = question;
        let _ = writeln!(text, "ASK: has {upstream} the WAL of {joining}, timeline {timeline} up to {end}");
    }
    text + &places(topology, observation, consent)
}

/// Shows which places are asked for where a case says what is there; an answer that nobody asked for would say nothing.
pub(crate) fn places(topology: &Topology, observation: &Observation, consent: Consent) -> String {
    let mut text = String::new();
    if observation.places.is_empty() {
        return text;
    }
    let questions = elsewhere::questions(topology, observation, consent);
    for (name, inquiry) in &questions {
        let keys: Vec<String> = inquiry.questions.iter().map(Question::key).collect();
        let _ = writeln!(text, "ASK: has {name}: {}", keys.join(", "));
    }
    for (name, key) in observation.places.iter().flat_map(|(name, all)| all.keys().map(move |key| (name, key))) {
        let is_asked = questions.get(name).is_some_and(|all| all.questions.iter().any(|one| one.key() == *key));
        assert!(is_asked, "nobody asks {name} for {key}:\n{text}");
    }
    text
}

/// Whatever a server is asked for is there and good, where a case says nothing else.
pub(crate) fn looked_at(topology: &Topology, mut observation: Observation, consent: Consent) -> Observation {
    let inquiries = elsewhere::questions(topology, &observation, consent);
    fill(&mut observation, inquiries);
    observation
}

/// The same of a server that is re-seeded.
pub(crate) fn looked_at_for_reseed(topology: &Topology, observation: &Observation, server: &ServerName) -> Observation {
    let mut observation = observation.clone();
    let inquiry = reseed::inquiry(topology, &observation, server);
    fill(&mut observation, inquiry.map(|inquiry| (server.clone(), inquiry)).into_iter().collect());
    observation
}

fn fill(observation: &mut Observation, inquiries: BTreeMap<ServerName, Inquiry>) {
    for (name, inquiry) in inquiries {
        let answers = observation.places.entry(name).or_default();
        for question in inquiry.questions {
            let is_directory = matches!(question, Question::Path(_) | Question::Tablespace(_));
            let kind = if is_directory { PlaceKind::Directory } else { PlaceKind::File };
            let (nearest, tablespace) = (String::new(), String::new());
            let place = Place { kind, readable: true, writable: true, shared: false, nearest, tablespace };
            answers.entry(question.key()).or_insert(Observed::Known(place));
        }
    }
}
