//! What is recorded on the hosts while faults strike: who was writable when, and which rows were acknowledged.
//!
//! Both go on through power cuts and restarts: whoever records is started again as soon as the host is there.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts::Host;
use tempfile::TempDir;

use crate::scenario::Scenario;
use crate::scenario::until;
use crate::scenario::with_pause;

/// Keeps a session open as long as there is a server and `/run/$1` exists. The SQL ends by an error when that is gone.
const LOOP: &str = "touch /run/$1; while [ -e /run/$1 ]; do \
    if [ -S \"/var/run/postgresql/.s.PGSQL.$2\" ]; then cd /; \
    printf '%s \\\\watch %s\\n' \"$3\" \"$4\" | runuser -u postgres -- psql -XAtq -p \"$2\" -v ON_ERROR_STOP=1 \
    2>/dev/null; fi; pause 0.05; done";

/// A look at one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Milliseconds; all hosts share one clock.
    pub(crate) at: u64,
    /// Whether it would have taken a write.
    pub(crate) writable: bool,
}

/// Everything that was recorded.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    /// The looks at each host's server, in order.
    pub(crate) samples: Vec<(String, Vec<Sample>)>,
    /// The rows whose commit the primary acknowledged.
    pub(crate) acknowledged: Vec<u64>,
}

/// Records until it is told to end.
pub(crate) struct Recorders {
    dir: TempDir,
    running: Vec<Recorder>,
}

struct Recorder {
    host: Host,
    name: &'static str,
    port: u16,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// A line of a sampler: milliseconds, a space, 0 or 1.
const SAMPLE_BYTES: u64 = 16;
const SAMPLER: &str = "pgstead-sampler";
const LEDGER: &str = "pgstead-ledger";

impl Recorders {
    /// Samples all hosts; and writes a ledger on one of them, where wished.
    pub(crate) fn begin(lab: &Scenario, ledger_on: Option<&str>) -> Self {
        let mut recorders = Self::of(lab, lab.lab().hosts());
        if let Some(name) = ledger_on {
            recorders.ledger(lab, name);
        }
        recorders
    }

    /// Samples some of the hosts: nobody looks for a server where there is none.
    pub(crate) fn of<'a>(lab: &Scenario, hosts: impl IntoIterator<Item = &'a Host>) -> Self {
        let dir = tempfile::Builder::new().prefix("pgstead-traces-").tempdir_in("/var/tmp").unwrap();
        let mut recorders = Self { dir, running: Vec::new() };
        for host in hosts {
            let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint || ' ' || (NOT pg_is_in_recovery())::int \
                FROM pg_stat_file('/run/pgstead-sampler')";
            recorders.start(host, SAMPLER, lab.port, sql, "0.05");
        }
        recorders
    }

    /// Writes a ledger on a host from now on: rows that are only ever added, and noted here when they are acknowledged.
    pub(crate) fn ledger(&mut self, lab: &Scenario, on: &str) {
        let sql = "CREATE TABLE IF NOT EXISTS ledger (id bigserial PRIMARY KEY, at timestamptz DEFAULT clock_timestamp());\n\
            INSERT INTO ledger SELECT nextval('ledger_id_seq'), clock_timestamp() FROM pg_stat_file('/run/pgstead-ledger') \
            RETURNING id";
        self.start(lab.host(on), LEDGER, lab.port, sql, "0.02");
    }

    fn start(&mut self, host: &Host, name: &'static str, port: u16, sql: &str, every: &str) {
        let stop = Arc::new(AtomicBool::new(false));
        let path = self.dir.path().join(format!("{name}.{}", host.name()));
        let file = File::options().create(true).append(true).open(path).unwrap();
        let (of_thread, on, sql, every) = (Arc::clone(&stop), host.clone(), sql.to_owned(), every.to_owned());
        let thread = std::thread::spawn(move || {
            while !of_thread.load(Ordering::Relaxed) {
                let argv = ["bash", "-c", &with_pause(LOOP), "bash", name, &port.to_string(), &sql, &every];
                if let Ok(mut command) = on.command(&argv) {
                    // A host that goes away takes the loop with it.
                    let _ =
                        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(Stdio::null()).status();
                }
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        self.running.push(Recorder { host: host.clone(), name, port, stop, thread });
    }

    /// Ends recording, after a few more looks at everyone, and returns what was recorded.
    pub(crate) fn end(self) -> Traces {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let samplers: Vec<&Recorder> = self.running.iter().filter(|recorder| recorder.name == SAMPLER).collect();
        let path = |sampler: &Recorder| self.dir.path().join(format!("{SAMPLER}.{}", sampler.host.name()));
        let looked: Vec<_> = samplers.iter().map(|sampler| (*sampler, size(&path(sampler)))).collect();
        let looks_again = |(sampler, before): &(&Recorder, u64)| size(&path(sampler)) >= before + 3 * SAMPLE_BYTES;
        until(Instant::now() + Duration::from_secs(3), || looked.iter().all(looks_again));
        // A server that answers is looked at, however busy this machine is.
        let is_silent =
            |(sampler, _): &(&Recorder, u64)| sampler.host.psql(sampler.port, "postgres", "SELECT 1").is_err();
        until(Instant::now() + Duration::from_secs(20), || looked.iter().all(|one| looks_again(one) || is_silent(one)));
        for recorder in &self.running {
            recorder.stop.store(true, Ordering::Relaxed);
        }
        for recorder in self.running {
            while !recorder.thread.is_finished() {
                let _ = recorder.host.exec(&["rm", "-f", &format!("/run/{}", recorder.name)]);
                std::thread::park_timeout(Duration::from_millis(20));
            }
            recorder.thread.join().unwrap();
        }
        read(self.dir.path())
    }

    /// What was recorded until now, while they go on.
    pub(crate) fn so_far(&self) -> Traces {
        read(self.dir.path())
    }
}

fn read(dir: &Path) -> Traces {
    let mut traces = Traces::default();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let file = entry.file_name().into_string().unwrap();
        match file.split_once('.').unwrap() {
            (SAMPLER, host) => {
                // A killed psql may leave half a line.
                let sample = |line: &str| {
                    let (at, writable) = line.split_once(' ')?;
                    let at = at.parse().ok().filter(|_| at.len() == 13)?;
                    Some(Sample { at, writable: writable.parse::<u8>().ok()? == 1 })
                };
                traces.samples.push((host.to_owned(), text.lines().filter_map(sample).collect()));
            }
            // The last line may be half a number, and a row that was not acknowledged.
            _ => traces
                .acknowledged
                .extend(text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.parse::<u64>().ok())),
        }
    }
    traces.samples.sort_by(|one, other| one.0.cmp(&other.0));
    traces
}
