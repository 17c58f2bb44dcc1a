//! Random schedules of failovers: the primary fails in one of many ways while a client writes, its operator makes another server
//! the primary while other faults strike, and in the end the former primary is the primary again.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;
use std::time::Instant;

use fastrand::Rng;
use pgstead::lab::hosts::Block;
use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::invariants::broken_among;
use crate::invariants::refusal_helps;
use crate::scenario::Ran;
use crate::scenario::until;
use crate::schedules;
use crate::schedules::NAMES;
use crate::schedules::Stage;
use crate::schedules::deaths::Death;
use crate::schedules::operator;
use crate::schedules::operator::Operator;
use crate::schedules::strikes::Fault;
use crate::schedules::strikes::Strike;
use crate::switchover::SOON;
use crate::switchover::Writer;
use crate::switchover::with_clients;
use crate::traces::Recorders;
use crate::traces::Traces;

/// How many schedules each version plays unless told otherwise.
const SCHEDULES: u64 = 1;

/// How often a command may be needed, with what the refusals say done, once nothing strikes any more.
const RUNS_MAX: usize = 6;

/// Where the client runs: no server, and no fault strikes it.
pub(super) const CLIENT: &str = "w";

/// Each row has the time of its making as its number: what is lost cannot be mistaken for what came later.
pub(super) const LEDGER: &str =
    "ALTER TABLE ledger ALTER id SET DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// A client finds out within seconds that nobody answers any more: its system's settings, since a kernel waits for a quarter of
/// an hour.
pub(super) const IMPATIENT: &str = "cd /proc/sys/net/ipv4; echo 4 >tcp_retries2; echo 3 >tcp_keepalive_time; \
    echo 1 >tcp_keepalive_intvl; echo 3 >tcp_keepalive_probes";

/// What strikes while the primary is replaced.
const FAULTS: [Fault; 17] = [
    Fault::ToolKilled,
    Fault::ToolKilled,
    Fault::ToolInterrupted,
    Fault::SecondRun,
    Fault::PostmasterKilled("b"),
    Fault::PostmasterKilled("c"),
    Fault::PostmasterStill("b"),
    Fault::PostmasterStill("c"),
    Fault::PowerCut("b"),
    Fault::PowerCut("c"),
    Fault::LinkDropped("b", "c"),
    Fault::OneWayDropped("b", "c"),
    Fault::LinkRejected("c", "b"),
    Fault::OperatorDropped("b"),
    Fault::OperatorDropped("c"),
    Fault::OperatorRejected("b"),
    Fault::DiskFull,
];

/// The same where the former primary's host is up.
const FAULTS_OF_A: [Fault; 4] =
    [Fault::InstanceStarted("a"), Fault::PowerCut("a"), Fault::OperatorDropped("a"), Fault::OperatorRejected("a")];

/// A failover under fire.
struct Failover {
    /// Whether c follows b.
    is_cascade: bool,
    /// Whether commits wait for one of the standbys that follow a.
    is_synchronous: bool,
    /// Standbys that hear nothing of a from so long before it fails.
    behind: Vec<&'static str>,
    behind_for: Duration,
    death: Death,
    /// How long it takes the operator to notice.
    pause: Duration,
    to: &'static str,
    accepts_loss: bool,
    /// Whether the operator ends a primary that is not dead, or lets it recover.
    ends_it: bool,
    strikes: Vec<Strike>,
}

impl fmt::Display for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failover to {}, {:?}", self.to, self.death)?;
        f.write_str(if self.is_cascade { ", c behind b" } else { "" })?;
        f.write_str(if self.is_synchronous { ", synchronous" } else { "" })?;
        if !self.behind.is_empty() {
            write!(f, ", {} behind for {} ms", self.behind.join(" and "), self.behind_for.as_millis())?;
        }
        f.write_str(if self.accepts_loss { "" } else { ", no loss accepted at first" })?;
        if !self.death.is_certain() {
            f.write_str(if self.ends_it { ", which the operator ends" } else { ", which passes" })?;
        }
        write!(f, ", noticed after {} ms", self.pause.as_millis())?;
        self.strikes.iter().try_for_each(|strike| strike.fmt(f))
    }
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Another server is the primary.
    Replaced,
    /// a is the primary again.
    Stays,
    /// Neither.
    Open,
}

