//! How a primary fails, how that is over, and how an operator ends one that is not dead.

use fastrand::Rng;

use crate::scenario::until;
use crate::schedules::DISK;
use crate::schedules::Stage;
use crate::switchover::SOON;

use std::time::Instant;

/// How a primary fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Death {
    /// Its postmaster is killed, and nobody starts it.
    Killed,
    /// Its service is stopped, in order.
    Stopped,
    /// Its host loses its power, which comes back after so many runs, or when everything is done.
    PowerCut(Option<usize>),
    /// Its disk is full, and writes end in a crash.
    DiskFull,
    /// The other servers and it do not hear each other; clients and the operator reach it.
    Links,
    /// Nobody reaches it.
    CutOff,
    /// Its postmaster stands still; sessions go on.
    PostmasterStill,
    /// All of its processes stand still.
    AllStill,
}

/// Sends a signal to every process of the instance on a host.
const SIGNAL_ALL: &str = "for p in $(pgrep -x postgres); do kill -s \"$1\" \"$p\"; done";

/// Uses up what is left of the segments of WAL that are there already.
const USE_UP: &str = "CREATE TABLE IF NOT EXISTS filler (i int);
    INSERT INTO filler VALUES (1); SELECT pg_switch_wal();";

impl Death {
    pub(super) fn of(rng: &mut Rng) -> Self {
        match rng.u32(0..12) {
            0..3 => Death::Killed,
            3 => Death::Stopped,
            4 | 5 => Death::PowerCut(None),
            6 => Death::PowerCut(Some(rng.usize(1..=2))),
            7 => Death::DiskFull,
            8 => Death::Links,
            9 => Death::CutOff,
            10 => Death::PostmasterStill,
            _ => Death::AllStill,
        }
    }

    /// Whether the primary does not run any more, whatever its operator makes of that.
    pub(super) fn is_certain(self) -> bool {
        matches!(self, Death::Killed | Death::Stopped | Death::PowerCut(_))
    }
}

impl Stage {
    /// Whether the instance of a server answers.
    pub(super) fn answers(&self, name: &str) -> bool {
        self.lab.host(name).psql(self.lab.port, "postgres", "SELECT 1").is_ok()
    }

    /// Whether a server is the primary.
    pub(super) fn is_primary(&self, name: &str) -> bool {
        let asked = self.lab.host(name).psql(self.lab.port, "postgres", "SELECT pg_is_in_recovery()");
        asked.is_ok_and(|answer| answer == "f")
    }

    /// Lets a fail.
    pub(super) fn fails(&self, death: Death) {
        let (lab, a) = (&self.lab, self.lab.host("a"));
        match death {
            Death::Killed => a.signal_postmaster(&self.data(), "KILL").unwrap(),
            Death::Stopped => drop(lab.run("a", &["systemctl", "stop", &self.unit()])),
            Death::PowerCut(_) => a.power_cut().unwrap(),
            Death::DiskFull => {
                a.fill_disk(DISK, 64).unwrap();
                for _ in 0..20 {
                    if a.psql(lab.port, "postgres", USE_UP).is_err() {
                        break;
                    }
                }
            }
            Death::Links => {
                for other in ["b", "c"] {
                    lab.lab().drop_link(a, lab.host(other)).unwrap();
                }
            }
            Death::CutOff => a.cut_link().unwrap(),
            Death::PostmasterStill => a.signal_postmaster(&self.data(), "STOP").unwrap(),
            Death::AllStill => drop(lab.run("a", &["sh", "-c", SIGNAL_ALL, "sh", "STOP"])),
        }
        if matches!(death, Death::Killed | Death::Stopped) {
            until(Instant::now() + SOON, || !self.answers("a"));
        }
    }

    /// What made a fail is over; whether it runs again is another matter.
    pub(super) fn is_over(&self, death: Death) {
        let (lab, a) = (&self.lab, self.lab.host("a"));
        if !a.is_running() {
            a.boot().unwrap_or_else(|error| panic!("{}", crate::scenario::chain(&error)));
        }
        match death {
            Death::Killed | Death::Stopped | Death::PowerCut(_) => {}
            Death::DiskFull => a.free_disk(DISK).unwrap(),
            Death::Links => {
                for other in ["b", "c"] {
                    lab.lab().mend_drop(a, lab.host(other)).unwrap();
                }
            }
            Death::CutOff => a.mend_link().unwrap(),
            Death::PostmasterStill | Death::AllStill => {
                drop(lab.run("a", &["sh", "-c", SIGNAL_ALL, "sh", "CONT"]));
            }
        }
    }

    /// The operator ends a primary that is not dead, as the refusals say.
    pub(super) fn ends(&self, death: Death) {
        match death {
            // Its plug is all that is within reach.
            Death::CutOff => self.lab.host("a").power_cut().unwrap(),
            // What stands still hears nothing else.
            Death::PostmasterStill | Death::AllStill => {
                drop(self.lab.run("a", &["sh", "-c", SIGNAL_ALL, "sh", "KILL"]));
            }
            // Not in order: what it would wait for does not come.
            _ => drop(self.lab.host("a").signal_postmaster(&self.data(), "QUIT")),
        }
        if death != Death::CutOff {
            until(Instant::now() + SOON, || !self.answers("a"));
        }
    }

    /// What the control file of a says, where the host runs.
    pub(super) fn control_of_a(&self) -> Option<String> {
        let program = format!("/usr/lib/postgresql/{}/bin/pg_controldata", self.release.postgres_major());
        self.lab.host("a").run(&[&program, "-D", &self.data()]).ok()
    }
}
