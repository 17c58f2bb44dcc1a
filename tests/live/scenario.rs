//! What every scenario stands on: hosts, an inventory that can be edited, the built pgstead, and looking past it.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs::File;
use std::io::Seek;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use pgstead::lab::hosts;
use pgstead::lab::hosts::Guard;
use pgstead::lab::hosts::Host;
use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::LabSpec;
use pgstead::lab::hosts::Release;
use serde_json::Value;
use tempfile::TempDir;

use crate::left;
use crate::shared;
use crate::shared::Place;

/// Hosts with an inventory. Everything goes away when it is dropped, after a failure too.
pub(crate) struct Scenario {
    lab: Option<Guard>,
    /// What it began with; nobody else may use the place meanwhile.
    _place: Option<Place>,
    /// The inventory as a value; [`Scenario::edit`] changes it.
    pub(crate) inventory: Value,
    /// Who the primary is, where that is another one than the inventory prefers.
    pub(crate) moved_to: Option<String>,
    /// The port of every instance.
    pub(crate) port: u16,
    /// Where [`Scenario::sql`] asks: a database, or a connection string of libpq.
    pub(crate) database: &'static str,
    dir: TempDir,
    since: Instant,
}

/// Stands for a scenario's directory in an inventory that is kept.
const DIRECTORY: &str = "<the scenario's directory>";

/// How long a run of pgstead may take: nothing here needs a third of it.
const LONGEST: Duration = Duration::from_secs(300);

/// What a run of pgstead said.
pub(crate) struct Ran {
    /// Its exit code.
    pub(crate) code: i32,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
    /// The preflight that must tell what a bootstrap refuses.
    pub(crate) preflight: Option<Preflight>,
}

/// The preflight of the servers that a bootstrap is for.
pub(crate) struct Preflight {
    /// Its words, from the path of the inventory on.
    args: Vec<OsString>,
    /// The directory for what a run alone needs.
    runtime: PathBuf,
}

impl Preflight {
    /// That of a run, where it is a bootstrap. Whether a new CA is wished, or a server left out, no preflight knows.
    fn of(command: &Command, runtime: PathBuf) -> Option<Self> {
        let args: Vec<OsString> = command.get_args().map(OsStr::to_owned).collect();
        let at = args.iter().position(|word| word == "bootstrap")?;
        let words = ["preflight", "--no-throughput", "--format", "json"];
        let is_known = !args.iter().any(|word| word == "--new-authority" || word == "--without");
        is_known.then(|| Self { args: args[..at].iter().cloned().chain(words.map(OsString::from)).collect(), runtime })
    }

    fn run(&self) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgstead"));
        command.args(&self.args).env("NO_COLOR", "1").stdin(std::process::Stdio::null());
        let output = command.env("XDG_RUNTIME_DIR", &self.runtime).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), unwrapped(&text(output.stderr)));
        Ran { code: output.status.code().unwrap_or(-1), stdout, stderr, preflight: None }
    }
}

/// What a preflight need not tell: whether somebody can be asked is a matter of the run, and so is who works there right now.
const OF_THE_RUN: [&str; 2] = ["consent-missing", "locked"];
/// What it tells as a remark: every consent can be given.
const REMARKED: [&str; 1] = ["restart-needs-consent"];

impl Ran {
    /// Returns standard output as the one JSON document that it must be.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// Demands an exit code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code\n{self}");
        if code == 5 {
            self.preflight_tells();
        }
        self
    }

    /// Demands that whatever a bootstrap refused, a preflight tells, under the same code.
    #[track_caller]
    pub(crate) fn preflight_tells(&self) {
        let Some(preflight) = &self.preflight else { return };
        let of_stderr = self.stderr.lines().filter_map(|line| line.strip_prefix("ERROR [")?.split_once("]:"));
        let document: Value = serde_json::from_str(&self.stdout).unwrap_or_default();
        let lists = ["refusals", "errors"].into_iter().filter_map(|key| document[key].as_array()).flatten();
        let of_json = lists.filter_map(|one| one["code"].as_str());
        let mut codes: Vec<&str> = of_stderr.map(|(code, _)| code).chain(of_json).collect();
        codes.retain(|code| !OF_THE_RUN.contains(code));
        if codes.is_empty() {
            return;
        }
        let ran = preflight.run();
        let told = ran.codes();
        for code in &codes {
            assert!(told.iter().any(|one| one == code), "no preflight tells {code}\n{self}\n{ran}");
        }
        assert!(ran.code != 0 || codes.iter().all(|code| REMARKED.contains(code)), "{ran}");
    }

    /// Returns the codes of the diagnostics on standard error, and of the findings of a check in JSON.
    pub(crate) fn codes(&self) -> Vec<String> {
        let of_stderr = self.stderr.lines().filter_map(|line| {
            let (_, rest) = line.split_once(" [")?;
            Some(rest.split_once("]:")?.0.to_owned())
        });
        let document: Option<Value> = serde_json::from_str(&self.stdout).ok();
        let list =
            |key: &str| document.as_ref().and_then(|document| document[key].as_array().cloned()).unwrap_or_default();
        let of_json = ["findings", "refusals", "errors"].into_iter().flat_map(list);
        of_stderr.chain(of_json.filter_map(|finding| finding["code"].as_str().map(str::to_owned))).collect()
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\nstdout:\n{}\nstderr:\n{}", self.code, self.stdout, self.stderr)
    }
}

