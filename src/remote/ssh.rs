//! [`Host`] over one OpenSSH master, by OpenSSH's own multiplexing protocol: no process per command.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use openssh::{Child, Error as SshError, ForwardType, Session, Socket, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

use crate::event::{Event, Events};
use crate::model::argv::{Argv, Login};
use crate::model::name::ServerName;
use crate::remote::connect::{Place, tcp_target};
use crate::remote::error::RemoteError;
use crate::remote::private::PrivateDirectory;
use crate::remote::{Host, LOOK, Output, Relay, classify, private, script};
use crate::wait;

/// sshd allows 10 sessions per connection (`MaxSessions`).
const SESSIONS_MAX: u32 = 5;

/// The status with which ssh says that it failed; a command may say it, too.
const STATUS_UNKNOWN: i32 = 255;

/// The status with which a shell says that it found no such program; `openssh` makes an error of it.
const STATUS_NOT_FOUND: i32 = 127;

/// A connection to one server. Dropping it ends the master some seconds later; [`Ssh::close`] ends it at once.
#[derive(Debug)]
pub struct Ssh {
    name: ServerName,
    session: Arc<Session>,
    place: Place,
    sessions: Semaphore,
    /// Whether sshd opens but one session at a time.
    is_narrow: Mutex<bool>,
    forwards: Mutex<HashMap<String, PathBuf>>,
    events: Events,
    /// Keeps the master alive: see [`crate::remote::connect`].
    _leash: UnixStream,
    /// Removed with the last connection.
    _base: Arc<PrivateDirectory>,
}

/// How much one remote execution may write; a server that is damaged, or is no server of ours any more, must not cost this
/// machine its memory. The audit log of ten thousand runs has a tenth of it.
const OUTPUT_MAX_BYTES: u64 = 32 << 20;

/// How many characters are shown of an answer that was not ours.
const SAID_CHARS: usize = 200;

/// How ssh says that a server forwards nothing, by its configuration or that of the key (`channels.c`).
const PROHIBITED: &str = "administratively prohibited";

/// What every PostgreSQL answers at once, with one byte (manual, 55.2.1: SSLRequest).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// How long that is waited for. Who says nothing forbids nothing.
const ANSWER: Duration = Duration::from_secs(3);

/// How much longer a look is waited for than it may take there, where it is ended.
const GRACE: Duration = Duration::from_secs(5);

/// The statuses with which `timeout` says that it ended a command.
const STATUS_TIMED_OUT: [i32; 2] = [124, 137];

/// What ssh says when sshd opens no further session on a connection.
const SESSION_REFUSED: &str = "Session open refused by peer";

/// How long is waited for sshd to let go of a session that has ended.
const FREED: Duration = Duration::from_secs(5);

/// A command that was begun, and its turn.
type Begun<'a> = (Child<Arc<Session>>, SemaphorePermit<'a>);

/// Why a command was not begun.
enum NoSession {
    /// sshd opens no further session, and those that are open stay.
    TooMany,
    /// Whatever it is.
    Broken(SshError),
}

fn is_refused(error: &SshError) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains(SESSION_REFUSED) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What one remote execution came to.
struct Ended {
    status: Option<i32>,
    output: Output,
}

impl Ssh {
    pub(super) fn new(
        name: ServerName,
        place: Place,
        leash: UnixStream,
        base: Arc<PrivateDirectory>,
        events: Events,
    ) -> Self {
        Self {
            name,
            session: Arc::new(Session::resume_mux(place.control.clone().into_boxed_path(), None)),
            place,
            sessions: Semaphore::new(SESSIONS_MAX as usize),
            is_narrow: Mutex::new(false),
            forwards: Mutex::default(),
            events,
            _leash: leash,
            _base: base,
        }
    }

    /// Ends the master. A connection that is already gone needs no ending.
    pub async fn close(self) {
        // While a stream is open, the master ends with that, and with its leash.
        if let Some(session) = Arc::into_inner(self.session) {
            let _ = session.close().await;
        }
    }

