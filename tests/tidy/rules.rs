//! The rules of `docs/adr/0004-layer-rule.md` and of the design's section on the shape of the code, as a table.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::judged;
use crate::source::Source;

/// A place that breaks a rule: the file, the line, and what was found there.
pub(crate) type Breach = (String, usize, String);

/// One rule: its name, its reason, what finds breaches of it, and a snippet per way of breaking it.
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
    pub(crate) find: fn(&[Source]) -> Vec<Breach>,
    /// Files that break the rule, as (path, text). Each must be caught: the alarm is tested with the rule.
    pub(crate) broken_by: &'static [(&'static str, &'static str)],
    /// Files that come close and do not break it.
    pub(crate) kept_by: &'static [(&'static str, &'static str)],
}

/// The layer of every top-level module. Imports go to the same layer or a lower one.
const LAYERS: &[(u8, &[&str])] = &[
    (0, &["model", "quote"]),
    (
        1,
        &[
            "inventory",
            "render",
            "pki",
            "judge",
            "plan",
            "check",
            "preflight",
            "role_change",
            "drill",
            "event",
            "diagnostic",
        ],
    ),
    (2, &["remote", "postgres", "wait"]),
    (3, &["observe", "prove", "apply", "lab", "state"]),
    (4, &["ui", "cli", "main"]),
];

/// The floors of `plan`'s folders and of the files beside them. Imports go to the same folder or to one on a lower floor.
const PLAN_FLOORS: &[(u8, &[&str])] = &[
    (0, &["material", "scripts", "step", "seen"]),
    (1, &["links"]),
    (2, &["files"]),
    (3, &["survey", "steps"]),
    (4, &["adoption"]),
    (5, &["operation"]),
];

/// A crate and the one module that knows it.
const HOMES: &[(&str, &str)] = &[
    ("openssh", "remote"),
    ("tokio_postgres", "postgres"),
    ("tokio_postgres_rustls", "postgres"),
    ("tera", "render"),
    ("rcgen", "pki"),
    ("clap", "cli"),
    ("clap_complete", "cli"),
    ("clap_mangen", "cli"),
];

/// Who asks whether host keys are believed, before there is a connection.
const WHO_ASK_FOR_KEYS: [&str; 2] = ["cli/trust.rs", "cli/host_key.rs"];

/// What the runner of operations alone calls; who asks for host keys, asks as well.
const THE_RUNNERS: &[&[&str]] = &[
    &["Interrupts", ":", ":", "listen", "("],
    &["ask", ":", ":", "consent", "("],
    &["lock", ":", ":", "refuse_held", "("],
    &["lock", ":", ":", "release_left", "("],
    &["=", "hold", "("],
    &["{", "hold", "("],
];

/// What leads out of the program, or to a clock. Random numbers are left: `pki` makes secrets of them, and plans get those passed in.
const OUTSIDE: &[&[&str]] = &[
    &["std", ":", ":", "fs"],
    &["std", ":", ":", "io"],
    &["std", ":", ":", "os"],
    &["std", ":", ":", "env"],
    &["std", ":", ":", "process"],
    &["std", ":", ":", "thread"],
    &["TcpStream"],
    &["TcpListener"],
    &["UdpSocket"],
    &["UnixStream"],
    &["Instant"],
    &["SystemTime"],
    &["Timestamp", ":", ":", "now"],
    &["rustix"],
    &["tempfile"],
];

/// The helpers that wait by looking again, each with a deadline. Nobody else pauses.
const WAIT_HELPERS: &[&str] = &["wait.rs", "lab/wait.rs", "lab/hosts/command.rs"];

