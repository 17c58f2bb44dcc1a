//! Words of a POSIX shell (POSIX.1-2017, XCU 2.2).

/// Says whether a word stays one word, and itself, without quotes.
fn is_plain(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with('~')
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&b))
}

/// Returns the word so quoted that a POSIX shell reads exactly that word.
pub fn quote(word: &str) -> String {
    if is_plain(word) {
        return word.to_owned();
    }
    let mut quoted = String::with_capacity(word.len() + 2);
    quoted.push('\'');
    for c in word.chars() {
        match c {
            '\'' => quoted.push_str(r"'\''"),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}

/// Returns a command line of quoted words.
pub fn join<S: AsRef<str>>(words: &[S]) -> String {
    let mut line = String::new();
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            line.push(' ');
        }
        // An unquoted first word with "=" would be an assignment.
        if index == 0 && word.as_ref().contains('=') && is_plain(word.as_ref()) {
            line.push('\'');
            line.push_str(word.as_ref());
            line.push('\'');
        } else {
            line.push_str(&quote(word.as_ref()));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_real_shell_reads_back_the_same_words(words in proptest::collection::vec("[^\\x00]{0,12}", 1..4)) {
            let mut script = String::from("printf '%s\\0' ");
            script.push_str(&words.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" "));
            let output = std::process::Command::new("sh").arg("-c").arg(&script).output().unwrap();
            let read: Vec<String> = output.stdout.split(|&b| b == 0)
                .map(|w| String::from_utf8(w.to_vec()).unwrap()).collect();
            prop_assert_eq!(&read[..words.len()], &words[..]);
        }
    }
}
