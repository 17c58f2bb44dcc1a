//! A [`Host`] without a server, for tests: it records what it is asked and fails where it is told.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;

use crate::model::argv::Argv;
use crate::model::argv::Login;
use crate::model::name::ServerName;
use crate::remote::Host;
use crate::remote::Output;
use crate::remote::Relay;
use crate::remote::RemoteError;

/// How a scripted failure looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// The command says status 1.
    Status,
    /// The connection is lost before the command is sent.
    Before,
    /// The connection is lost after the command ran.
    After,
}

/// A scripted server.
#[derive(Debug)]
pub struct FakeHost {
    name: ServerName,
    fail: Option<(usize, Break)>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    commands: Vec<String>,
    answers: std::collections::VecDeque<Output>,
}

impl FakeHost {
    /// Makes a server where everything succeeds and prints nothing.
    pub fn new(name: ServerName) -> Self {
        Self { name, fail: None, state: Mutex::default() }
    }

    /// Makes the command with this number, counted from 0 over all batches, fail.
    #[must_use]
    pub fn failing_at(mut self, command: usize, how: Break) -> Self {
        self.fail = Some((command, how));
        self
    }

    /// Adds the answer to the next unanswered batch or probe.
    #[must_use]
    pub fn answering(self, stdout: impl Into<Vec<u8>>) -> Self {
        self.state().answers.push_back(Output { stdout: stdout.into(), stderr: Vec::new() });
        self
    }

    /// Returns the command lines that were carried out, in order.
    pub fn commands(&self) -> Vec<String> {
        self.state().commands.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Host for FakeHost {
    fn name(&self) -> &ServerName {
        &self.name
    }

    async fn run(&self, batch: &[Argv], login: &Login) -> Result<Output, RemoteError> {
        let mut state = self.state();
        for (index, command) in batch.iter().enumerate() {
            let (server, line) = (self.name.clone(), command.line(login));
            let how = self.fail.filter(|(at, _)| *at == state.commands.len()).map(|(_, how)| how);
            let detail = "scripted".to_owned();
            if how == Some(Break::Before) {
                return Err(RemoteError::Disconnected { server, line, detail });
            }
            state.commands.push(line.clone());
            match how {
                Some(Break::Status) => {
                    let (status, stdout, stderr) = (Some(1), Vec::new(), b"scripted\n".to_vec());
                    return Err(RemoteError::Command { server, line, index, status, stdout, stderr });
                }
                Some(_) => return Err(RemoteError::OutcomeUnknown { server, line, detail }),
                None => {}
            }
        }
        Ok(state.answers.pop_front().unwrap_or_default())
    }

    async fn probe_within(&self, _limit: Duration, _script: &str, _args: &[String]) -> Result<Output, RemoteError> {
        Ok(self.state().answers.pop_front().unwrap_or_default())
    }

    async fn forward(&self, remote_host: &str, _remote_port: u16) -> Result<PathBuf, RemoteError> {
        Err(RemoteError::Forward {
            server: self.name.clone(),
            target: remote_host.to_owned(),
            detail: "a fake server forwards nothing".to_owned(),
        })
    }

    async fn relay(&self, command: &Argv, login: &Login) -> Result<Relay, RemoteError> {
        let (server, line, detail) =
            (self.name.clone(), command.line(login), "a fake server relays nothing".to_owned());
        Err(RemoteError::Disconnected { server, line, detail })
    }
}
