//! The image of a lab's servers: built once, named by what it is built from, kept for the next lab.
//!
//! The base is Debian's own image, from the engine or a registry. Where neither has it, one is made of Debian's packages,
//! out of the tree that the hosts lab boots; it has a name of its own, so that nobody takes it for Debian's.

use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

use super::engine::Engine;
use super::error::DockerLabError;
use super::state::{make_dir, write_file};
use crate::lab::hosts::{HostsLabError, Release};
use crate::lab::{Failure, hosts};

/// What an image is built from: the files of `docker/`, by their names there.
const CONTEXT: [(&str, &str); 5] = [
    ("Dockerfile", include_str!("../../../docker/Dockerfile")),
    ("install-packages", include_str!("../../../docker/install-packages")),
    ("start", include_str!("../../../docker/start")),
    ("network", include_str!("../../../docker/network")),
    ("rate", include_str!("../../../docker/rate")),
];

/// The images of servers, and the bases that are made of Debian's packages.
const SERVERS: &str = "pgstead-lab";
const BASES: &str = "pgstead-lab-base";

/// Returns the name of the image that servers of a release run.
pub(super) fn name(release: Release) -> String {
    let mut hash = Sha256::new();
    for (_, text) in CONTEXT {
        hash.update(text);
    }
    let key: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{SERVERS}:{release}-{key}")
}

/// Returns the name of the base that is made of Debian's packages.
fn made_base(release: Release) -> String {
    let tree = hosts::tree_of(release);
    let key = tree.file_name().unwrap_or_default().to_string_lossy().into_owned();
    [BASES, ":", &key].concat()
}

/// Builds the image in a directory of the lab, unless the engine has it. Tells what it is about to do.
pub(super) fn ensure(
    engine: &Engine,
    release: Release,
    directory: &Path,
    tell: impl Fn(&'static str),
) -> Result<(), DockerLabError> {
    let image = name(release);
    let build = |source| DockerLabError::Build { image: image.clone(), source };
    if engine.has_image(&image).map_err(build)? {
        return Ok(());
    }
    let base = base(engine, release, &tell)?;
    tell("build the image of the servers");
    let context = directory.join("image");
    make_dir(&context).map_err(build)?;
    for (name, text) in CONTEXT {
        write_file(&context.join(name), text).map_err(build)?;
    }
    let postgres = release.postgres_major().to_string();
    engine.build(&image, &[("BASE", &base), ("POSTGRES", &postgres)], &context).map_err(build)
}

/// Returns the name of an image to build on.
fn base(engine: &Engine, release: Release, tell: impl Fn(&'static str)) -> Result<String, DockerLabError> {
    let (debian, made) = (["debian:", release.suite()].concat(), made_base(release));
    for image in [&debian, &made] {
        if engine.has_image(image).map_err(|source| DockerLabError::MakeBase { source })? {
            return Ok(image.clone());
        }
    }
    tell("pull Debian's image");
    let Err(pull) = engine.pull(&debian) else { return Ok(debian) };
    tell("make a base image of Debian's packages");
    let tree = hosts::build_tree(release).map_err(|error| match error {
        HostsLabError::NotRoot => DockerLabError::NoBase { image: debian, pull, problem: "needs root".to_owned() },
        error => DockerLabError::NoBase { image: debian, pull, problem: format!("failed: {}", with_causes(&error)) },
    })?;
    let mut archive = Command::new("tar");
    // The kernel's directories are the container's own.
    archive.arg("--directory").arg(&tree).args(["--create", "--exclude=./dev/*", "--one-file-system", "."]);
    engine.import(&mut archive, &made).map_err(|source| DockerLabError::MakeBase { source })?;
    Ok(made)
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = [&text, ": ", &cause.to_string()].concat();
        next = cause.source();
    }
    text
}

/// Returns which images the engine keeps for the next lab.
pub(super) fn kept(engine: &Engine) -> Result<Vec<String>, Failure> {
    let mut kept = engine.images(SERVERS)?;
    kept.extend(engine.images(BASES)?);
    Ok(kept.iter().map(|image| ["image ", image].concat()).collect())
}
