//! A round: what happens, and the way back that the refusals name.

use std::time::Duration;
use std::time::Instant;

use fastrand::Rng;
use serde_json::json;

use crate::faults::crashing_with;
use crate::frozen::colleague;
use crate::frozen::frozen_at;
use crate::frozen::leases_run_out;
use crate::frozen::of;
use crate::guard_boot::NUMBER_TAKEN;
use crate::invariants::refusal_helps;
use crate::scenario::Ran;
use crate::scenario::until;
use crate::schedules::NAMES;
use crate::schedules::Stage;
use crate::schedules::failover::now_ms;
use crate::schedules::life::events::Event;
use crate::schedules::life::events::Failover;
use crate::schedules::life::events::Interruption;
use crate::schedules::life::events::Next;
use crate::schedules::life::events::Trouble;
use crate::schedules::life::hints;
use crate::schedules::life::judge::Excused;
use crate::schedules::operator::Operator;
use crate::schedules::operator::Told;
use crate::switchover::SOON;

/// How many commands a round may take, with all that hints name.
const RUNS_MAX: usize = 16;

/// How long a primary may take to start by itself after all power was gone.
const BOOTS: Duration = Duration::from_secs(60);

const YES: [&str; 3] = ["--yes", "--format", "json"];

/// A life that is played.
pub(super) struct Play<'a> {
    pub(super) stage: &'a mut Stage,
    pub(super) primary: &'static str,
    /// What is broken in this round.
    pub(super) troubles: Vec<String>,
    /// What was told of a loss in this round.
    pub(super) told: Vec<Told>,
    /// When somebody made a second primary on purpose.
    pub(super) excused: Vec<Excused>,
    rng: Rng,
    runs_left: usize,
}

impl<'a> Play<'a> {
    pub(super) fn new(stage: &'a mut Stage, seed: u64) -> Self {
        let rng = Rng::with_seed(seed ^ 0x5eed);
        let (troubles, told, excused) = (Vec::new(), Vec::new(), Vec::new());
        Self { stage, primary: "a", troubles, told, excused, rng, runs_left: 0 }
    }

    /// Lets it happen, and brings everything back.
    pub(super) fn round(&mut self, event: &Event) {
        (self.runs_left, self.told) = (RUNS_MAX, Vec::new());
        match event {
            Event::Switchover(to, interruption) => {
                let command = ["switchover", "--to", self.standbys()[*to]];
                self.interrupted(&command, interruption);
            }
            Event::Failover(failover) => self.failover(*failover),
            Event::PrimaryKilled => self.kill(self.primary),
            Event::Standby(which, trouble) => self.standby(self.standbys()[*which], *trouble),
            Event::AllReboot => self.all_reboot(),
            Event::Parameters(interruption) => {
                let (connections, memory) = (self.rng.u32(100..140), self.rng.u32(4..16));
                self.stage.lab.edit(|inventory| {
                    inventory["postgres"]["parameters"]["max_connections"] = json!(connections);
                    inventory["postgres"]["parameters"]["work_mem"] = json!(format!("{memory}MB"));
                });
                self.interrupted(&["bootstrap", "--allow-restart"], interruption);
            }
            Event::Reseed(which, interruption) => {
                let command = ["reseed", self.standbys()[*which], "--method", "basebackup"];
                self.interrupted(&command, interruption);
            }
            Event::LineCut(one, other) => self.line_cut(NAMES[*one], NAMES[*other]),
        }
        self.stage.mend_all(&NAMES);
        let settled = self.follow(&["bootstrap"]);
        if settled.code != 0 {
            self.troubles.push(format!("I5: it does not settle: {settled}"));
        }
        let primaries: Vec<&'static str> = NAMES.into_iter().filter(|name| self.stage.is_primary(name)).collect();
        match primaries.as_slice() {
            [primary] => self.primary = primary,
            all => self.troubles.push(format!("I1: the primaries are {all:?}")),
        }
        self.stage.lab.moved_to = Some(self.primary.to_owned());
        self.forget_aside();
    }