impl schedules::Schedule for Failover {
    fn of(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed);
        let is_cascade = rng.bool();
        let is_synchronous = rng.u32(0..4) == 0;
        let death = Death::of(rng);
        let behind = match rng.u32(0..6) {
            0 => vec!["b"],
            1 => vec!["c"],
            2 => vec!["b", "c"],
            _ => Vec::new(),
        };
        let behind_for = Duration::from_millis(rng.u64(100..1_500));
        let pause = Duration::from_millis(rng.u64(0..1_500));
        let to = if rng.u32(0..4) == 0 { "c" } else { "b" };
        let accepts_loss = rng.u32(0..3) > 0;
        let ends_it = rng.u32(0..4) > 0;
        let is_up = !matches!(death, Death::PowerCut(_) | Death::CutOff);
        let faults: Vec<Fault> = FAULTS.into_iter().chain(FAULTS_OF_A.into_iter().filter(|_| is_up)).collect();
        let strike = |rng: &mut Rng| {
            let fault = *rng.choice(&faults).unwrap();
            Strike::at_some_time(fault, rng)
        };
        let mut strikes: Vec<Strike> = (0..rng.usize(0..=3)).map(|_| strike(rng)).collect();
        if matches!(death, Death::PowerCut(Some(_))) {
            // Something must be left to do when the power is back.
            strikes.push(Strike::at_some_time(Fault::ToolKilled, rng));
        }
        Self { is_cascade, is_synchronous, behind, behind_for, death, pause, to, accepts_loss, ends_it, strikes }
    }

    fn hosts(release: Release) -> Vec<HostSpec> {
        let mut hosts = schedules::servers(release, &["a", "b"]);
        hosts.push(HostSpec::new(CLIENT, release));
        hosts
    }

    fn play(&self, stage: &mut Stage) -> Vec<String> {
        self.prepare(stage);
        let stage: &Stage = stage;
        let recorders = Recorders::of(&stage.lab, NAMES.map(|name| stage.lab.host(name)));
        let writer = Writer::start(&stage.lab, CLIENT);
        let mut play = Play { schedule: self, stage, troubles: Vec::new(), codes: Vec::new() };
        let begun = Instant::now();
        play.a_fails();
        let mut operator = Operator::new("a", self.to, self.accepts_loss);
        let outcome = play.replace(&mut operator);
        let replaced = begun.elapsed().as_secs_f64();
        let to = operator.to.clone();
        let mut last = None;
        let mut until_then = now_ms();
        if let Some(errors) = Some(()).filter(|()| outcome != Outcome::Open).and_then(|()| writer.stalls()) {
            play.troubles.push(format!("nobody can write any more: {errors}"));
        }
        match outcome {
            Outcome::Replaced => {
                play.stays_down(&operator);
                until_then = now_ms();
                last = play.comes_back(&to);
            }
            Outcome::Stays => last = play.settles(),
            Outcome::Open => {}
        }
        let written = writer.end();
        let traces = recorders.end();
        if let Some(last) = &last {
            let primaries: &[&str] = if outcome == Outcome::Replaced { &["a", &to] } else { &["a"] };
            play.troubles.extend(broken_among(&stage.lab, &traces, last, primaries));
            let mut told =
                if outcome == Outcome::Replaced { operator.told_of(&to) } else { vec![operator::Told::Nothing] };
            if self.is_synchronous && !operator.has_missed {
                // What was acknowledged is on one of those that were looked at, whatever can be told of it.
                told.push(operator::Told::Nothing);
            }
            play.rows_are_there(&written.acknowledged, &told);
        }
        if outcome == Outcome::Replaced {
            play.troubles.extend(writes_again(&traces, &to, until_then));
        }
        let Play { troubles, codes, .. } = play;
        stage.say(format_args!(
            "{outcome:?} after {replaced:.1} s, exit codes {codes:?}, told {:?}, {} rows, longest gap {} ms, {:.1} s in all",
            operator.told_of(&to),
            written.acknowledged.len(),
            written.longest_gap_ms,
            begun.elapsed().as_secs_f64(),
        ));
        troubles
    }
}