pub(crate) const LINES_MAX: usize = 600;

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "imports go downward",
        why: "what decides must not be able to reach what touches a server; move the shared part down, or pass it in",
        find: imports_downward,
        broken_by: &[
            ("plan/mod.rs", "use crate::remote::Host;"),
            ("model/a.rs", "fn f() { let x = crate::plan::Step::new(); }"),
            ("check/mod.rs", "use crate::{model::Lsn, ui::Table};"),
            ("plan/mod.rs", "use crate::model::{a::{b, c}}; use crate::{model::{x, y}, cli::Args};"),
        ],
        kept_by: &[
            ("ui/mod.rs", "use crate::plan::Step; use crate::ui::table;"),
            ("plan/mod.rs", "#[cfg(test)] mod tests { use crate::apply::Executor; }"),
        ],
    },
    Rule {
        name: "every module has a layer",
        why: "a module that nobody has placed is bound by no rule; add it to LAYERS in tests/tidy/rules.rs",
        find: |sources| {
            let unknown = |s: &&Source| s.path != "lib.rs" && layer(s.module()).is_none();
            sources.iter().filter(unknown).map(|s| (s.path.clone(), 1, format!("module \"{}\"", s.module()))).collect()
        },
        broken_by: &[("helpers/mod.rs", "")],
        kept_by: &[("lib.rs", ""), ("event.rs", "")],
    },
    Rule {
        name: "no cycles between modules of a layer",
        why: "two modules that need each other are one module, or hide a third",
        find: cycles,
        broken_by: &[
            ("observe/x.rs", "use crate::apply::A;"),
            ("model/argv.rs", "use crate::{model::Secret, quote::sh::join};"),
        ],
        kept_by: &[("apply/x.rs", "use crate::observe::A; use crate::apply::B;")],
    },
    Rule {
        name: "plan's folders import downward",
        why: "whoever reads a folder needs to know only those below it; move what both need down (PLAN_FLOORS)",
        find: plan_floors,
        broken_by: &[
            ("plan/files/kept.rs", "use crate::plan::steps::sql::X;"),
            ("plan/survey/mod.rs", "use crate::plan::steps::sql::X;"),
            ("plan/seen.rs", "use crate::plan::survey::Survey;"),
            ("plan/helpers.rs", ""),
        ],
        kept_by: &[
            ("plan/mod.rs", "pub use operation::bootstrap::Consent; use crate::plan::step::Step;"),
            (
                "plan/files/kept.rs",
                "use crate::plan::Material; use crate::plan::files::base::Base; use crate::plan::seen::Seen;",
            ),
            ("plan/operation/rotate.rs", "use crate::plan::steps::sql::X;"),
        ],
    },
    Rule {
        name: "what a server is, is judged once",
        why: "copies of one judgement come to differ; ask judge::State, or add there what it does not say yet",
        find: judged::again,
        broken_by: &[
            ("plan/a.rs", "fn f(instance: &Instance) -> bool { !instance.in_recovery }"),
            ("check/a.rs", "fn f(data: &DataDirectory) -> bool { data.standby_signal || data.recovery_signal }"),
            ("preflight/a.rs", "fn f(c: &ControlFile) -> Option<u32> { c.minimum_recovery_timeline }"),
            ("role_change/a.rs", "fn f(r: &Receiver) -> bool { r.sender_host.is_some() }"),
            ("cli/a.rs", "fn f(s: &Setting) -> bool { s.pending_restart }"),
            ("plan/a.rs", "const SHUT_DOWN: &str = \"shut down\";"),
            ("cli/a.rs", "fn f(sender: &Sender) -> bool { sender.state == \"streaming\" }"),
            ("check/a.rs", "fn f(l: &Layout) { seen.files.get(&l.own(\"role\")); }"),
            ("plan/a.rs", "fn f(text: &str) { RoleFile::parse(text); }"),
            ("role_change/a.rs", "fn f(seen: &Seen) -> bool { seen\n.instance\n.known().is_some() }"),
            ("cli/a.rs", "fn f(o: &ServerObservation) { match o.instance.look() { _ => () } }"),
            ("plan/a.rs", "fn f(raw: &ServerObservation) -> bool { raw.data_directory.known().is_some() }"),
        ],
        kept_by: &[
            ("judge/server.rs", "fn f(instance: &Instance) -> bool { !instance.in_recovery }"),
            ("plan/a.rs", "fn f(state: ServerState<'_>) -> bool { state.standby().is_some() && state.answer.is_ok() }"),
            ("preflight/a.rs", "fn f(seen: &ServerObservation) -> bool { seen.instance.known().is_some() }"),
            ("plan/a.rs", "fn f(seen: Seen<'_>) -> &str { &seen.layout.data_directory }"),
            ("check/a.rs", "fn f() { ServerReport { in_recovery: None } }"),
            ("cli/a.rs", "async fn f(session: &Client) { session.in_recovery().await; }"),
            ("plan/a.rs", "const WORDS: &str = \"it was shut down\"; fn f(l: &Layout) { l.role_file(); }"),
        ],
    },
    Rule {
        name: "one runner",
        why: "consent, leases, interrupts and exit codes have one order, which cli/runner knows; say there what is new",
        find: |sources| {
            let beside = |source: &&Source| {
                source.module() == "cli"
                    && !source.path.starts_with("cli/runner/")
                    && !WHO_ASK_FOR_KEYS.contains(&source.path.as_str())
            };
            let find = |source: &Source| -> Vec<Breach> {
                let found =
                    THE_RUNNERS.iter().map(|words| at(source, source.lines_with(words), words[words.len() - 2]));
                found.flatten().collect()
            };
            sources.iter().filter(beside).flat_map(find).collect()
        },
        broken_by: &[
            ("cli/drill.rs", "fn f() { Interrupts::listen() }"),
            ("cli/drill.rs", "fn f() { ask::consent(ui, &question) }"),
            ("cli/unlock.rs", "fn f() { lock::refuse_held(o, s) }"),
            ("cli/unlock.rs", "fn f() { lock::release_left(h, o, s, is) }"),
            ("cli/unlock.rs", "fn f() { hold(inventory, \"unlock\", false) }"),
        ],
        kept_by: &[
            ("cli/runner/mod.rs", "fn f() { ask::consent(ui, &question) }"),
            ("cli/session.rs", "fn hold_on() {}"),
        ],
    },
    Rule {
        name: "a crate has one home",
        why: "one module wraps it, so that its types and its quirks stay there",
        find: |sources| {
            let mut breaches = Vec::new();
            for (name, home) in HOMES {
                for source in sources.iter().filter(|source| source.module() != *home) {
                    let lines = [&[name, ":", ":"][..], &["use", name, ";"], &["use", name, "as"]];
                    for line in lines.iter().flat_map(|words| source.lines_with(words)) {
                        breaches.push((source.path.clone(), line, format!("\"{name}\" belongs to {home}/")));
                    }
                }
            }
            breaches
        },
        broken_by: &[
            ("apply/mod.rs", "use openssh::Session;"),
            ("observe/mod.rs", "fn f(c: &tokio_postgres::Client) {}"),
            ("plan/mod.rs", "use tera::Tera;"),
            ("apply/mod.rs", "use rcgen::KeyPair;"),
            ("ui/mod.rs", "use clap::Parser;"),
            ("ui/mod.rs", "#[derive(clap::Args)] struct A;"),
        ],
        kept_by: &[
            ("remote/ssh.rs", "use openssh::Session;"),
            ("plan/mod.rs", "/// Not [`openssh::Session`].\nstruct S;"),
        ],
    },
    Rule {
        name: "only ui/ prints",
        why: "work sends events and returns values; how they look is decided in one place, and --format json stays clean",
        find: |sources| {
            let mut breaches = Vec::new();
            for source in sources.iter().filter(|source| source.module() != "ui") {
                for name in ["print", "println", "eprint", "eprintln", "dbg"] {
                    breaches.extend(at(source, source.lines_with(&[name, "!"]), name));
                }
                for name in ["stdout", "stderr"] {
                    breaches.extend(at(source, source.lines_with(&["io", ":", ":", name]), name));
                }
            }
            breaches
        },
        broken_by: &[
            ("apply/mod.rs", "fn f() { println!(\"done\"); }"),
            ("plan/mod.rs", "fn f() { eprint!(\"x\") }"),
            ("remote/mod.rs", "fn f() { std::io::stderr().flush(); }"),
        ],
        kept_by: &[
            ("ui/human.rs", "fn f() { println!(); }"),
            ("lab/mod.rs", "fn f(c: C) { c.stdout(Stdio::piped()); }"),
        ],
    },
    Rule {
        name: "only main.rs exits",
        why: "an exit elsewhere skips what must be let go: locks, sessions, journals",
        find: |sources| {
            let elsewhere = sources.iter().filter(|source| source.path != "main.rs");
            elsewhere.flat_map(|s| at(s, s.lines_with(&["process", ":", ":", "exit"]), "process::exit")).collect()
        },
        broken_by: &[("cli/mod.rs", "fn f() { std::process::exit(1) }")],
        kept_by: &[("main.rs", "fn main() { std::process::exit(0) }")],
    },
    Rule {
        name: "async starts at layer 2",
        why: "layers 0 and 1 are pure: no I/O, no clock, no randomness, hence nothing to wait for",
        find: |sources| {
            let pure = sources.iter().filter(|source| layer(source.module()).is_some_and(|layer| layer < 2));
            pure.flat_map(|source| {
                ["async", "await", "tokio"].into_iter().flat_map(|word| at(source, source.lines_with(&[word]), word))
            })
            .collect()
        },
        broken_by: &[("plan/mod.rs", "async fn f() {}"), ("render/mod.rs", "use tokio::fs;")],
        kept_by: &[("remote/mod.rs", "async fn f() {}")],
    },
    Rule {
        name: "layers 0 and 1 do no I/O",
        why: "what decides is the same for the same input, and can be tried on any folder of data; pass in what it needs",
        find: |sources| {
            let pure = sources.iter().filter(|source| layer(source.module()).is_some_and(|layer| layer < 2));
            pure.flat_map(|source| {
                OUTSIDE.iter().flat_map(|words| at(source, source.lines_with(words), words[words.len() - 1]))
            })
            .collect()
        },
        broken_by: &[
            ("plan/mod.rs", "use std::fs;"),
            ("check/mod.rs", "fn f() { std::process::Command::new(\"true\"); }"),
            ("judge/mod.rs", "use std::net::TcpStream;"),
            ("preflight/mod.rs", "fn f() -> Timestamp { Timestamp::now() }"),
            ("inventory/mod.rs", "fn f() { std::env::var(\"HOME\"); }"),
            ("model/mod.rs", "fn f() { let begun = std::time::Instant::now(); }"),
        ],
        kept_by: &[
            ("plan/mod.rs", "use std::net::IpAddr; #[cfg(test)] mod tests { use std::fs; }"),
            ("apply/mod.rs", "use std::fs;"),
        ],
    },
    Rule {
        name: "a module opens with its duty",
        why: "whoever opens a file learns from its first sentence what it does and what it must not do",
        find: |sources| {
            let opens = |source: &&Source| !opens_with_a_sentence(&source.text);
            sources.iter().filter(opens).map(|s| (s.path.clone(), 1, "no `//!` sentence".to_owned())).collect()
        },
        broken_by: &[("plan/mod.rs", "use x;"), ("plan/mod.rs", "//! TBD\nuse x;"), ("plan/mod.rs", "//! The plan\n")],
        kept_by: &[("plan/mod.rs", "//! Decides what\n//! will be done.\n\nuse x;")],
    },
    Rule {
        name: "nothing is left for later",
        why: "what is not done is an issue or is not there; a skipped test is green and has tested nothing",
        find: |sources| {
            let mut breaches = Vec::new();
            for source in sources {
                for (number, line) in source.text.lines().enumerate() {
                    for word in ["todo!", "unimplemented!", "FIXME", "TODO", "XXX", "#[ignore"] {
                        if line.contains(word) {
                            breaches.push((source.path.clone(), number + 1, word.to_owned()));
                        }
                    }
                }
            }
            breaches
        },
        broken_by: &[
            ("plan/mod.rs", "fn f() { todo!() }"),
            ("plan/mod.rs", "fn f() { unimplemented!(\"x\") }"),
            ("plan/mod.rs", "// FIXME: later"),
            ("plan/mod.rs", "#[cfg(test)] mod tests { #[test]\n#[ignore = \"slow\"]\nfn f() {} }"),
        ],
        kept_by: &[("plan/mod.rs", "// What to do is said elsewhere.")],
    },
    Rule {
        name: "nobody sleeps",
        why: "a pause is too long or too short; wait for an event, or through the wait helper with a deadline",
        find: |sources| {
            let others = sources.iter().filter(|source| !WAIT_HELPERS.contains(&source.path.as_str()));
            others
                .flat_map(|source| {
                    let calls = [&["thread", ":", ":", "sleep"][..], &["time", ":", ":", "sleep"], &["sleep", "("]];
                    calls.into_iter().flat_map(|words| at(source, source.lines_with(words), "sleep")).take(1)
                })
                .collect()
        },
        broken_by: &[
            ("apply/mod.rs", "fn f() { std::thread::sleep(D) }"),
            ("apply/mod.rs", "async fn f() { tokio::time::sleep(D).await }"),
            ("apply/mod.rs", "use tokio::time::{sleep, timeout}; async fn f() { sleep(D).await }"),
        ],
        kept_by: &[("lab/wait.rs", "fn f() { std::thread::sleep(D) }")],
    },
    Rule {
        name: "no weakened security",
        why: "host keys are checked, TLS is verify-full, and a password is in no environment (promise 5)",
        find: |sources| {
            let weak = [
                "accept-new",
                "StrictHostKeyChecking=no",
                "StrictHostKeyChecking no",
                "PGPASSWORD",
                "sslmode=disable",
                "sslmode=allow",
                "sslmode=prefer",
                "sslmode=require",
            ];
            sources
                .iter()
                .flat_map(|source| {
                    weak.iter().flat_map(|weak| at(source, source.lines_quoting(|text| text.contains(weak)), weak))
                })
                .chain(sources.iter().flat_map(|source| {
                    at(source, source.lines_with(&["KnownHosts", ":", ":", "Add"]), "KnownHosts::Add").chain(at(
                        source,
                        source.lines_with(&["KnownHosts", ":", ":", "Accept"]),
                        "KnownHosts::Accept",
                    ))
                }))
                .collect()
        },
        broken_by: &[
            ("remote/mod.rs", "const A: &str = \"StrictHostKeyChecking=accept-new\";"),
            ("remote/mod.rs", "const A: &str = \"StrictHostKeyChecking=no\";"),
            ("remote/mod.rs", "fn f() { b.known_hosts_check(KnownHosts::Add); }"),
            ("apply/mod.rs", "fn f() { c.env(\"PGPASSWORD\", p); }"),
            ("apply/mod.rs", "const A: &str = r\"sslmode=prefer\";"),
            ("apply/mod.rs", "const A: &str = \"host=a sslmode=require\";"),
            ("apply/mod.rs", "fn f() { format!(\"x sslmode=allow {y}\"); }"),
        ],
        kept_by: &[("apply/mod.rs", "/// Never `accept-new`.\nconst A: &str = \"sslmode=verify-full\";")],
    },
    Rule {
        name: "nothing is removed recursively",
        why: "a data directory is set aside by rename, never deleted (promise 1); labs remove what they made",
        find: |sources| {
            let others = sources.iter().filter(|source| !source.path.starts_with("lab/"));
            others
                .flat_map(|source| {
                    let rm = source.lines_quoting(|text| text.contains("rm -r") || text.contains("rm -fr"));
                    at(source, source.lines_with(&["remove_dir_all"]), "remove_dir_all")
                        .chain(at(source, rm, "rm -r"))
                        .chain(at(source, rm_as_words(source), "rm with -r"))
                })
                .collect()
        },
        broken_by: &[
            ("apply/mod.rs", "fn f() { std::fs::remove_dir_all(p); }"),
            ("apply/mod.rs", "const A: &str = \"rm -rf \";"),
            ("apply/mod.rs", "fn f() { Argv::new(RunAs::Root, \"rm\").arg(\"-rf\").arg(p); }"),
            ("apply/mod.rs", "fn f() { Argv::new(RunAs::Root, \"rm\").args([\"--recursive\", p]); }"),
        ],
        kept_by: &[
            ("lab/mod.rs", "fn f() { std::fs::remove_dir_all(p); }"),
            ("apply/mod.rs", "fn f() { Argv::new(RunAs::Root, \"rm\").arg(\"--\").arg(p); g(\"cp\").arg(\"-r\"); }"),
        ],
    },
];

