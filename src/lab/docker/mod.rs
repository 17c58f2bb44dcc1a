//! The Docker lab: containers with sshd and PostgreSQL on networks that stand for sites, with a router between them.
//!
//! An inventory drives it: `up` makes a network of each site and a container of each server, and writes an inventory of
//! its own into the lab's directory. The router is also the way in: its sshd is the one port of this machine, so a lab is
//! reached alike where the engine is on this machine and where it is in a virtual machine, as on a Mac. Containers come
//! up and go through Compose and the client's ordinary commands; the operator's private key stays in the lab's directory.
//!
//! What it cannot imitate: all servers have one kernel and one clock, and no service manager starts an instance.

mod backend;
mod clash;
mod compose;
mod engine;
mod error;
mod image;
mod spec;
mod state;

use std::path::Path;
use std::time::Duration;

pub use backend::Docker;
pub use error::DockerLabError;

use self::engine::{Compose, Engine};
use self::spec::{IDENTITY_FILE, KNOWN_HOSTS, Spec};
use self::state::{Placed, State};
use super::{Failure, key};

/// The inventory of the lab unless another one is named.
const INVENTORY: &str = include_str!("../../../inventories/docker.yaml");
const INVENTORY_NAME: &str = "inventories/docker.yaml";

/// How long a container may take until its sshd answers; the first start makes a host key.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// Says whether sshd listens, in a container.
const SSHD_LISTENS: &str = "[ -n \"$(ss --no-header --listening --numeric --tcp 'sport = :22')\" ]";

/// The host key of a container, read past its network.
const HOST_KEY: &str = "/etc/ssh/ssh_host_ed25519_key.pub";

/// Brings a lab up. In one that is up, what has stopped comes back, and what is gone is made anew; it is what it was made
/// of, unless something else is wished.
fn up(
    dir: &Path,
    inventory: Option<&Path>,
    disk_mib: Option<u32>,
    tell: impl Fn(&'static str),
) -> Result<State, DockerLabError> {
    state::check_path(dir)?;
    let found = State::read(dir)?;
    let own = found.as_ref().filter(|state| state.complete).map(|_| state::inventory(dir));
    let spec = match inventory.or(own.as_deref()) {
        None => Spec::read(INVENTORY, INVENTORY_NAME)?,
        Some(path) => {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|source| DockerLabError::ReadInventory { path: path.to_owned(), source })?;
            Spec::read(&text, &path.display().to_string())?
        }
    };
    let engine = Engine::find()?;
    let compose = Compose::find()?;
    let state = match found {
        Some(state) if !state.complete => return Err(DockerLabError::HalfMade { path: dir.to_owned() }),
        Some(state) if state.servers != placed(&spec) || disk_mib.is_some_and(|_| state.disk_mib != disk_mib) => {
            return Err(DockerLabError::OtherServers { path: dir.to_owned() });
        }
        Some(state) => state,
        None => reserve(&engine, &spec, dir, disk_mib)?,
    };
    let made = make(&engine, compose, &spec, dir, state.clone(), tell);
    if made.is_err() && !state.complete {
        // The first error is the one to tell; what could not be cleared is found by `down`.
        let _ = engine.clear(&state.project);
        let _ = state::remove(dir);
    }
    made
}

/// Refuses what is missing or taken, and records the lab before anything of it is made.
fn reserve(engine: &Engine, spec: &Spec, dir: &Path, disk_mib: Option<u32>) -> Result<State, DockerLabError> {
    let files = |source| DockerLabError::Files { dir: dir.to_owned(), source };
    let image = image::name(spec.release);
    let builds = !engine.has_image(&image).map_err(|source| DockerLabError::Look { source })?;
    clash::resources(engine, spec.servers.len(), builds, disk_mib)?;
    let mut state = State::new(dir, image, clash::free_port()?, spec.user.clone(), disk_mib);
    state.servers = placed(spec);
    clash::networks(engine, spec, &state.project)?;
    state::make_dir(dir).and_then(|()| state.write(dir)).map_err(files)?;
    Ok(state)
}