impl Failover {
    fn prepare(&self, stage: &mut Stage) {
        let upstream = if self.is_cascade { "b" } else { "a" };
        stage.lab.edit(|inventory| {
            inventory["servers"].as_object_mut().unwrap().remove(CLIENT);
            inventory["servers"]["c"]["upstream"] = json!(upstream);
            if self.is_synchronous {
                let standbys: &[&str] = if self.is_cascade { &["b"] } else { &["b", "c"] };
                inventory["replication"]["synchronous"] = json!({ "mode": "any", "count": 1, "standbys": standbys });
            }
        });
        with_clients(&mut stage.lab);
        stage.lab.host("a").psql(stage.lab.port, "app", LEDGER).unwrap();
        stage.lab.run(CLIENT, &["sh", "-c", IMPATIENT]);
    }
}

/// A schedule that is played.
struct Play<'a> {
    schedule: &'a Failover,
    stage: &'a Stage,
    troubles: Vec<String>,
    codes: Vec<i32>,
}

impl Play<'_> {
    fn a_fails(&self) {
        let (stage, schedule) = (self.stage, self.schedule);
        let (lab, a) = (&stage.lab, stage.lab.host("a").address());
        if !schedule.behind.is_empty() {
            for name in &schedule.behind {
                lab.host(name).block_arriving(Block::Drop, a, Some(lab.port)).unwrap();
            }
            until(Instant::now() + schedule.behind_for, || false);
        }
        let hear_again = || schedule.behind.iter().for_each(|name| lab.host(name).unblock().unwrap());
        if schedule.death == Death::Stopped {
            // It would wait for them.
            hear_again();
        }
        stage.fails(schedule.death);
        hear_again();
        until(Instant::now() + schedule.pause, || false);
    }

    fn run(&mut self, words: &[&str]) -> Ran {
        let ran = self.stage.lab.pgstead(words);
        self.ended(&ran);
        ran
    }

    fn ended(&mut self, ran: &Ran) {
        self.codes.push(ran.code);
        if ran.code != 0 {
            self.stage.say(format_args!("exit code {}: {}", ran.code, ran.codes().join(", ")));
        }
    }

    /// Makes another server the primary, whatever strikes, and as often as it takes.
    fn replace(&mut self, operator: &mut Operator) -> Outcome {
        let (stage, death) = (self.stage, self.schedule.death);
        // What would be lost is asked before.
        let command = operator.command(stage);
        let mut dry: Vec<&str> = command.iter().map(String::as_str).collect();
        dry.push("--dry-run");
        let said = self.run(&dry);
        operator.hears(&said);
        let mut is_over = false;
        for n_runs in 0..RUNS_MAX {
            let command = operator.command(stage);
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            let ran = if n_runs == 0 {
                let ran = stage.under_fire(&command, &self.schedule.strikes);
                self.ended(&ran);
                ran
            } else {
                self.run(&command)
            };
            stage.mend_all(&["b", "c"]);
            operator.hears(&ran);
            if ran.code == 0 {
                return Outcome::Replaced;
            }
            // A killed run says nothing.
            if ran.code != -1 {
                self.troubles.extend(refusal_helps(&ran));
            }
            if n_runs + 1 == RUNS_MAX {
                self.troubles.push(format!("I5: {RUNS_MAX} runs did not finish it: {ran}"));
                break;
            }
            let codes = ran.codes();
            if codes.iter().any(|code| code == "primary-runs")
                && stage.is_primary("a")
                && (death.is_certain() || is_over)
            {
                return Outcome::Stays;
            }
            // Sessions of a primary that stands still go on: whoever is looked at last has received more (hazard 56).
            let is_moving = |code: &String| code == "successor-behind" && n_runs > 0;
            let is_alive = codes.iter().any(|code| code == "primary-runs" || code == "not-fenced" || is_moving(code));
            if is_alive && !death.is_certain() && !is_over {
                is_over = true;
                if self.schedule.ends_it {
                    stage.ends(death);
                } else {
                    stage.is_over(death);
                }
            }
            if codes.iter().any(|code| code == "attestation-contradicted") && !stage.lab.host("a").is_running() {
                self.all_find_out();
            }
            // As the hints say.
            if codes.iter().any(|code| code == "former-primary-unknown") {
                self.was_promoted(&mut operator.to);
            }
            if codes.iter().any(|code| code == "successor-stopped" || code == "former-primary-unknown") {
                // Whoever follows one that was promoted may not have come to that yet: nobody answers its guard then.
                let word = format!("/var/lib/pgstead/lab/{}/start-alone", operator.to);
                let start = ["sh", "-c", "touch \"$1\"; timeout 20 systemctl start \"$2\"", "sh", &word, &stage.unit()];
                let _ = stage.lab.host(&operator.to).exec(&start);
            }
            let is_back = matches!(death, Death::PowerCut(Some(after)) if after == n_runs + 1);
            if is_back || (!matches!(death, Death::PowerCut(_) | Death::CutOff) && !stage.lab.host("a").is_running()) {
                stage.lab.host("a").boot().unwrap();
            }
        }
        Outcome::Open
    }

    /// Looks which standby was promoted and died of it, and gives it the role that it took.
    fn was_promoted(&self, to: &mut String) {
        const LOOK: &str = "[ ! -e \"$1/standby.signal\" ] && ls \"$1\"/pg_wal/*.history && echo primary >\"$2\"";
        for name in ["b", "c"] {
            let role = format!("/var/lib/pgstead/lab/{name}/role");
            let data = self.stage.data();
            let looked = self.stage.lab.host(name).run(&["sh", "-c", LOOK, "sh", &data, &role]);
            if looked.is_ok() {
                self.stage.say(format_args!("{name} was promoted, and is the primary from now on"));
                name.clone_into(to);
                return;
            }
        }
    }

    /// What a standby was told last may be that it streams, until its receiver finds out that nobody is there.
    fn all_find_out(&self) {
        const STREAMS: &str = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming' AND sender_host = ";
        let lab = &self.stage.lab;
        let sql = [STREAMS, "'", &lab.host("a").address().to_string(), "'"].concat();
        let streams = |name: &&str| lab.host(name).psql(lab.port, "postgres", &sql).is_ok_and(|count| count == "1");
        until(Instant::now() + Duration::from_secs(40), || !["b", "c"].iter().any(streams));
    }

    /// The former primary does not run, whoever starts it, and nothing is left to do.
    fn stays_down(&mut self, operator: &Operator) {
        let stage = self.stage;
        let again = |play: &mut Self, when: &str| {
            let command = operator.command(stage);
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            let mut ran = play.run(&command);
            // One that nobody could fence before is fenced now, and then nothing is left to do either.
            if ran.codes().contains(&"former-primary-back".to_owned()) {
                ran = play.run(&command);
            }
            let document: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
            if ran.code != 0 || document["changed"] != false {
                play.troubles.push(format!("I5: the same command again {when}: {ran}"));
            }
        };
        again(self, "at once");
        stage.is_over(self.schedule.death);
        let before = stage.control_of_a();
        // Its guard may wait for answers.
        let start = ["timeout", "10", "systemctl", "start", &stage.unit()];
        let _ = stage.lab.host("a").exec(&start);
        if stage.answers("a") {
            self.troubles.push("I1: the former primary was started again".to_owned());
        }
        again(self, "with the former primary's host back");
        let after = stage.control_of_a();
        if before.is_none() || before != after {
            self.troubles.push(format!("I1: somebody started the former primary: {before:?} became {after:?}"));
        }
    }

    /// Brings the former primary back as a standby, and as the primary. Returns the last command's end.
    fn comes_back(&mut self, to: &str) -> Option<Ran> {
        let reseed = |play: &mut Self, name: &str| {
            let ran = play.run(&["reseed", name, "--yes", "--accept-divergence", "--format", "json"]);
            if ran.code != 0 {
                play.troubles.push(format!("I5: {name} does not come back: {ran}"));
            }
            ran.code == 0
        };
        if !reseed(self, "a") {
            return None;
        }
        self.follows(to)?;
        let back = self.run(&["switchover", "--to", "a", "--yes", "--format", "json"]);
        if back.code != 0 {
            self.troubles.push(format!("I5: no way back: {back}"));
        }
        (back.code == 0).then_some(back)
    }

    /// Brings everything in line behind the new primary; a standby that had more than that needs a re-seed.
    fn follows(&mut self, to: &str) -> Option<Ran> {
        let ran = self.run(&["bootstrap", "--yes", "--format", "json"]);
        let has_more = ["ahead-of-upstream", "history-diverged", "history-not-provable", "server-fenced"];
        let other = if to == "b" { "c" } else { "b" };
        if ran.code == 5 && ran.codes().iter().any(|code| has_more.contains(&code.as_str())) {
            self.stage.say(format_args!("{other} has to be re-seeded: {:?}", ran.codes()));
            let reseed = self.run(&["reseed", other, "--yes", "--accept-divergence", "--format", "json"]);
            if reseed.code != 0 {
                self.troubles.push(format!("I5: {other} does not come back: {reseed}"));
            }
            return self.settles();
        }
        if ran.code != 0 {
            self.troubles.push(format!("I5: it does not settle: {ran}"));
        }
        (ran.code == 0).then_some(ran)
    }

    fn settles(&mut self) -> Option<Ran> {
        let ran = self.run(&["bootstrap", "--yes", "--format", "json"]);
        if ran.code != 0 {
            self.troubles.push(format!("I5: it does not settle: {ran}"));
        }
        (ran.code == 0).then_some(ran)
    }

    /// Every acknowledged row is on every server, but for the last ones of the former primary, as many as were told.
    fn rows_are_there(&mut self, acknowledged: &[u64], told: &[operator::Told]) {
        let lab = &self.stage.lab;
        if acknowledged.len() < 100 {
            self.troubles.push(format!("I2: {} rows were written", acknowledged.len()));
        }
        let mut missing: Vec<Vec<u64>> = Vec::new();
        for name in NAMES {
            let mut of_server = Vec::new();
            until(Instant::now() + SOON, || {
                let asked = lab.host(name).psql(lab.port, "app", "SELECT string_agg(id::text, ' ') FROM ledger");
                let there = asked.unwrap_or_default();
                let there: BTreeSet<u64> = there.split(' ').filter_map(|id| id.parse().ok()).collect();
                of_server = acknowledged.iter().copied().filter(|id| !there.contains(id)).collect();
                // What is lost is lost everywhere.
                missing.first().map_or(of_server.is_empty(), |on_a| *on_a == of_server)
            });
            missing.push(of_server);
        }
        if missing.iter().any(|of_server| *of_server != missing[0]) {
            self.troubles.push(format!("I2: the servers lack different rows: {missing:?}"));
        }
        self.troubles.extend(operator::beyond_told(&missing[0], told));
        self.troubles.extend(operator::holes(acknowledged, &missing[0]));
        self.stage.say(format_args!("{} of {} acknowledged rows are lost", missing[0].len(), acknowledged.len()));
    }
}