/// A question that is asked over and over on a host.
pub(crate) struct Watch<'a> {
    host: &'a Host,
    child: std::process::Child,
    path: PathBuf,
}

impl Watch<'_> {
    /// All answers and errors until now.
    pub(crate) fn so_far(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap()
    }

    /// Stops asking and returns all answers and errors, a line each.
    pub(crate) fn end(mut self) -> String {
        self.host.run(&["rm", "/run/watch"]).unwrap();
        self.child.wait().unwrap();
        self.so_far()
    }
}

/// A run of pgstead that goes on.
pub(crate) struct Started {
    /// Its process.
    pub(crate) child: std::process::Child,
    stdout: File,
    stderr: File,
    /// What runs, and where what they say is kept.
    words: String,
    log: PathBuf,
    preflight: Option<Preflight>,
}

impl Started {
    /// Sends a signal to pgstead alone, or to its whole process group as a terminal does.
    pub(crate) fn signal(&self, signal: &str, group: bool) {
        let id = self.child.id();
        let target = if group { format!("-{id}") } else { id.to_string() };
        assert!(Command::new("kill").args(["-s", signal, "--", &target]).status().unwrap().success());
    }

    /// What it has written to stderr so far.
    pub(crate) fn said(&self) -> String {
        use std::os::unix::fs::FileExt;
        // The position is the child's, too.
        let mut said = vec![0; self.stderr.metadata().unwrap().len().try_into().unwrap()];
        self.stderr.read_exact_at(&mut said, 0).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Waits until it ends.
    pub(crate) fn end(mut self) -> Ran {
        let status = self.child.wait().unwrap();
        let [stdout, stderr] = [self.stdout, self.stderr].map(|mut file| {
            file.rewind().unwrap();
            std::io::read_to_string(file).unwrap()
        });
        let ran =
            Ran { code: status.code().unwrap_or(-1), stdout, stderr: unwrapped(&stderr), preflight: self.preflight };
        let mut log = File::options().create(true).append(true).open(&self.log).unwrap();
        writeln!(log, "{}\n{ran}", self.words).unwrap();
        ran
    }
}

/// Puts the lines of a diagnostic together again that were wrapped: where that happens depends on names and times.
fn unwrapped(text: &str) -> String {
    const BEGINS: [&str; 5] = ["ERROR [", "WARNING [", "NOTE [", "DETAIL: ", "HINT: "];
    let mut whole = String::with_capacity(text.len());
    let mut is_diagnostic = false;
    for line in text.split_inclusive('\n') {
        match line.strip_prefix("  ").filter(|rest| is_diagnostic && !rest.starts_with("at ")) {
            Some(rest) => {
                whole.truncate(whole.trim_end().len());
                whole.push(' ');
                whole.push_str(rest);
            }
            None => {
                is_diagnostic = BEGINS.iter().any(|begin| line.starts_with(begin));
                whole.push_str(line);
            }
        }
    }
    whole
}

impl Scenario {
    /// Boots ordinary hosts of one release.
    pub(crate) fn boot(release: Release, names: &[&str]) -> Self {
        Self::of(names.iter().map(|name| HostSpec::new(name, release)).collect())
    }

    /// Boots hosts.
    pub(crate) fn of(specs: Vec<HostSpec>) -> Self {
        Self::up(LabSpec { in_memory: true, ..LabSpec::new(PathBuf::new(), specs) })
    }

