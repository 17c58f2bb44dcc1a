//! The ways to an instance besides a port that SSH forwards: a small program on its server that connects one session of ours with
//! it, for as long as the SSH session lives. No way is chosen here; [`crate::prove::Sessions`] does.

use tokio::io::AsyncReadExt;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::argv::{Argv, Login, RunAs};
use crate::model::layout::Layout;
use crate::remote::{Host, LOOK, Relay};

const SCRIPT: &str = include_str!("relay.sh");
const PERL: &str = include_str!("relay.pl");
const PYTHON: &str = include_str!("relay.py");

/// How many characters of its first line are read.
const LINE_MAX: usize = 1000;

/// Where a relay leads.
pub(super) enum End<'a> {
    /// The instance's local socket, as its owner.
    Socket(&'a Layout, u16),
    /// An address of the server itself, as whoever logs in.
    Address(&'a str, u16),
    /// Nowhere: it says whether it could, as the instance's owner or as whoever logs in.
    Nowhere(Option<&'a Layout>),
}

impl End<'_> {
    fn command(&self) -> Argv {
        let of = |user: RunAs| Argv::new(user, "sh").args(["-c", SCRIPT, "pgstead-relay", PERL, PYTHON]);
        match self {
            End::Socket(layout, port) => {
                let socket = [&layout.socket_directory, "/.s.PGSQL.", &port.to_string()].concat();
                of(RunAs::User(layout.os_user.clone())).args(["unix", &socket])
            }
            End::Nowhere(layout) => of(layout.map_or(RunAs::Login, |layout| RunAs::User(layout.os_user.clone()))),
            End::Address(host, port) => of(RunAs::Login).args(["tcp", host, &port.to_string()]),
        }
    }
}

/// Returns a stream to an instance.
pub(super) async fn open<H: Host>(host: &H, login: &Login, end: End<'_>) -> Result<Relay, Box<Diagnostic>> {
    let command = end.command();
    let mut relay = host.relay(&command, login).await.map_err(|error| Box::new(error.diagnostic()))?;
    let said = match tokio::time::timeout(LOOK, first_line(&mut relay)).await {
        Ok(said) => said,
        Err(_) => format!("it said nothing for {} s", LOOK.as_secs()),
    };
    if said == "connected" {
        return Ok(relay);
    }
    let said = match said.strip_prefix("! ") {
        Some(why) => why.to_owned(),
        None => [said.trim(), " ", &relay.last_words().await].concat(),
    };
    let name = host.name();
    let message = format!("server \"{name}\": its instance could not be reached from there");
    let detail = ["A relay on the server connects a session with the instance over SSH. It said: ", said.trim(), "."];
    Err(Box::new(
        Diagnostic::error(Code::RelayFailed, message)
            .server(name)
            .detail(detail.concat())
            .hint("It needs perl or python3 on the server, and the login must be able to become the instance's owner."),
    ))
}

async fn first_line(relay: &mut Relay) -> String {
    let mut line = Vec::new();
    while line.len() < LINE_MAX {
        match relay.read_u8().await {
            Ok(b'\n') | Err(_) => break,
            Ok(byte) => line.push(byte),
        }
    }
    String::from_utf8_lossy(&line).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::process::{Command, Stdio};

    use super::*;

    /// Sends back whatever it gets, once.
    fn echo(mut stream: impl Read + Write) {
        let mut some = [0; 65536];
        loop {
            let bytes = stream.read(&mut some).unwrap();
            if bytes == 0 || stream.write_all(&some[..bytes]).is_err() {
                return;
            }
        }
    }

    fn relay(program: &str, args: &[&str]) -> Command {
        let mut command = match program {
            "perl" => Command::new("perl"),
            _ => Command::new("python3"),
        };
        match program {
            "perl" => command.args(["-e", PERL, "--"]),
            _ => command.args(["-c", PYTHON]),
        };
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    fn through(program: &str, args: &[&str]) {
        // More than any buffer on the way holds, and every byte.
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| u8::try_from(n % 256).unwrap()).collect();
        let mut child = relay(program, args).spawn().unwrap();
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut line = [0; 10];
        output.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"connected\n", "{program}");
        let expected = sent.clone();
        let writer = std::thread::spawn(move || {
            for part in sent.chunks(1000) {
                input.write_all(part).unwrap();
            }
            input
        });
        let mut got = vec![0; expected.len()];
        output.read_exact(&mut got).unwrap();
        assert!(got == expected, "{program}: other bytes came back");
        // Whoever reads is gone: it ends.
        drop(writer.join().unwrap());
        assert!(child.wait().unwrap().success(), "{program}");
    }

    #[test]
    fn every_byte_goes_through_and_the_end_is_passed_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".s.PGSQL.5432");
        let unix = UnixListener::bind(&path).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port().to_string();
        std::thread::spawn(move || unix.incoming().flatten().for_each(echo));
        std::thread::spawn(move || tcp.incoming().flatten().for_each(echo));
        for program in ["perl", "python"] {
            through(program, &["unix", path.to_str().unwrap()]);
            through(program, &["tcp", "127.0.0.1", &port]);
        }
    }

    #[test]
    fn what_is_in_the_way_is_said() {
        let long = ["/", &"x".repeat(200)].concat();
        for program in ["perl", "python"] {
            let said = |args: &[&str]| {
                let output = relay(program, args).stdin(Stdio::null()).output().unwrap();
                String::from_utf8(output.stdout).unwrap()
            };
            assert_eq!(said(&[]), "connected\n");
            assert_eq!(said(&["unix", "/nowhere"]), "! /nowhere: No such file or directory\n");
            assert!(said(&["unix", &long]).starts_with("! "));
            assert_eq!(said(&["tcp", "127.0.0.1", "1"]), "! 127.0.0.1: Connection refused\n");
        }
        let bare = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "pgstead-relay", PERL, PYTHON])
            .env("PATH", "/nowhere")
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&bare.stdout).starts_with("! there is neither perl"));
    }
}
