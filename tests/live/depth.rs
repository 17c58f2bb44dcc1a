//! How much of a long table a scenario plays: a part of it in every run, and all of it in `make soak` (`PGSTEAD_DEPTH=all`).
//!
//! A table is what takes long because it has many rows of one kind: moments at which pgstead is killed, faults that strike in the
//! middle, system calls that go wrong. The part is the same in every run, so that a run that fails fails again.

/// Returns one row in so many, the first among them, or all rows where everything is played.
pub(crate) fn one_in<T>(so_many: usize, rows: Vec<T>) -> Vec<T> {
    let all = rows.len();
    let played: Vec<T> = if is_all() { rows } else { rows.into_iter().step_by(so_many).collect() };
    println!("{} of {all} rows are played", played.len());
    played
}

/// Returns the rows of a table of named rows that are played: one in so many, or those that `PGSTEAD_CELL` names, for whoever looks
/// into one: `PGSTEAD_CELL=twice`.
pub(crate) fn cells<C: Copy>(so_many: usize, table: &[C], name_of: impl Fn(&C) -> &str) -> Vec<C> {
    match std::env::var("PGSTEAD_CELL") {
        Ok(only) => table.iter().copied().filter(|cell| name_of(cell).contains(&only)).collect(),
        Err(_) => one_in(so_many, table.to_vec()),
    }
}

fn is_all() -> bool {
    std::env::var_os("PGSTEAD_DEPTH").is_some_and(|depth| depth == "all")
}
