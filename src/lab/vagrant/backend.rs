//! The Vagrant lab in the vocabulary of all labs.

use std::path::{Path, PathBuf};

use super::command::vagrant;
use super::error::VagrantLabError;
use super::place::{Place, State};
use super::wanted::Wanted;
use super::{Provider, faults};
use crate::event::{Event, Events};
use crate::lab::backend::{Backend, BackendKind, LabServer, LabStatus, Wish};
use crate::lab::error::LabError;
use crate::lab::fault::{Fault, FaultKind};
use crate::lab::local;
use crate::lab::ssh::SshTarget;

/// The phase that a person waits for.
const BOOTING: &str = "boot";

/// Servers that are virtual machines.
#[derive(Debug)]
pub struct Vagrant;

impl Backend for Vagrant {
    fn kind(&self) -> BackendKind {
        BackendKind::Vagrant
    }

    fn default_directory(&self) -> Result<PathBuf, LabError> {
        let local = local::default_directory().map_err(|_| VagrantLabError::NoHome)?;
        // Beside the place of local labs: "lab" in a user's directory, "pgstead-lab" in root's.
        let name = if local.ends_with("lab") { "vagrant-lab" } else { "pgstead-vagrant" };
        Ok(local.with_file_name(name))
    }

    fn up(&self, dir: &Path, wish: &Wish, events: &Events) -> Result<LabStatus, LabError> {
        let given = wish.inventory.is_some();
        let refused = [
            ("--disk", wish.disk_mib.is_some(), "a machine has a disk of its own, of the inventory's lab.disk_gb"),
            ("--servers", given && wish.servers.is_some(), "the inventory says which servers there are"),
            ("--release", given && wish.release.is_some(), "the inventory says which PostgreSQL there is"),
        ];
        if let Some((option, _, why)) = refused.into_iter().find(|(_, given, _)| *given) {
            return Err(LabError::NotForBackend { option, backend: self.kind(), why });
        }
        let place = Place::new(dir);
        let found = place.look()?;
        let provider = match &found {
            Some(state) => state.provider,
            None => Provider::choose(wish.provider)?,
        };
        let wanted = Wanted::new(&place, wish, provider)?;
        match found {
            Some(state) => again(&place, &state, &wanted, wish)?,
            None => first(&place, &wanted, events)?,
        }
        self.status(dir)
    }

    fn down(&self, dir: &Path, _events: &Events) -> Result<LabStatus, LabError> {
        let place = Place::new(dir);
        let mut status = LabStatus::down(self.kind(), dir);
        if let Some(state) = place.look()? {
            take_down(&place, &state)?;
            status.kept.push(format!("the box, where Vagrant and {} keep theirs", state.provider));
        }
        Ok(status)
    }

    fn status(&self, dir: &Path) -> Result<LabStatus, LabError> {
        let place = Place::new(dir);
        let Some(state) = place.look()? else {
            return Ok(LabStatus::down(self.kind(), dir));
        };
        let said = vagrant(&place, state.provider, &["status"])?;
        let running = |name: &str| said.about(name, "state").is_some_and(|state| state == "running");
        let servers = state.servers.iter().map(|(name, address)| LabServer {
            name: name.clone(),
            ssh: [address, ":22"].concat(),
            running: running(name),
        });
        let complete = state.servers.iter().all(|(name, address)| place.has_machine(name) && place.knows_host(address));
        Ok(LabStatus {
            backend: self.kind(),
            dir: dir.to_owned(),
            inventory: complete.then(|| place.inventory()),
            servers: servers.collect(),
            kept: Vec::new(),
        })
    }

    fn ssh(&self, dir: &Path, server: &str) -> Result<SshTarget, LabError> {
        let (place, state) = find(dir, server)?;
        let address = state.servers.into_iter().find(|(name, _)| name == server).map(|(_, address)| address);
        Ok(SshTarget {
            user: state.user,
            host: address.unwrap_or_default(),
            port: 22,
            identity_file: state.identity_file,
            known_hosts: place.known_hosts(),
            jump: None,
        })
    }