/// The one script that removes data, and only what was set aside: it is named by the operator, and removed after proof that
/// its successor streams (docs/adr/0009-what-is-ever-removed.md).
pub(crate) const FORGETS: &str = "plan/scripts/forget-aside.sh";

/// The one script that removes what never was a data directory: what an unfinished job made, on the proof of its record
/// (docs/adr/0010-what-an-unfinished-job-made.md).
pub(crate) const CLEARS: &str = "plan/scripts/clear-job.sh";

/// The lines of a shell script that remove recursively. Comments are left out.
pub(crate) fn removals(script: &str) -> Vec<usize> {
    let removes = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
        let is_rm = |word: &str| word == "rm" || word.ends_with("/rm");
        let recursive = |word: &&str| {
            *word == "--recursive" || word.starts_with('-') && !word.starts_with("--") && word.contains(['r', 'R'])
        };
        // The options of a program end with the command.
        let options = |from: usize| words[from..].iter().take_while(|word| !word.ends_with([';', '|', '&']));
        let rm = words.iter().enumerate().filter(|(_, word)| is_rm(word)).any(|(at, _)| options(at + 1).any(recursive));
        rm || words.iter().any(|word| matches!(*word, "-delete" | "--delete"))
    };
    script.lines().enumerate().filter(|(_, line)| removes(line)).map(|(number, _)| number + 1).collect()
}

