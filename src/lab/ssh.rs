//! How a person's ssh reaches a server of a lab: with the lab's key and host keys, and nothing of the person's own.
//!
//! Makes a command and runs nothing. pgstead itself goes its own way, from the lab's inventory.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::quote::sh;

/// Where a server's sshd is, and what it takes to get in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget {
    /// The login user.
    pub user: String,
    /// Its address.
    pub host: String,
    /// The port of its sshd.
    pub port: u16,
    /// The operator's private key.
    pub identity_file: PathBuf,
    /// The host keys of the lab.
    pub known_hosts: PathBuf,
    /// The host to go through, and the port of its sshd; the same key opens it.
    pub jump: Option<(String, u16)>,
}

impl SshTarget {
    /// Returns the ssh that logs in, or runs a command there. As with any ssh, the other side's shell reads the words.
    #[must_use]
    pub fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new("ssh");
        command.args(self.options());
        if let Some((host, port)) = &self.jump {
            let mut proxy = vec!["ssh".to_owned()];
            proxy.extend(self.options());
            proxy.extend(["-p".to_owned(), port.to_string(), "-W".to_owned(), "[%h]:%p".to_owned()]);
            proxy.extend(["--".to_owned(), [&self.user, "@", host].concat()]);
            command.arg("-o").arg(["ProxyCommand=", &sh::join(&proxy)].concat());
        }
        command.args(["-p", &self.port.to_string(), "--"]).arg([&self.user, "@", &self.host].concat()).args(words);
        command
    }

    fn options(&self) -> Vec<String> {
        let known_hosts = ["UserKnownHostsFile=", &file_word(&self.known_hosts)].concat();
        let mut options = vec!["-F".to_owned(), "none".to_owned(), "-i".to_owned()];
        options.push(self.identity_file.display().to_string());
        for option in
            ["IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null", &known_hosts]
        {
            options.extend(["-o".to_owned(), option.to_owned()]);
        }
        options
    }
}

/// ssh parts the value of this option at spaces and expands percent signs; what stands in double quotes is kept together.
fn file_word(path: &Path) -> String {
    ["\"", &path.display().to_string().replace('%', "%%"), "\""].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(command: &Command) -> String {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        sh::join(&words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_jump_host_is_checked_as_strictly_as_the_server() {
        let target = SshTarget {
            user: "ops".to_owned(),
            host: "10.0.0.1".to_owned(),
            port: 22,
            identity_file: "/lab/id".into(),
            known_hosts: "/lab/known hosts".into(),
            jump: Some(("127.0.0.1".to_owned(), 2222)),
        };
        let line = line(&target.command(&["uptime".to_owned()]));
        assert_eq!(line.matches("StrictHostKeyChecking=yes").count(), 2, "{line}");
        assert!(line.ends_with("-p 22 -- ops@10.0.0.1 uptime"), "{line}");
        // A real ssh parts the file's name and the proxy's words as it should.
        let mut asked = Command::new("ssh");
        asked.arg("-G").args(target.command(&[]).get_args());
        let output = asked.output().expect("ssh is installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("\nuserknownhostsfile /lab/known hosts\n"), "{text}");
        assert!(text.contains("\nproxycommand ssh -F none "), "{text}");
    }
}
