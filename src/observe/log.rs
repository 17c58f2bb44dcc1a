//! Reads the end of an instance's log: one round trip, and only where something there has to be explained. It judges no line.

use crate::model::layout::Layout;
use crate::model::observed::Observed;
use crate::observe::records::Records;
use crate::remote::Host;

/// The text of the script.
pub const SCRIPT: &str = include_str!("log.sh");

/// The end of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEnd {
    /// The file, or the words for a journal.
    pub file: String,
    /// How far it was read: whoever looks again goes on from there.
    pub position: String,
    /// Its last lines, the newest 64 kB.
    pub text: String,
}

/// Returns the end of a log; what came since `before`, where that is given. Absent: no log was found.
pub async fn look<H: Host>(host: &H, layout: &Layout, before: Option<&LogEnd>) -> Observed<LogEnd> {
    let mut words = vec![layout.os_user.clone(), layout.data_directory.clone(), layout.log_file()];
    words.push(layout.unit.clone().unwrap_or_default());
    words.extend(before.into_iter().flat_map(|end| [end.file.clone(), end.position.clone()]));
    let output = match host.probe(SCRIPT, &words).await {
        Ok(output) => output,
        Err(error) => return Observed::Unreadable(error.to_string()),
    };
    match Records::parse(&output.stdout) {
        Ok(records) => read(&records),
        Err(error) => Observed::Unreadable(error.to_string()),
    }
}

fn read(records: &Records) -> Observed<LogEnd> {
    records.get("file").map(|file| LogEnd { file, position: records.text("position"), text: records.text("text") })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn end(data: &Path, log: &Path, before: Option<&LogEnd>) -> Observed<LogEnd> {
        let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let mut sh = Command::new("sh");
        sh.args(["-c", SCRIPT, "x", user.trim()]).args([data, log]).arg("");
        sh.args(before.into_iter().flat_map(|end| [&end.file, &end.position]));
        read(&Records::parse(&sh.output().unwrap().stdout).unwrap())
    }

    #[test]
    fn the_file_that_grows_is_read_and_only_what_is_new_in_it() {
        let place = tempfile::tempdir().unwrap();
        let (data, log) = (place.path().join("data"), place.path().join("server.log"));
        fs::create_dir_all(data.join("log")).unwrap();
        assert_eq!(end(&data, &log, None), Observed::Absent);
        fs::write(&log, "one\nb\u{e4}d\n").unwrap();
        let first = end(&data, &log, None).known().unwrap().clone();
        assert_eq!((first.text.as_str(), first.file.as_str()), ("one\nb\u{e4}d", log.to_str().unwrap()));
        fs::OpenOptions::new().append(true).open(&log).unwrap().write_all(b"two\n").unwrap();
        let second = end(&data, &log, Some(&first)).known().unwrap().clone();
        assert_eq!(second.text, "two");
        // Rotated by copying and truncating.
        fs::write(&log, "three\n").unwrap();
        assert_eq!(end(&data, &log, Some(&second)).known().unwrap().text, "three");
        // The collector's own file, which is the newer one.
        fs::write(data.join("current_logfiles"), "stderr log/a.log\n").unwrap();
        fs::write(data.join("log/a.log"), "four\n").unwrap();
        assert!(Command::new("touch").args(["-d", "2001-01-01"]).arg(&log).status().unwrap().success());
        let fourth = end(&data, &log, Some(&second)).known().unwrap().clone();
        assert!(fourth.text == "four" && fourth.file.ends_with("data/log/a.log"), "{fourth:?}");
    }
}