    fn standbys(&self) -> Vec<&'static str> {
        NAMES.into_iter().filter(|name| *name != self.primary).collect()
    }

    /// Runs a command with the consent that `--yes` is.
    fn run(&mut self, words: &[&str]) -> Ran {
        let ran = self.stage.lab.pgstead(&[words, &YES].concat());
        self.heard(words, &ran);
        ran
    }

    fn heard(&mut self, words: &[&str], ran: &Ran) {
        self.runs_left = self.runs_left.saturating_sub(1);
        if ran.code == 0 {
            return;
        }
        self.stage.say(format_args!("{}: exit code {}: {}", words.join(" "), ran.code, hints::told(ran).join("; ")));
        // A killed run says nothing.
        if ran.code != -1 {
            self.troubles.extend(refusal_helps(ran));
        }
    }

    /// Runs a command, and what the refusals say, until it is done or was given too often.
    fn follow(&mut self, words: &[&str]) -> Ran {
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        loop {
            let borrowed: Vec<&str> = words.iter().map(String::as_str).collect();
            let ran = self.run(&borrowed);
            if ran.code == 0 || self.runs_left == 0 {
                return ran;
            }
            let codes = ran.codes();
            for (code, consent) in
                [("divergence-needs-consent", "--accept-divergence"), ("restart-needs-consent", "--allow-restart")]
            {
                if codes.iter().any(|told| told == code) && !words.iter().any(|word| word == consent) {
                    words.push(consent.to_owned());
                }
            }
            for choice in hints::next(&ran) {
                let next = self.rng.choice(&choice).unwrap();
                if *next != words && self.runs_left > 0 {
                    let next: Vec<&str> = next.iter().map(String::as_str).collect();
                    self.follow(&next);
                }
            }
            if self.is_moot(&words) {
                return ran;
            }
        }
    }

    /// Whether a switchover was taken back, or its successor is the primary by now: then nobody wants it any more.
    fn is_moot(&self, words: &[String]) -> bool {
        words.iter().any(|word| word == "--abort")
            || (words[0] == "reseed" && words.get(1).is_some_and(|name| self.stage.is_primary(name)))
    }

    /// Runs a command that something comes between, and whatever its operator or a colleague does then.
    fn interrupted(&mut self, words: &[&str], interruption: &Interruption) {
        let command = [words, &YES].concat();
        let next = match interruption {
            Interruption::Nothing => Next::Same,
            Interruption::Strikes(strikes) => {
                let ran = self.stage.under_fire(&command, strikes);
                self.heard(words, &ran);
                self.stage.mend_all(&NAMES);
                if self.rng.bool() { Next::Same } else { Next::Bootstrap }
            }
            Interruption::Killed(moment, next) => {
                let (ran, struck) = crashing_with(&self.stage.lab, &command, moment);
                self.heard(words, &ran);
                if struck.is_none() {
                    self.troubles.push(format!("{moment} did not come: {ran}"));
                }
                self.colleague(words, *next);
                *next
            }
            Interruption::Frozen(moment, next) => {
                let run = frozen_at(&self.stage.lab, &command, moment);
                self.colleague(words, *next);
                leases_run_out(&self.stage.lab, &NAMES);
                run.signal("CONT", false);
                let woken = run.end();
                self.heard(words, &woken);
                if woken.code == 0 {
                    self.troubles.push(format!("it slept through its lease, and went on: {woken}"));
                }
                *next
            }
        };
        if next == Next::Same {
            self.follow(words);
        }
    }

    /// A colleague comes after the leases of a run have ended; until then everybody is turned away.
    fn colleague(&mut self, words: &[&str], next: Next) {
        let command: &[&str] = match next {
            Next::TheirAbort => &["switchover", "--abort"],
            Next::TheirSame => words,
            Next::Same | Next::Bootstrap => return,
        };
        let theirs = colleague(&self.stage.lab);
        let command = [command, &YES].concat();
        let early = of(&self.stage.lab, &theirs, &command);
        // Where there is nothing to take back, or no way back, that is said first.
        if ![5, 9].contains(&early.code) {
            self.troubles.push(format!("a colleague was not turned away: {early}"));
        }
        leases_run_out(&self.stage.lab, &NAMES);
        let ran = of(&self.stage.lab, &theirs, &command);
        self.heard(&command, &ran);
    }

    fn kill(&self, name: &str) {
        let stage = &self.stage;
        stage.lab.host(name).signal_postmaster(&stage.data(), "KILL").unwrap();
        until(Instant::now() + SOON, || !stage.answers(name));
    }

    fn stop(&self, name: &str) {
        self.stage.lab.run(name, &["systemctl", "stop", &self.stage.unit()]);
    }

    /// Somebody starts it by hand; its guard may refuse or wait.
    fn start(&self, name: &str) {
        let start = ["timeout", "10", "systemctl", "start", &self.stage.unit()];
        let _ = self.stage.lab.host(name).exec(&start);
    }

    fn failover(&mut self, failover: Failover) {
        let (from, standbys) = (self.primary, self.standbys());
        let to = standbys[failover.to];
        if failover.is_other_stopped {
            self.stop(standbys[1 - failover.to]);
        }
        match failover.is_cut {
            true => self.stage.lab.host(from).power_cut().unwrap(),
            false => self.kill(from),
        }
        let mut operator = Operator::new(from, to, failover.accepts_loss);
        let mut is_done = false;
        while self.runs_left > RUNS_MAX / 2 && !is_done {
            let command = operator.command(self.stage);
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            let ran = self.stage.lab.pgstead(&command);
            self.heard(&command, &ran);
            operator.hears(&ran);
            is_done = ran.code == 0;
            let codes = ran.codes();
            if codes.iter().any(|code| code == "attestation-contradicted") {
                self.all_find_out(from);
            }
            if codes.iter().any(|code| code == "successor-stopped") {
                self.start(&operator.to);
            }
        }
        if !is_done {
            self.troubles.push(format!("I5: {from} was not replaced by {to}"));
        }
        self.told = operator.told_of(&operator.to);
        if failover.is_cut {
            self.stage.lab.host(from).boot().unwrap();
        }
        self.start(from);
        if is_done && self.stage.answers(from) {
            self.troubles.push(format!("I1: the former primary {from} was started again"));
        }
        self.follow(&["reseed", from, "--accept-divergence"]);
    }

    /// What a standby was told last may be that it streams, until its receiver finds out that nobody is there.
    fn all_find_out(&self, from: &str) {
        const STREAMS: &str = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming' AND sender_host = ";
        let lab = &self.stage.lab;
        let sql = [STREAMS, "'", &lab.host(from).address().to_string(), "'"].concat();
        let streams = |name: &str| lab.host(name).psql(lab.port, "postgres", &sql).is_ok_and(|count| count == "1");
        until(Instant::now() + Duration::from_secs(40), || !NAMES.iter().any(|name| *name != from && streams(name)));
    }

    fn standby(&mut self, name: &'static str, trouble: Trouble) {
        let lab = &self.stage.lab;
        match trouble {
            Trouble::Stopped => self.stop(name),
            Trouble::Killed => self.kill(name),
            Trouble::PowerCut => lab.host(name).power_cut().unwrap(),
            Trouble::Wiped => {
                self.kill(name);
                self.stop(name);
                lab.run(name, &["mv", "-T", &self.stage.data(), &format!("/srv/wiped.{}", now_ms())]);
            }
            Trouble::Promoted => {
                let from = now_ms();
                lab.sql(name, "SELECT pg_promote()");
                lab.eventually(name, "SELECT pg_is_in_recovery()", "f");
                lab.sql(name, "CREATE TABLE IF NOT EXISTS only_here (i int); INSERT INTO only_here VALUES (1)");
                let check = lab.pgstead(&["check", "--format", "json"]);
                self.stop(name);
                self.excused.push(Excused { server: name, from, to: now_ms() });
                if check.code != 7 || !check.codes().contains(&"two-primaries".to_owned()) {
                    self.troubles.push(format!("two primaries were not seen: {check}"));
                }
            }
        }
        let check = self.stage.lab.pgstead(&["check", "--format", "json"]);
        if ![7, 10].contains(&check.code) {
            self.troubles.push(format!("nothing was seen of {name}: {check}"));
        }
        match trouble {
            Trouble::PowerCut => self.stage.lab.host(name).boot().unwrap(),
            Trouble::Wiped => drop(self.follow(&["reseed", name, "--method", "basebackup"])),
            Trouble::Stopped | Trouble::Killed | Trouble::Promoted => {}
        }
    }

    fn all_reboot(&mut self) {
        let hosts = NAMES.map(|name| self.stage.lab.host(name));
        std::thread::scope(|scope| {
            hosts.map(|host| scope.spawn(|| host.power_cut().unwrap())).map(|cut| cut.join().unwrap())
        });
        std::thread::scope(|scope| {
            hosts.map(|host| scope.spawn(|| host.boot().unwrap())).map(|boot| boot.join().unwrap())
        });
        let (begun, primary) = (Instant::now(), self.primary);
        until(begun + BOOTS, || self.stage.is_primary(primary));
        if self.stage.is_primary(primary) {
            return;
        }
        let journal = self.stage.lab.journal(primary, &["--boot", "--unit", &self.stage.unit()]);
        if journal.contains(NUMBER_TAKEN) {
            self.stage.say(format_args!("{primary} did not come by itself: {NUMBER_TAKEN}"));
        } else {
            self.troubles.push(format!("{primary} did not come by itself after all power was gone: {journal}"));
        }
    }

    fn line_cut(&mut self, one: &str, other: &str) {
        let lab = &self.stage.lab;
        lab.lab().drop_link(lab.host(one), lab.host(other)).unwrap();
        let check = lab.pgstead(&["check", "--format", "json"]);
        if ![0, 7, 10].contains(&check.code) {
            self.troubles.push(format!("a check with a cut line: {check}"));
        }
        if self.rng.bool() {
            let to = self.standbys()[self.rng.usize(0..2)];
            self.run(&["switchover", "--to", to]);
        }
        let lab = &self.stage.lab;
        lab.lab().mend_drop(lab.host(one), lab.host(other)).unwrap();
    }

    /// What was set aside is forgotten by name, now that what took its place is proven.
    fn forget_aside(&mut self) {
        let status = self.stage.lab.pgstead(&["status", "--format", "json"]);
        let document: serde_json::Value = serde_json::from_str(&status.stdout).unwrap_or_default();
        for aside in document["aside"].as_array().into_iter().flatten() {
            let (server, name) = (aside["server"].as_str().unwrap(), aside["name"].as_str().unwrap());
            let ran = self.run(&["forget-aside", server, name]);
            if ran.code != 0 {
                self.troubles.push(format!("{name} on {server} is not forgotten: {ran}"));
            }
        }
    }
}