pub(crate) fn at<'a>(source: &'a Source, lines: Vec<usize>, what: &'a str) -> impl Iterator<Item = Breach> + 'a {
    lines.into_iter().map(move |line| (source.path.clone(), line, what.to_owned()))
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(_, modules)| modules.contains(&module)).map(|(layer, _)| *layer)
}

fn imports_downward(sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for source in sources {
        let Some(own) = layer(source.module()) else { continue };
        for (line, named) in source.paths_named().into_iter().map(|(line, top, _)| (line, top)) {
            if let Some(other) = layer(&named).filter(|other| *other > own) {
                let what = format!("{} (layer {own}) names {named} (layer {other})", source.module());
                breaches.push((source.path.clone(), line, what));
            }
        }
    }
    breaches
}

/// Finds the imports of `plan` that go up or sideways, and what stands on no floor.
fn plan_floors(sources: &[Source]) -> Vec<Breach> {
    let floor = |folder: &str| PLAN_FLOORS.iter().find(|(_, all)| all.contains(&folder)).map(|(floor, _)| *floor);
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|source| source.path != "plan/mod.rs") {
        let Some(path) = source.path.strip_prefix("plan/") else { continue };
        let folder = path.split('/').next().unwrap_or_default().trim_end_matches(".rs");
        let Some(own) = floor(folder) else {
            breaches.push((source.path.clone(), 1, format!("plan/{folder} has no floor")));
            continue;
        };
        for (line, _, named) in source.paths_named().into_iter().filter(|(_, top, _)| top == "plan") {
            if named != folder && floor(&named).is_some_and(|other| other >= own && (own, other) != (0, 0)) {
                breaches.push((source.path.clone(), line, format!("plan/{folder} names plan/{named}")));
            }
        }
    }
    breaches
}

