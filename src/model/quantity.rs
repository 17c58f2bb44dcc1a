//! Bytes and durations in words, with PostgreSQL's units. No clock: values are given.

/// Writes bytes with the units of `pg_size_pretty`: kB, MB, GB, TB, each 1024 of the one before.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["kB", "MB", "GB", "TB", "PB"] {
        // 1023.95 would be written as 1024.0.
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// Writes bytes that may be negative.
pub fn signed_bytes(value: i64) -> String {
    format!("{}{}", if value < 0 { "-" } else { "" }, bytes(value.unsigned_abs()))
}

/// Writes a duration: `3.1 s`, `2 min 05 s`, `1 h 02 min`.
pub fn seconds(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, minutes, rest) => format!("{minutes} min {rest:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

/// Writes milliseconds, finer when they are few.
pub fn milliseconds(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// Writes a time that may be milliseconds or minutes.
pub fn duration(ms: f64) -> String {
    if ms < 1000.0 { milliseconds(ms) } else { seconds(ms / 1000.0) }
}

/// Writes a count with its noun, such as `1 step` and `2 steps`.
pub fn count(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_well() {
        assert_eq!([bytes(0), bytes(1023), bytes(1024), bytes(1 << 30)], ["0 B", "1023 B", "1.0 kB", "1.0 GB"]);
        assert_eq!(bytes(1024 * 1024 - 1), "1.0 MB");
        assert_eq!(signed_bytes(-2048), "-2.0 kB");
        assert_eq!([seconds(0.04), seconds(59.96), seconds(3725.0)], ["0.0 s", "1 min 00 s", "1 h 02 min"]);
        assert_eq!([milliseconds(1.26), milliseconds(12.4)], ["1.3 ms", "12 ms"]);
    }
}