fn make(
    engine: &Engine,
    compose: Compose,
    spec: &Spec,
    dir: &Path,
    mut state: State,
    tell: impl Fn(&'static str),
) -> Result<State, DockerLabError> {
    image::ensure(engine, spec.release, dir, &tell)?;
    let files = |source| DockerLabError::Files { dir: dir.to_owned(), source };
    let public = operator_key(dir).map_err(files)?;
    write_files(spec, dir, &state, &public).map_err(files)?;
    tell("start the containers");
    compose.up(&state.project, dir).map_err(|source| DockerLabError::Start { source })?;
    let mut known_hosts = known_host(engine, &state, spec::ROUTER_NAME, &format!("[127.0.0.1]:{}", state.port))?;
    for server in &state.servers {
        known_hosts.push_str(&known_host(engine, &state, &server.name, &server.address)?);
    }
    state::write_file(&dir.join(KNOWN_HOSTS), &known_hosts).map_err(files)?;
    state.complete = true;
    state.write(dir).map_err(files)?;
    Ok(state)
}

fn placed(spec: &Spec) -> Vec<Placed> {
    let place = |server: &spec::Server| {
        let router = spec.site_of(server).map(|site| site.router().to_string()).unwrap_or_default();
        Placed { name: server.name.clone(), address: server.address.to_string(), router }
    };
    spec.servers.iter().map(place).collect()
}

/// Makes the operator's key pair where there is none, and returns the public half.
fn operator_key(dir: &Path) -> Result<String, Failure> {
    let path = dir.join(IDENTITY_FILE);
    let public = path.with_added_extension("pub");
    let text = match public.exists() {
        true => std::fs::read_to_string(&public).map_err(Failure::file("read", &public))?,
        false => {
            state::make_dir(&dir.join("client"))?;
            key::make(&path, "operator@lab")?
        }
    };
    Ok(text.trim().to_owned())
}

/// Writes what Compose and pgstead read.
fn write_files(spec: &Spec, dir: &Path, state: &State, public: &str) -> Result<(), Failure> {
    let content = |path: &Path, problem| Failure::Content { path: path.to_owned(), problem };
    let path = dir.join("compose.yaml");
    let text = compose::text(spec, state.disk_mib).map_err(|problem| content(&path, problem))?;
    state::write_file(&path, &text)?;
    let variables = [
        ("PGSTEAD_LAB", state.project.as_str()),
        ("PGSTEAD_LAB_IMAGE", &state.image),
        ("PGSTEAD_LAB_PORT", &state.port.to_string()),
        ("PGSTEAD_LAB_KEY", public),
        ("COMPOSE_PROJECT_NAME", &state.project),
    ];
    // None of these values has a quote or a dollar sign in it.
    let text: String = variables.iter().map(|(name, value)| format!("{name}=\"{value}\"\n")).collect();
    state::write_file(&dir.join(".env"), &text)?;
    let path = state::inventory(dir);
    let text =
        serde_saphyr::to_string(&spec.inventory(state.port)).map_err(|error| content(&path, error.to_string()))?;
    state::write_file(&path, &text)
}

/// Waits until a container's sshd listens, and returns its line for `known_hosts`.
fn known_host(engine: &Engine, state: &State, name: &str, place: &str) -> Result<String, DockerLabError> {
    await_sshd(engine, state, name)?;
    let key = engine.run(&state.container(name), &["cat", HOST_KEY]);
    let key = key.map_err(|source| DockerLabError::Look { source })?;
    let words: Vec<&str> = key.split_whitespace().take(2).collect();
    Ok([place, " ", &words.join(" "), "\n"].concat())
}

fn await_sshd(engine: &Engine, state: &State, name: &str) -> Result<(), DockerLabError> {
    let container = state.container(name);
    let up = engine.await_success("sshd", BOOT_LIMIT, &container, &["sh", "-c", SSHD_LISTENS]);
    up.map_err(|source| DockerLabError::Boot { server: name.to_owned(), log: engine.log(&container), source })
}

/// Takes a lab away. Returns what is kept for the next one; nothing where there was no lab.
fn down(dir: &Path) -> Result<Vec<String>, DockerLabError> {
    let Some(state) = State::read(dir)? else { return Ok(Vec::new()) };
    let clear = |source| DockerLabError::Clear { dir: dir.to_owned(), source };
    let engine = Engine::find()?;
    engine.clear(&state.project).map_err(clear)?;
    let kept = image::kept(&engine).map_err(clear)?;
    state::remove(dir).map_err(clear)?;
    Ok(kept)
}