    fn up(mut spec: LabSpec) -> Self {
        let dir = tempfile::Builder::new().prefix("pgstead-live-").tempdir_in("/var/tmp").unwrap();
        spec.dir = dir.path().join("lab");
        let lab = hosts::up(spec).unwrap_or_else(|error| panic!("{}", chain(&error))).guard();
        let inventory = hosts::inventory::value(&lab);
        let (port, database, since) = (5432, "postgres", Instant::now());
        let scenario = Self { lab: Some(lab), _place: None, inventory, moved_to: None, port, database, dir, since };
        scenario.write();
        scenario
    }

    /// Begins with the lab's topology as a bootstrap made it, after a boot of all its servers. What is about a bootstrap itself
    /// boots bare servers ([`Self::boot`]).
    pub(crate) fn bootstrapped(release: Release, names: &[&str]) -> Self {
        Self::begun("bootstrapped", release, names, |lab| drop(lab.bootstrap()))
    }

    /// Begins with what `make` makes of bare servers, after a boot of all: it is made once, and shared under its name by all
    /// scenarios that begin so.
    pub(crate) fn begun(start: &str, release: Release, names: &[&str], make: impl FnOnce(&mut Self)) -> Self {
        let hosts: Vec<_> = names.iter().map(|name| HostSpec::new(name, release)).collect();
        let place = Place::take(start, &hosts);
        let number = Some(place.number);
        let spec = LabSpec { in_memory: true, number, ..LabSpec::new(PathBuf::new(), hosts) };
        if !place.is_made() {
            place.clear();
            let mut bare = Self::up(spec.clone());
            make(&mut bare);
            bare.lab().keep(&place.hosts()).unwrap_or_else(|error| panic!("{}", chain(&error)));
            bare.keep_operator(&place.operator());
            place.seal();
        }
        place.require_unchanged();
        let mut lab = Self::up(LabSpec { begins_with: Some(place.hosts()), ..spec });
        lab.take_operator(&place.operator());
        lab._place = Some(place);
        lab.is_up();
        lab
    }

    /// Keeps the inventory, with the lab's directory cut out of it, and the state.
    fn keep_operator(&self, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        let inventory = serde_json::to_string(&self.inventory).unwrap();
        std::fs::write(to.join("inventory"), inventory.replace(self.dir.path().to_str().unwrap(), DIRECTORY)).unwrap();
        shared::copy(&self.dir.path().join(".pgstead"), &to.join("state"));
    }

    fn take_operator(&mut self, kept: &Path) {
        let inventory = std::fs::read_to_string(kept.join("inventory")).unwrap();
        let inventory = inventory.replace(DIRECTORY, self.dir.path().to_str().unwrap());
        shared::copy(&kept.join("state"), &self.dir.path().join(".pgstead"));
        self.edit(|value| *value = serde_json::from_str(&inventory).unwrap());
    }

    /// Waits until all servers have booted, and all standbys stream.
    fn is_up(&self) {
        let names: Vec<String> = self.inventory["servers"].as_object().unwrap().keys().cloned().collect();
        for name in &names {
            // It waits for the jobs of the boot, events and all; what it thinks of the system is not asked.
            let _ = self.host(name).exec(&["systemctl", "is-system-running", "--wait"]).unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut streaming = Vec::new();
        until(deadline, || {
            let sql = "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'";
            let on =
                |name: &String| self.host(name).psql(self.port, "postgres", sql).unwrap_or_else(|error| chain(&error));
            streaming = names.iter().map(on).collect();
            streaming.iter().flat_map(|names| names.lines()).count() == names.len() - 1
        });
        let n_streaming = streaming.iter().flat_map(|names| names.lines()).count();
        assert_eq!(n_streaming, names.len() - 1, "{names:?} say who streams: {streaming:?}");
    }

    /// Changes the inventory and writes it.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.inventory);
        if let Some(port) = self.inventory["postgres"]["port"].as_u64() {
            self.port = u16::try_from(port).unwrap();
        }
        self.write();
    }

    fn write(&self) {
        std::fs::write(self.path(), serde_json::to_string_pretty(&self.inventory).unwrap()).unwrap();
    }

    /// Returns the inventory's path. JSON is YAML, too.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("pgstead.yaml")
    }