    fn cannot(&self, _fault: FaultKind) -> Option<&'static str> {
        None
    }

    fn fault(&self, dir: &Path, server: &str, fault: Fault) -> Result<(), LabError> {
        let (place, state) = find(dir, server)?;
        if state.provider == Provider::Docker
            && let Some(why) = faults::container_cannot(fault)
        {
            return Err(LabError::CannotFault { backend: self.kind(), fault: fault.kind(), why });
        }
        let said = vagrant(&place, state.provider, &["status", server])?;
        let running = said.about(server, "state").is_some_and(|state| state == "running");
        // A server that is off already has nothing to lose, and one that is off has no line.
        if running == matches!(fault, Fault::PowerOn) {
            return Err(LabError::WrongState { server: server.to_owned(), running });
        }
        Ok(faults::make(&place, &state, server, fault)?)
    }
}

/// Makes a lab where there is none. What was made is taken away again where it can't be finished.
fn first(place: &Place, wanted: &Wanted, events: &Events) -> Result<(), LabError> {
    let names = wanted.state.servers.iter().filter_map(|(name, _)| name.parse().ok());
    events.send(Event::PhaseStarted { phase: BOOTING, servers: names.collect() });
    let made = place.make(wanted).and_then(|()| boot(place, &wanted.state));
    made.map_err(|error| {
        // The first failure is what went wrong; that of tidying up comes back with the next down.
        let _ = take_down(place, &wanted.state);
        error.into()
    })
}

/// Brings back what has stopped, in a lab that is up.
fn again(place: &Place, state: &State, wanted: &Wanted, wish: &Wish) -> Result<(), VagrantLabError> {
    let other = |what| VagrantLabError::OtherLab { path: place.dir().to_owned(), what };
    if wish.provider.is_some_and(|provider| provider != state.provider) {
        return Err(other("provider"));
    }
    let said_anything = wish.inventory.is_some() || wish.servers.is_some() || wish.release.is_some();
    if said_anything && wanted.state != *state {
        return Err(other("list of servers"));
    }
    boot(place, state)
}

fn boot(place: &Place, state: &State) -> Result<(), VagrantLabError> {
    // Containers start at once, and side by side each would make the network of all.
    let parallel = if state.provider == Provider::Docker { "--no-parallel" } else { "--parallel" };
    vagrant(place, state.provider, &["up", "--provider", state.provider.word(), parallel])?;
    match state.servers.iter().find(|(_, address)| !place.knows_host(address)) {
        Some((server, _)) => Err(VagrantLabError::NoHostKeys { server: server.clone() }),
        None => Ok(()),
    }
}

/// Takes the machines away, and then everything else.
fn take_down(place: &Place, state: &State) -> Result<(), VagrantLabError> {
    // Before Vagrant has looked at a machine there is none.
    if place.machines().join("machines").exists() {
        // One after another: side by side, Vagrant 2.3 at times takes one machine twice and leaves another.
        vagrant(place, state.provider, &["destroy", "--force", "--no-parallel"])?;
    }
    if let Some((server, _)) = state.servers.iter().find(|(server, _)| place.has_machine(server)) {
        return Err(VagrantLabError::StillThere { server: server.clone() });
    }
    place.remove()
}

fn find(dir: &Path, name: &str) -> Result<(Place, State), LabError> {
    let place = Place::new(dir);
    let Some(state) = place.look()? else {
        return Err(LabError::NoLab { dir: dir.to_owned() });
    };
    if state.servers.iter().any(|(server, _)| server == name) {
        return Ok((place, state));
    }
    let servers = state.servers.into_iter().map(|(server, _)| server).collect();
    Err(LabError::NoServer { name: name.to_owned(), servers })
}