/// I1: from the moment when its successor accepts writes, the former primary does not, until it is given its role back.
pub(super) fn writes_again(traces: &Traces, to: &str, until_then: u64) -> Vec<String> {
    let of = |name: &str| {
        let samples = traces.samples.iter().find(|(host, _)| host == name).map(|(_, samples)| samples.as_slice());
        samples.unwrap_or_default().iter().filter(|sample| sample.writable).map(|sample| sample.at)
    };
    let Some(since) = of(to).next() else { return vec![format!("I1: {to} never accepted a write")] };
    let again = of("a").find(|at| (since..until_then).contains(at));
    again
        .map(|at| format!("I1: the former primary was writable at {at}, and its successor since {since}"))
        .into_iter()
        .collect()
}

pub(super) fn now_ms() -> u64 {
    jiff::Timestamp::now().as_millisecond().try_into().unwrap()
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn random_failovers_on_15() {
    schedules::play::<Failover>(Release::Bookworm, 5_000, SCHEDULES);
}

#[test]
#[ignore = "plays on 18 in every run, on all releases in make soak"]
fn random_failovers_on_17() {
    schedules::play::<Failover>(Release::Trixie, 5_100, SCHEDULES);
}

#[test]
fn random_failovers_on_18() {
    schedules::play::<Failover>(Release::Forky, 5_200, SCHEDULES);
}
