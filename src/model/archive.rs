//! What an `archive_command` says about where segments go, as far as it says it plainly.

/// Returns the directory that an `archive_command` copies to, where it is a plain `cp %p DIRECTORY/%f`, with or without a
/// test in front. Any other command may do anything, and tells nothing.
pub fn copy_directory(archive_command: &str) -> Option<&str> {
    let (before, copy) = archive_command.rsplit_once("cp ")?;
    if !before.is_empty() && !before.ends_with([' ', '/', '&']) {
        return None;
    }
    let mut words = copy.split_whitespace().skip_while(|word| word.starts_with('-'));
    if words.next()?.trim_matches('"') != "%p" {
        return None;
    }
    let target = words.next()?.trim_matches('"');
    let directory = target.strip_suffix("/%f")?;
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '+' | ':');
    (words.next().is_none() && directory.starts_with('/') && directory.chars().all(is_plain)).then_some(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_copy_tells_its_directory() {
        for command in [
            "cp %p /srv/archive/%f",
            "test ! -f /srv/archive/%f && cp %p /srv/archive/%f",
            "/bin/cp -i \"%p\" \"/srv/archive/%f\"",
        ] {
            assert_eq!(copy_directory(command), Some("/srv/archive"), "{command}");
        }
        for command in [
            "",
            "scp %p there:/srv/archive/%f",
            "cp %p $HOME/%f",
            "cp %p /srv/$(date)/%f",
            "cp %p /srv/archive/%f; rm -f x",
            "cp %p archive/%f",
            "pgbackrest archive-push %p",
            "gzip < %p > /srv/archive/%f",
        ] {
            assert_eq!(copy_directory(command), None, "{command}");
        }
    }
}