    /// Says whether the master still answers. It may not know yet that the server is gone.
    pub async fn is_connected(&self) -> bool {
        self.session.check().await.is_ok()
    }

    fn round_trip(&self, commands: Vec<String>) {
        self.events.send(Event::RoundTrip { server: self.name.clone(), commands });
    }

    /// Runs one remote command line. `shown` is what an error shows.
    async fn execute(&self, remote: &str, stdin: Vec<u8>, shown: &str) -> Result<Ended, RemoteError> {
        let (mut child, _turn) = self.spawn(remote, !stdin.is_empty()).await.map_err(|error| match error {
            NoSession::TooMany => RemoteError::OneSession { server: self.name.clone() },
            NoSession::Broken(error) => RemoteError::Disconnected {
                server: self.name.clone(),
                line: shown.to_owned(),
                detail: self.transport_words(&error),
            },
        })?;
        let input = child.stdin().take();
        let feed = async {
            if let Some(mut input) = input {
                // A command that ends without reading everything is judged by its status.
                let _ = input.write_all(&stdin).await;
                let _ = input.shutdown().await;
            }
        };
        let (stdout, stderr) = (child.stdout().take(), child.stderr().take());
        let fed = async {
            feed.await;
            Ok(())
        };
        // Where it writes too much nobody waits for its end: what reads from it goes, and so does its channel.
        let Ok(((), stdout, stderr)) = tokio::try_join!(fed, whole(stdout), whole(stderr)) else {
            let (server, line) = (self.name.clone(), shown.to_owned());
            return Err(RemoteError::TooMuch { server, line, limit_bytes: OUTPUT_MAX_BYTES });
        };
        let ended = child.wait().await;
        let unknown =
            |detail: String| RemoteError::OutcomeUnknown { server: self.name.clone(), line: shown.to_owned(), detail };
        match ended {
            Ok(status) => self.ours(status.code(), stdout, stderr, shown),
            Err(SshError::Remote(_)) => Ok(Ended { status: Some(STATUS_NOT_FOUND), output: Output::default() }),
            // No status came: a signal ended the command, or the connection is lost and the master with it.
            Err(SshError::RemoteProcessTerminated) if self.is_connected().await => {
                Ok(Ended { status: None, output: Output::default() })
            }
            Err(error) => Err(unknown(self.transport_words(&error))),
        }
    }

