//! The room that a way needs, mount by mount: a tablespace may lie on a disk of its own.

use serde::Serialize;

use crate::model::observed::Observed;
use crate::model::quantity::bytes;
use crate::plan::operation::reseed::case::Case;

/// What a way needs of one mount at its peak, beside what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Where it is mounted; the path itself where that is not known.
    pub mount: String,
    pub needed_bytes: u64,
    /// Bytes that are free there; none where nobody could look.
    pub free_bytes: Option<u64>,
}

/// Returns what new data need: `peak_bytes` in all, of which each tablespace has its part in its own location.
pub(super) fn needs(case: &Case<'_>, peak_bytes: u64) -> Vec<Need> {
    let mut needs: Vec<Need> = Vec::new();
    let mut add = |path: &str, needed_bytes: u64| {
        let disk = case.raw.disks.get(path).and_then(Observed::known);
        let mount = disk.map_or(path, |disk| disk.mount.as_str());
        match needs.iter_mut().find(|need| need.mount == mount) {
            Some(need) => need.needed_bytes += needed_bytes,
            None => {
                let (mount, free_bytes) = (mount.to_owned(), disk.map(|disk| disk.free_bytes));
                needs.push(Need { mount, needed_bytes, free_bytes });
            }
        }
    };
    let primary = case.primary.instance;
    let apart: Vec<(&String, u64)> = primary
        .into_iter()
        .flat_map(|instance| &instance.tablespaces)
        .filter_map(|(name, location)| Some((location, *primary?.tablespace_bytes.get(name)?)))
        .collect();
    let in_tablespaces: u64 = apart.iter().map(|(_, size)| size).sum();
    add(&case.layout.data_directory, peak_bytes.saturating_sub(in_tablespaces));
    for (location, size) in apart {
        add(location, size);
    }
    needs
}

/// Says whether there is so much. What stays in the place until its successor is proven needs its room as well (field.md, rows
/// 15 and 16).
pub(super) fn suffices(case: &Case<'_>, needs: &[Need]) -> Result<(), String> {
    // What an earlier run copied already stands there.
    if case.ripe_job().is_some() {
        return Ok(());
    }
    if let Some(why) = case.raw.disks.get(&case.layout.data_directory).and_then(Observed::unreadable) {
        return Err(format!("how much room there is could not be seen: {why}"));
    }
    let short = needs.iter().find(|need| need.free_bytes.is_some_and(|free| free < need.needed_bytes));
    short.map_or(Ok(()), |need| {
        Err(format!(
            "{} has {} free, and {} are needed: the old data directory is kept until its successor is proven",
            need.mount,
            bytes(need.free_bytes.unwrap_or_default()),
            bytes(need.needed_bytes)
        ))
    })
}
