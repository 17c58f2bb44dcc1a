//! The Docker client and Compose, in whichever form they are installed. Arguments are always a vector.
//!
//! It knows no lab: names of containers and projects are handed in.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use super::error::DockerLabError;
use crate::lab::Failure;
use crate::lab::command::{ended_badly, finish, succeed};
use crate::lab::wait::{Look, until};

/// The label by which Compose marks what belongs to a project.
const PROJECT_LABEL: &str = "label=com.docker.compose.project=";

/// A client whose engine answers.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    pub(super) memory_mib: u64,
    /// Where it keeps images and containers, on its own machine.
    pub(super) directory: PathBuf,
}

/// How long to go on clearing what comes back, or does not go.
const CLEAR_LIMIT: Duration = Duration::from_secs(20);

/// One container of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) running: bool,
}

impl Engine {
    /// Finds client and engine.
    pub(super) fn find() -> Result<Self, DockerLabError> {
        // Asked of every client alike; some answer other questions with a defect of their own where no engine is.
        let asked = finish(docker().args(["version", "--format", "{{.Server.Os}}"]), None);
        let output = asked.map_err(|_| DockerLabError::NoClient)?;
        let no_engine = |said: &[u8]| DockerLabError::NoEngine { said: first_line(said) };
        if !output.status.success() {
            return Err(no_engine(&output.stderr));
        }
        let os = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if os != "linux" {
            return Err(DockerLabError::NotLinux { os });
        }
        let text = succeed(docker().args(["info", "--format", "{{.MemTotal}} {{.DockerRootDir}}"]));
        let text = text.map_err(|failure| no_engine(failure.to_string().as_bytes()))?;
        let (memory, directory) = text.trim().split_once(' ').unwrap_or_default();
        let bytes: u64 = memory.parse().map_err(|_| no_engine(text.as_bytes()))?;
        Ok(Self { memory_mib: bytes >> 20, directory: directory.into() })
    }

    /// Returns whether there is an image of that name.
    pub(super) fn has_image(&self, image: &str) -> Result<bool, Failure> {
        // An absent image and a failed look are told apart by asking for a list.
        let found = succeed(docker().args(["image", "ls", "--quiet", image]))?;
        Ok(!found.trim().is_empty())
    }