/// Finds the imports that close a circle between modules.
///
/// From layer 1 on a module is a top-level one. The words and the grammars of layer 0 are one vocabulary in two
/// directories, so there it is the single files that must not need each other.
fn cycles(sources: &[Source]) -> Vec<Breach> {
    let name = |top: &str, next: &str| if layer(top) == Some(0) { format!("{top}/{next}") } else { top.to_owned() };
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut places = Vec::new();
    for source in sources.iter().filter(|source| source.path != "lib.rs") {
        let own = name(source.module(), source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs"));
        for (line, top, next) in source.paths_named() {
            let other = name(&top, &next);
            if top != source.module() && layer(&top).is_some() {
                imports.entry(own.clone()).or_default().insert(other.clone());
                places.push((source, line, own.clone(), other));
            }
        }
    }
    let reaches = |from: &String, to: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(next) = open.pop() {
            if next == *to {
                return true;
            }
            if seen.insert(next.clone()) {
                open.extend(imports.get(&next).into_iter().flatten().cloned());
            }
        }
        false
    };
    let closing = places.into_iter().filter(|(_, _, own, other)| reaches(other, own));
    closing.map(|(s, line, own, other)| (s.path.clone(), line, format!("{own} and {other} need each other"))).collect()
}

fn opens_with_a_sentence(text: &str) -> bool {
    let opening: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
    let first = opening.iter().map(|line| line.trim_start_matches("//!").trim()).take_while(|line| !line.is_empty());
    let paragraph = first.collect::<Vec<_>>().join(" ");
    paragraph.split_whitespace().count() >= 2 && paragraph.trim_end_matches(['*', '`', ')']).ends_with(['.', ':', '?'])
}

/// The lines where "rm" is followed by a recursive option among the next few literals.
fn rm_as_words(source: &Source) -> Vec<usize> {
    let literals: Vec<_> = source.words.iter().filter(|word| word.quoted).collect();
    let recursive = |text: &str| {
        let text = text.trim_matches('"');
        text == "--recursive" || (text.starts_with('-') && !text.starts_with("--") && text.contains(['r', 'R']))
    };
    let words = literals.windows(1).enumerate().filter(|(_, word)| word[0].text == "\"rm\"");
    words
        .filter(|(index, word)| {
            let next = literals[index + 1..].iter().take(3).take_while(|next| next.line <= word[0].line + 3);
            next.take_while(|next| next.text.starts_with("\"-")).any(|next| recursive(&next.text))
        })
        .map(|(_, word)| word[0].line)
        .collect()
}
