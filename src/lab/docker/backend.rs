//! The Docker lab in the vocabulary of all labs. What its containers cannot do is said here.

use std::path::{Path, PathBuf};

use super::compose::DATA;
use super::engine::Engine;
use super::error::DockerLabError;
use super::spec::{IDENTITY_FILE, KNOWN_HOSTS};
use super::state;
use super::state::{Placed, State};
use crate::event::{Event, Events};
use crate::lab::backend::{Backend, BackendKind, LabServer, LabStatus, Wish};
use crate::lab::error::LabError;
use crate::lab::fault::{Fault, FaultKind};
use crate::lab::hosts::FILL;
use crate::lab::ssh::SshTarget;
use crate::lab::{Failure, local};

/// Where the image has the scripts of `docker/`.
const NETWORK: &str = "/usr/local/lib/pgstead-lab/network";
const RATE: &str = "/usr/local/lib/pgstead-lab/rate";

/// Servers that are containers.
#[derive(Debug)]
pub struct Docker;

impl Backend for Docker {
    fn kind(&self) -> BackendKind {
        BackendKind::Docker
    }

    fn default_directory(&self) -> Result<PathBuf, LabError> {
        Ok(local::default_directory()?.with_file_name(if rustix::process::geteuid().is_root() {
            "pgstead-docker"
        } else {
            "docker"
        }))
    }

    fn up(&self, dir: &Path, wish: &Wish, events: &Events) -> Result<LabStatus, LabError> {
        let why = "the servers of a Docker lab are those of its inventory; name another one with -i";
        for (option, given) in [("--servers", wish.servers.is_some()), ("--release", wish.release.is_some())] {
            if given {
                return Err(LabError::NotForBackend { option, backend: self.kind(), why });
            }
        }
        let tell = |phase| events.send(Event::PhaseStarted { phase, servers: Vec::new() });
        super::up(dir, wish.inventory.as_deref(), wish.disk_mib, tell)?;
        self.status(dir)
    }

    fn down(&self, dir: &Path, _events: &Events) -> Result<LabStatus, LabError> {
        let kept = super::down(dir)?;
        Ok(LabStatus { kept, ..LabStatus::down(self.kind(), dir) })
    }

    fn status(&self, dir: &Path) -> Result<LabStatus, LabError> {
        let Some(state) = State::read(dir)? else {
            return Ok(LabStatus::down(self.kind(), dir));
        };
        let containers = Engine::find()?.containers(&state.project);
        let containers = containers.map_err(|source| DockerLabError::Look { source })?;
        let running = |name: &str| {
            let name = state.container(name);
            containers.iter().any(|container| container.name == name && container.running)
        };
        let servers = state.servers.iter().map(|server| LabServer {
            name: server.name.clone(),
            ssh: format!("{}:22", server.address),
            running: running(&server.name),
        });
        Ok(LabStatus {
            backend: self.kind(),
            dir: dir.to_owned(),
            servers: servers.collect(),
            inventory: state.complete.then(|| state::inventory(dir)),
            kept: Vec::new(),
        })
    }

    fn ssh(&self, dir: &Path, server: &str) -> Result<SshTarget, LabError> {
        let (state, server) = find(dir, server)?;
        Ok(SshTarget {
            user: state.user,
            host: server.address,
            port: 22,
            identity_file: dir.join(IDENTITY_FILE),
            known_hosts: dir.join(KNOWN_HOSTS),
            jump: Some(("127.0.0.1".to_owned(), state.port)),
        })
    }

    fn cannot(&self, fault: FaultKind) -> Option<&'static str> {
        match fault {
            FaultKind::Clock => Some("its containers share the clock of the engine's kernel"),
            _ => None,
        }
    }

    fn fault(&self, dir: &Path, server: &str, fault: Fault) -> Result<(), LabError> {
        let (state, placed) = find(dir, server)?;
        let engine = Engine::find()?;
        let container = state.container(server);
        let containers = engine.containers(&state.project).map_err(|source| DockerLabError::Look { source })?;
        let running = containers.iter().any(|found| found.name == container && found.running);
        // A server that is off already has nothing to lose, and one that is off has no line.
        if running == matches!(fault, Fault::PowerOn) {
            return Err(LabError::WrongState { server: server.to_owned(), running });
        }
        let run = |argv: &[&str]| engine.run(&container, argv).map(drop);
        let (doing, done) = match fault {
            Fault::PowerOff => ("cut the power", engine.kill(&container)),
            Fault::PowerOn => {
                let done = engine.start(&container);
                done.map_err(|source| failed("restore the power", server, source))?;
                return Ok(super::await_sshd(&engine, &state, server)?);
            }
            Fault::LinkOff => ("cut the link", run(&["ip", "link", "set", "dev", "eth0", "down"])),
            Fault::LinkOn => ("mend the link", run(&["sh", NETWORK])),
            Fault::DiskFull | Fault::DiskFree if state.disk_mib.is_none() => {
                return Err(LabError::NoDisk { server: server.to_owned() });
            }
            Fault::DiskFull => ("fill the disk", run(&["sh", "-c", FILL, "sh", DATA, "0"])),
            Fault::DiskFree => ("free the disk", run(&["rm", "-f", "--", &[DATA, "/filler"].concat()])),
            Fault::RateLimited { megabits } => {
                ("limit the rate", limit(&engine, &state, &placed, &megabits.to_string()))
            }
            Fault::RateFree => ("unlimit the rate", limit(&engine, &state, &placed, "off")),
            Fault::ClockAhead { .. } | Fault::ClockRight => {
                let why = self.cannot(FaultKind::Clock).unwrap_or_default();
                return Err(LabError::CannotFault { backend: self.kind(), fault: FaultKind::Clock, why });
            }
        };
        done.map_err(|source| failed(doing, server, source))
    }
}

fn failed(doing: &'static str, server: &str, source: Failure) -> LabError {
    DockerLabError::Fault { doing, server: server.to_owned(), source }.into()
}

/// Limits what leaves the server, and what the router sends into its site.
fn limit(engine: &Engine, state: &State, server: &Placed, megabits: &str) -> Result<(), Failure> {
    engine.run(&state.container(&server.name), &["sh", RATE, &server.address, megabits])?;
    engine.run(&state.router(), &["sh", RATE, &server.router, megabits]).map(drop)
}

fn find(dir: &Path, name: &str) -> Result<(State, Placed), LabError> {
    let Some(state) = State::read(dir)? else {
        return Err(LabError::NoLab { dir: dir.to_owned() });
    };
    match state.servers.iter().find(|server| server.name == name).cloned() {
        Some(server) => Ok((state, server)),
        None => {
            let servers = state.servers.iter().map(|server| server.name.clone()).collect();
            Err(LabError::NoServer { name: name.to_owned(), servers })
        }
    }
}