    /// Returns the images of a repository, by their names.
    pub(super) fn images(&self, repository: &str) -> Result<Vec<String>, Failure> {
        let text = succeed(docker().args(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository]))?;
        Ok(text.lines().filter(|image| !image.ends_with(":<none>")).map(str::to_owned).collect())
    }

    /// Pulls an image; says what came of it in one line where nothing did.
    pub(super) fn pull(&self, image: &str) -> Result<(), String> {
        match finish(docker().args(["pull", "--quiet", image]), None) {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(first_line(&output.stderr)),
            Err(failure) => Err(failure.to_string()),
        }
    }

    /// Makes an image of what a command prints as a tar archive.
    pub(super) fn import(&self, archive: &mut Command, image: &str) -> Result<(), Failure> {
        let line = "tar".to_owned();
        let mut child = archive
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .map_err(|source| Failure::Start { command: line.clone(), source })?;
        let mut import = docker();
        import.args(["import", "-", image]);
        if let Some(pipe) = child.stdout.take() {
            import.stdin(pipe);
        }
        let output = import.output().map_err(|source| Failure::Start { command: "docker import".to_owned(), source });
        let archived = child.wait().map_err(|source| Failure::Start { command: line, source })?;
        let output = output?;
        match output.status.success() {
            false => Err(ended_badly(&import, &output)),
            // An image of half a system is none.
            true if !archived.success() => {
                let _ = self.remove_image(image);
                Err(Failure::Observed(format!("tar ended with {archived}")))
            }
            true => Ok(()),
        }
    }

    /// Builds an image from a directory.
    pub(super) fn build(&self, image: &str, arguments: &[(&str, &str)], directory: &Path) -> Result<(), Failure> {
        let mut command = docker();
        command.args(["build", "--force-rm", "--tag", image]);
        for (name, value) in arguments {
            command.arg("--build-arg").arg([name, "=", value].concat());
        }
        succeed(command.arg(directory)).map(drop)
    }

    /// Takes the name of an image away.
    pub(super) fn remove_image(&self, image: &str) -> Result<(), Failure> {
        succeed(docker().args(["image", "rm", image])).map(drop)
    }

    /// Returns the networks of the engine, each with its subnets, but for those of a project.
    pub(super) fn networks(&self, but_of: &str) -> Result<Vec<(String, Vec<String>)>, Failure> {
        const LOOK: &str =
            "{{.Name}} {{index .Labels \"com.docker.compose.project\"}};{{range .IPAM.Config}}{{.Subnet}} {{end}}";
        let ids = succeed(docker().args(["network", "ls", "--quiet", "--filter", "driver=bridge"]))?;
        let mut networks = Vec::new();
        for id in ids.split_whitespace() {
            // One that goes away meanwhile is in nobody's way.
            let Ok(text) = succeed(docker().args(["network", "inspect", "--format", LOOK, id])) else { continue };
            let (name, subnets) = text.trim().split_once(';').unwrap_or_default();
            let (name, project) = name.split_once(' ').unwrap_or((name, ""));
            if project != but_of {
                networks.push((name.to_owned(), subnets.split_whitespace().map(str::to_owned).collect()));
            }
        }
        Ok(networks)
    }

    /// Returns the containers of a project, stopped ones as well.
    pub(super) fn containers(&self, project: &str) -> Result<Vec<Container>, Failure> {
        let filter = [PROJECT_LABEL, project].concat();
        let text = succeed(docker().args(["ps", "--all", "--filter", &filter, "--format", "{{.Names}} {{.State}}"]))?;
        let container = |line: &str| {
            let (name, state) = line.split_once(' ')?;
            Some(Container { name: name.to_owned(), running: state == "running" })
        };
        Ok(text.lines().filter_map(container).collect())
    }

    /// Removes everything of a project until nothing is left: a Compose that outlived whoever started it may still make some.
    pub(super) fn clear(&self, project: &str) -> Result<(), Failure> {
        until("everything of the lab to be gone", CLEAR_LIMIT, || match self.clear_once(project) {
            Ok(true) => Ok(Look::Ready(())),
            Ok(false) => Ok(Look::NotYet(format!("something of project \"{project}\" came back"))),
            Err(failure @ Failure::Start { .. }) => Err(failure),
            Err(failure) => Ok(Look::NotYet(failure.to_string())),
        })
    }

    /// Removes what there is of a project: containers, networks, volumes. Says whether there was nothing.
    fn clear_once(&self, project: &str) -> Result<bool, Failure> {
        let filter = [PROJECT_LABEL, project].concat();
        let listed = |words: &[&str]| {
            let text = succeed(docker().args(words).args(["--quiet", "--filter", &filter]))?;
            Ok::<Vec<String>, Failure>(text.split_whitespace().map(str::to_owned).collect())
        };
        let mut nothing = true;
        for (list, remove) in [
            (&["ps", "--all"][..], &["rm", "--force", "--volumes"][..]),
            (&["network", "ls"], &["network", "rm"]),
            (&["volume", "ls"], &["volume", "rm", "--force"]),
        ] {
            let there = listed(list)?;
            if !there.is_empty() {
                succeed(docker().args(remove).args(&there))?;
                nothing = false;
            }
        }
        Ok(nothing)
    }

    /// Ends every process of a container at once.
    pub(super) fn kill(&self, container: &str) -> Result<(), Failure> {
        succeed(docker().args(["kill", "--signal", "KILL", container])).map(drop)
    }

    /// Starts a container that has stopped.
    pub(super) fn start(&self, container: &str) -> Result<(), Failure> {
        succeed(docker().args(["start", container])).map(drop)
    }

    /// Runs a program in a container as root, and returns what it printed.
    pub(super) fn run(&self, container: &str, argv: &[&str]) -> Result<String, Failure> {
        succeed(docker().args(["exec", "--user", "root", container]).args(argv))
    }

    /// Returns the end of what a container has printed.
    pub(super) fn log(&self, container: &str) -> String {
        match finish(docker().args(["logs", "--tail", "15", container]), None) {
            Ok(Output { stdout, stderr, .. }) => {
                let text = [stdout, stderr].concat();
                String::from_utf8_lossy(&text).trim_end().to_owned()
            }
            Err(failure) => format!("(no log: {failure})"),
        }
    }

    /// Waits until a program in a container succeeds. A container that has stopped is not waited for.
    pub(super) fn await_success(
        &self,
        awaited: &'static str,
        limit: Duration,
        container: &str,
        argv: &[&str],
    ) -> Result<(), Failure> {
        until(awaited, limit, || match self.run(container, argv) {
            Ok(_) => Ok(Look::Ready(())),
            Err(Failure::Command { stderr, .. }) if stderr.contains("is not running") => {
                Err(Failure::Observed("the container stopped".to_owned()))
            }
            Err(failure @ Failure::Command { .. }) => Ok(Look::NotYet(failure.to_string())),
            Err(failure) => Err(failure),
        })
    }
}

/// Compose, as `docker compose` or as `docker-compose`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compose {
    /// The plugin of the client, version 2 and later.
    Plugin,
    /// A program of its own, version 1 among them.
    Program,
}

impl Compose {
    /// Finds out which form there is; the plugin is preferred.
    pub(super) fn find() -> Result<Self, DockerLabError> {
        let works = |command: &mut Command| {
            finish(command.args(["version", "--short"]), None).is_ok_and(|output| output.status.success())
        };
        if works(docker().arg("compose")) {
            Ok(Self::Plugin)
        } else if works(&mut Command::new("docker-compose")) {
            Ok(Self::Program)
        } else {
            Err(DockerLabError::NoCompose)
        }
    }

    /// Makes and starts what the file in a directory says.
    pub(super) fn up(self, project: &str, directory: &Path) -> Result<(), Failure> {
        let mut command = match self {
            Self::Plugin => {
                let mut command = docker();
                command.arg("compose");
                command
            }
            Self::Program => Command::new("docker-compose"),
        };
        // The file's variables stand in .env beside it; an old Compose looks for that where it is started.
        command.current_dir(directory).args(["--project-name", project, "--file"]).arg(directory.join("compose.yaml"));
        succeed(command.args(["up", "--detach", "--no-build"])).map(drop)
    }
}

fn docker() -> Command {
    Command::new("docker")
}

/// Returns the first line that says something: clients wrap their reason in advice.
fn first_line(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said).into_owned();
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it said nothing");
    line.trim_start_matches("ERROR: ").trim_end_matches('.').to_owned()
}