    /// Returns the directory of the topology's state on the operator's side.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join(".pgstead").join(self.inventory["topology"].as_str().unwrap())
    }

    /// Returns the directory in which pgstead keeps what a run alone needs.
    pub(crate) fn runtime(&self) -> PathBuf {
        let path = self.dir.path().join("run");
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Makes everything as it was in the beginning: all hosts at once, and the operator knows nothing of them.
    pub(crate) fn reset(&mut self) {
        std::thread::scope(|scope| {
            for host in self.lab().hosts() {
                scope.spawn(|| host.reset().unwrap_or_else(|error| panic!("{}", chain(&error))));
            }
        });
        let _ = std::fs::remove_dir_all(self.dir.path().join(".pgstead"));
        self.inventory = hosts::inventory::value(self.lab());
        self.moved_to = None;
        self.port = 5432;
        self.write();
    }

    /// Returns the lab.
    pub(crate) fn lab(&self) -> &hosts::HostsLab {
        self.lab.as_ref().unwrap()
    }

    /// Returns a host.
    #[track_caller]
    pub(crate) fn host(&self, name: &str) -> &Host {
        self.lab().host(name).unwrap()
    }

    /// Prepares a run of the built pgstead.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgstead"));
        command.arg("-i").arg(self.path()).args(args).env("NO_COLOR", "1").stdin(std::process::Stdio::null());
        command.env("XDG_RUNTIME_DIR", self.runtime());
        command
    }

    /// Runs pgstead.
    ///
    /// What runs is printed, and what hangs is looked at: a test that is ended from outside tells nothing.
    #[track_caller]
    pub(crate) fn pgstead(&self, args: &[&str]) -> Ran {
        println!("{:?} pgstead {}", self.since.elapsed(), args.join(" "));
        let started = self.spawn(self.command(args));
        let id = started.child.id().to_string();
        let (ended, until_ended) = mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            (until_ended.recv_timeout(LONGEST) == Err(mpsc::RecvTimeoutError::Timeout)).then(|| {
                let look = Command::new("ps").args(["-eo", "pid,ppid,etime,wchan:20,args"]).output();
                Command::new("kill").args(["-s", "KILL", "--", &id]).status().unwrap();
                String::from_utf8_lossy(&look.unwrap().stdout).into_owned()
            })
        });
        let ran = started.end();
        drop(ended);
        if let Some(processes) = watch.join().unwrap() {
            panic!("{args:?} did not end within {LONGEST:?}: {ran}\n{processes}");
        }
        ran
    }

    /// Starts pgstead in a process group of its own, as a terminal would.
    pub(crate) fn start(&self, args: &[&str]) -> Started {
        use std::os::unix::process::CommandExt;
        let mut command = self.command(args);
        command.process_group(0);
        self.spawn(command)
    }

    /// Returns the file with all that pgstead said in this scenario.
    pub(crate) fn said(&self) -> PathBuf {
        self.dir.path().join("said")
    }

    /// Starts a command that was prepared.
    pub(crate) fn spawn(&self, mut command: Command) -> Started {
        // Files and not pipes: nobody reads while it runs, and a full pipe would hold it up.
        let [stdout, stderr] = [(); 2].map(|()| tempfile::tempfile().unwrap());
        command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
        let words = format!("{:?} {:?}", self.since.elapsed(), command.get_args().skip(2).collect::<Vec<_>>());
        let preflight = Preflight::of(&command, self.runtime());
        Started { child: command.spawn().unwrap(), stdout, stderr, words, log: self.said(), preflight }
    }

    /// Demands that nothing is left to do: the second run changes nothing, the plan is empty, the check is healthy.
    #[track_caller]
    pub(crate) fn settled(&self) {
        self.pgstead(&["plan", "--exit-code"]).expect(0);
        let again = self.pgstead(&["bootstrap", "--format", "json"]).expect(0);
        assert_eq!(again.json()["changed"], false, "{again}");
        let check = self.pgstead(&["check", "--format", "json"]).expect(0);
        assert_eq!(check.json()["verdict"], "healthy", "{check}");
    }

    /// Demands that standbys stream over TLS with their own certificates through their own slots.
    #[track_caller]
    pub(crate) fn streams(&self, upstream: &str, standbys: &[&str]) {
        let links = self.sql(
            upstream,
            "SELECT string_agg(concat_ws(' ', r.application_name, s.ssl, r.state, s.client_dn, l.slot_name), ', ' \
             ORDER BY r.application_name) FROM pg_stat_replication r JOIN pg_stat_ssl s USING (pid) \
             JOIN pg_replication_slots l ON l.active_pid = r.pid",
        );
        let topology = self.inventory["topology"].as_str().unwrap();
        let wanted: Vec<String> =
            standbys.iter().map(|name| format!("{name} t streaming /CN={name}/O={topology} {name}")).collect();
        assert_eq!(links, wanted.join(", "), "on {upstream}");
    }

    /// Bootstraps and demands success.
    #[track_caller]
    pub(crate) fn bootstrap(&self) -> Ran {
        self.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(0)
    }

    /// Runs SQL on a host as its superuser, over the local socket and past SSH.
    #[track_caller]
    pub(crate) fn sql(&self, host: &str, sql: &str) -> String {
        self.host(host)
            .psql(self.port, self.database, sql)
            .unwrap_or_else(|error| panic!("{host}: {sql}: {}", chain(&error)))
    }

    /// Asks the same every 20 ms on a host, and connects again whenever the connection is lost, until told to end.
    pub(crate) fn watch(&self, host: &str, sql: &str) -> Watch<'_> {
        const LOOP: &str = "while [ -e /run/watch ]; do \
            while [ -e /run/watch ]; do printf '%s;\\n' \"$2\"; pause 0.02; done | \
            runuser -u postgres -- psql -XAtq -p \"$1\" 2>&1; done";
        self.run(host, &["touch", "/run/watch"]);
        let mut command =
            self.host(host).command(&["bash", "-c", &with_pause(LOOP), "bash", &self.port.to_string(), sql]).unwrap();
        let path = self.dir.path().join(format!("watch-{host}"));
        command.stdout(File::create(&path).unwrap()).stdin(std::process::Stdio::null());
        Watch { host: self.host(host), child: command.spawn().unwrap(), path }
    }

    /// Runs a command on a host, past SSH, and demands success.
    #[track_caller]
    pub(crate) fn run(&self, host: &str, argv: &[&str]) -> String {
        self.host(host).run(argv).unwrap_or_else(|error| panic!("{host}: {argv:?}: {}", chain(&error)))
    }

    /// What the journal of a host says, with all that services have said until now: journald takes it in a moment later.
    #[track_caller]
    pub(crate) fn journal(&self, host: &str, options: &[&str]) -> String {
        self.run(host, &["journalctl", "--sync"]);
        self.run(host, &[&["journalctl", "--no-pager", "--quiet", "--output=cat"], options].concat())
    }

    /// Has the sshd of a host obey one more file, or no longer if it is empty. It listens again when this returns: a
    /// reload returns while sshd still opens its port anew, and who comes just then is refused. Sessions stay.
    #[track_caller]
    pub(crate) fn sshd(&self, host: &str, file: &str, lines: &str) {
        let path = format!("/etc/ssh/sshd_config.d/{file}.conf");
        self.host(host).write_file(&path, lines.as_bytes()).unwrap();
        self.run(host, &["systemctl", "restart", "ssh"]);
    }

    /// Waits until SQL on a host answers what is expected.
    #[track_caller]
    pub(crate) fn eventually(&self, host: &str, sql: &str, expected: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut last = String::new();
        until(deadline, || {
            last = self.host(host).psql(self.port, self.database, sql).unwrap_or_else(|error| chain(&error));
            last == expected
        });
        assert_eq!(last, expected, "{host}: {sql}");
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        if std::thread::panicking() && self.lab.is_some() {
            left::keep(self);
        }
    }
}

/// Returns a script of bash in which `pause SECONDS` starts no process: loops that write or look many times a second would
/// otherwise take the cores from what they watch.
pub(crate) fn with_pause(body: &str) -> String {
    ["exec 9<> <(:); pause() { read -rt \"$1\" -u 9 || :; }; ", body].concat()
}

/// Looks again until it holds or the time is up; the caller asserts. A look may cost whole processes, so that they become
/// rarer while nothing comes of them.
pub(crate) fn until(deadline: Instant, mut holds: impl FnMut() -> bool) {
    let mut pause = Duration::from_millis(20);
    while !holds() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(pause.min(left));
        pause = (pause * 5 / 4).min(Duration::from_millis(200));
    }
}

/// Returns an error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