    /// Starts a command in a session of its own. Where sshd lets a connection have fewer than we would use (`MaxSessions`), one waits
    /// for the other from then on: what was refused was not begun.
    async fn spawn(&self, remote: &str, reads: bool) -> Result<Begun<'_>, NoSession> {
        let tried = wait::until_some(FREED, wait::LOOK_AGAIN, || self.try_spawn(remote, reads)).await;
        tried.unwrap_or(Err(NoSession::TooMany))
    }

    /// Does so once; none where sshd opens no further session now.
    async fn try_spawn(&self, remote: &str, reads: bool) -> Option<Result<Begun<'_>, NoSession>> {
        let turn = self.sessions.acquire().await.ok()?;
        let mut command = Arc::clone(&self.session).arc_raw_command(script::marked(remote));
        command.stdin(if reads { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        match command.spawn().await {
            Ok(child) => Some(Ok((child, turn))),
            Err(error) if is_refused(&error) => {
                drop(turn);
                self.one_at_a_time().await;
                None
            }
            Err(error) => Some(Err(NoSession::Broken(error))),
        }
    }

    /// Lets one session at a time be open from now on.
    async fn one_at_a_time(&self) {
        let mut is_narrow = self.is_narrow.lock().await;
        if !*is_narrow && let Ok(others) = self.sessions.acquire_many(SESSIONS_MAX - 1).await {
            others.forget();
            *is_narrow = true;
        }
    }

    /// Takes from an answer what a command of ours wrote.
    fn ours(&self, status: Option<i32>, stdout: Vec<u8>, stderr: Vec<u8>, shown: &str) -> Result<Ended, RemoteError> {
        let said = String::from_utf8_lossy(&stdout).chars().chain(" ".chars()).take(SAID_CHARS).collect::<String>();
        match (script::between_marks(stdout), status) {
            (Some(stdout), _) => Ok(Ended { status, output: Output { stdout, stderr } }),
            // ssh itself failed, or a signal ended it: nothing is known about what ran.
            (None, None | Some(STATUS_UNKNOWN)) => Ok(Ended { status, output: Output { stdout: Vec::new(), stderr } }),
            (None, Some(_)) => {
                let said = [said, String::from_utf8_lossy(&stderr).chars().take(SAID_CHARS).collect()].concat();
                let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
                Err(RemoteError::Replaced { server: self.name.clone(), line: shown.to_owned(), said })
            }
        }
    }

    /// Says whether the master was told that sshd forwards nothing there.
    fn was_prohibited(&self) -> bool {
        fs::read_to_string(&self.place.log).unwrap_or_default().contains(PROHIBITED)
    }

    /// Returns the transport's error with what the master wrote to its log.
    fn transport_words(&self, error: &SshError) -> String {
        let mut text = error.to_string();
        let log = fs::read_to_string(&self.place.log).unwrap_or_default();
        if let Some(last) = classify::words(&log).lines().last() {
            text.push_str("; ssh said: ");
            text.push_str(last);
        }
        text
    }

    fn judge(&self, ended: Ended, lines: &[String]) -> Result<Output, RemoteError> {
        let Ended { status, output } = ended;
        if status == Some(0) {
            return Ok(output);
        }
        let Output { stdout, stderr } = output;
        let (index, status, stderr) = match script::failed_command(&stderr) {
            Some((index, status, stderr)) if lines.len() > 1 => (index, Some(status), stderr),
            // A batch always says where it stopped; without that, and without a status, nothing is known about it.
            None if lines.len() > 1 => {
                return Err(self.unknown(lines, "the batch ended without saying where"));
            }
            _ if status == Some(STATUS_UNKNOWN) => {
                return Err(self.unknown(lines, "status 255 means a broken connection or a command that said 255"));
            }
            _ => (0, status, stderr),
        };
        let line = lines.get(index).cloned().unwrap_or_default();
        Err(RemoteError::Command { server: self.name.clone(), line, index, status, stdout, stderr })
    }

    fn unknown(&self, lines: &[String], detail: &str) -> RemoteError {
        RemoteError::OutcomeUnknown { server: self.name.clone(), line: lines.join(" && "), detail: detail.to_owned() }
    }
}

/// That it was more than is taken.
struct TooMuch;

/// Reads everything, unless that is more than is taken. What ends the connection shows in the status.
async fn whole(from: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, TooMuch> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        let _ = from.take(OUTPUT_MAX_BYTES + 1).read_to_end(&mut bytes).await;
    }
    if bytes.len() as u64 <= OUTPUT_MAX_BYTES { Ok(bytes) } else { Err(TooMuch) }
}

#[async_trait]
impl Host for Ssh {
    fn name(&self) -> &ServerName {
        &self.name
    }

    async fn run(&self, batch: &[Argv], login: &Login) -> Result<Output, RemoteError> {
        if batch.is_empty() {
            return Ok(Output::default());
        }
        let remote =
            script::batch(batch, login).map_err(|source| RemoteError::Batch { server: self.name.clone(), source })?;
        let lines: Vec<String> = batch.iter().map(|command| command.line(login)).collect();
        self.round_trip(lines.clone());
        // One of them has it at most.
        let stdin = batch.iter().flat_map(Argv::stdin_bytes).collect();
        let ended = self.execute(&remote, stdin, &lines.join(" && ")).await?;
        self.judge(ended, &lines)
    }

    async fn probe_within(&self, limit: Duration, script: &str, args: &[String]) -> Result<Output, RemoteError> {
        let remote = script::probe(limit, args);
        // The line that does the same by hand; the script is long and always the same.
        let lines = vec!["sh -s".to_owned()];
        self.round_trip(lines.clone());
        let begun = Instant::now();
        let look = self.execute(&remote, script.as_bytes().to_vec(), "sh -s");
        let ended = super::within(&self.name, limit, GRACE, || "sh -s".to_owned(), look).await?;
        if begun.elapsed() >= limit && ended.status.is_some_and(|status| STATUS_TIMED_OUT.contains(&status)) {
            let (server, line) = (self.name.clone(), "sh -s".to_owned());
            return Err(RemoteError::TimedOut { server, line, seconds: limit.as_secs() });
        }
        self.judge(ended, &lines)
    }

    async fn forward(&self, remote_host: &str, remote_port: u16) -> Result<PathBuf, RemoteError> {
        let target = tcp_target(remote_host, remote_port);
        let mut forwards = self.forwards.lock().await;
        if let Some(socket) = forwards.get(&target) {
            return Ok(socket.clone());
        }
        self.round_trip(vec![["forward ", &target].concat()]);
        let mut file = String::from(private::FORWARD);
        file.push_str(&forwards.len().to_string());
        let socket = self.place.dir.join(file);
        self.session
            .request_port_forward(ForwardType::Local, socket.as_path(), Socket::new(remote_host, remote_port))
            .await
            .map_err(|error| RemoteError::Forward {
                server: self.name.clone(),
                target: target.clone(),
                detail: self.transport_words(&error),
            })?;
        forwards.insert(target, socket.clone());
        Ok(socket)
    }

    async fn may_forward(&self, remote_host: &str, remote_port: u16) -> Result<(), RemoteError> {
        let socket = self.forward(remote_host, remote_port).await?;
        let asked = tokio::time::timeout(ANSWER, async {
            let mut stream = UnixStream::connect(&socket).await?;
            stream.write_all(&SSL_REQUEST).await?;
            stream.read(&mut [0]).await
        });
        match asked.await {
            // Where nothing listens, it ends as well, and the log says that.
            Ok(Ok(0) | Err(_)) if self.was_prohibited() => Err(RemoteError::ForwardingOff {
                server: self.name.clone(),
                target: tcp_target(remote_host, remote_port),
            }),
            _ => Ok(()),
        }
    }

    async fn relay(&self, command: &Argv, login: &Login) -> Result<Relay, RemoteError> {
        let shown = command.line(login);
        let remote = script::batch(std::slice::from_ref(command), login)
            .map_err(|source| RemoteError::Batch { server: self.name.clone(), source })?;
        self.round_trip(vec![shown.clone()]);
        let failed =
            |detail: String| RemoteError::Disconnected { server: self.name.clone(), line: shown.clone(), detail };
        // It holds its session for as long as it lives, and others need one meanwhile.
        let (mut child, turn) = self.spawn(&remote, true).await.map_err(|error| match error {
            NoSession::TooMany => RemoteError::OneSession { server: self.name.clone() },
            NoSession::Broken(error) => failed(self.transport_words(&error)),
        })?;
        drop(turn);
        self.execute("true", Vec::new(), "true").await?;
        let (writes, reads, errors) = (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let (Some(writes), Some(mut reads), Some(errors)) = (writes, reads, errors) else {
            return Err(failed("its standard input and output are not there".to_owned()));
        };
        let begun = super::within(&self.name, LOOK, Duration::ZERO, || shown.clone(), async {
            Ok(script::until_begun(&mut reads).await)
        });
        match begun.await? {
            Ok(()) => Ok(Relay::new(reads, writes, errors, child)),
            Err(said) => Err(RemoteError::Replaced { server: self.name.clone(), line: shown, said }),
        }
    }
}
