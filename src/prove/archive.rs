//! Sends a segment through the archive: switches WAL on the primary, waits for the archiver, compares the copy.
//!
//! The switch goes through the superuser's local socket, as in a bootstrap: role `pgstead` may not, and need not.

use std::time::{Duration, Instant};

use crate::check::evidence::ArchiveTrip;
use crate::model::archive::copy_directory;
use crate::model::argv::{Argv, RunAs};
use crate::model::name::ServerName;
use crate::model::observation::Observation;
use crate::model::observed::Observed;
use crate::model::topology::Topology;
use crate::plan::steps::sql;
use crate::prove::Sessions;
use crate::prove::sessions::explain;
use crate::quote::sql::Sql;
use crate::remote::{Host, LOOK};
use crate::wait;
use crate::wait::Look;

/// How often the archiver is asked.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The length of a segment's name.
const SEGMENT_NAME: usize = 24;

/// Sends the current segment through the archive. Absent where archiving is off.
pub(super) async fn archive_trip<H: Host>(
    sessions: &Sessions<'_, H>,
    host: &H,
    topology: &Topology,
    observation: &Observation,
    primary: &ServerName,
) -> Observed<ArchiveTrip> {
    match send(sessions, host, topology, observation, primary).await {
        Ok(Some(trip)) => Observed::Known(trip),
        Ok(None) => Observed::Absent,
        Err(why) => Observed::Unreadable(why),
    }
}

async fn send<H: Host>(
    sessions: &Sessions<'_, H>,
    host: &H,
    topology: &Topology,
    observation: &Observation,
    primary: &ServerName,
) -> Result<Option<ArchiveTrip>, String> {
    let unseen = || "the primary was not observed".to_owned();
    let seen = observation.server(primary).ok_or_else(unseen)?;
    let (server, layout) = topology.server(primary).zip(seen.layout.known()).ok_or_else(unseen)?;
    let instance = seen.instance.known().ok_or_else(unseen)?;
    let setting = |name: &str| instance.settings.get(name).map_or("", |setting| setting.setting.as_str());
    if setting("archive_mode") == "off" {
        return Ok(None);
    }
    // A restore point is a record, so that there is something to switch away from.
    let text = Sql::new().text(
        "SELECT pg_create_restore_point('pgstead check') \\g /dev/null\nSELECT pg_walfile_name(pg_switch_wal());\n",
    );
    let switch = sql::psql(layout, server, text).args(["-A", "-t"]);
    let output = host.run_within(LOOK, &[switch], &seen.login).await.map_err(|error| error.to_string())?;
    let answer = output.text();
    let segment = answer.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned();
    if !is_segment(&segment) {
        return Err(["pg_switch_wal() answered ", &answer].concat());
    }
    let session = sessions.session(primary).await.map_err(|why| explain(&why))?;
    let begun = Instant::now();
    let elapsed = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let limit = Duration::from_millis(topology.common().thresholds.archive_wait_ms);
    let arrived = wait::until(limit, LOOK_AGAIN, async || match session.last_archived().await {
        Ok(Some(last)) if is_as_late(&last, &segment) => Look::Ready(()),
        Ok(last) => Look::NotYet(last.unwrap_or_default()),
        Err(error) => Look::NotYet(error.to_string()),
    })
    .await;
    let waited_ms = elapsed();
    let copy_equal = match (arrived.is_ok(), copy_directory(setting("archive_command"))) {
        (true, Some(directory)) => {
            let files = [[&layout.data_directory, "/pg_wal/", &segment].concat(), [directory, "/", &segment].concat()];
            let sums = Argv::new(RunAs::User(layout.os_user.clone()), "sha256sum").arg("--").args(files);
            match host.run_within(LOOK, &[sums], &seen.login).await {
                Ok(output) => equal_sums(&output.text()),
                Err(error) => Observed::Unreadable(error.to_string()),
            }
        }
        _ => Observed::Absent,
    };
    Ok(Some(ArchiveTrip { segment, archived_ms: arrived.is_ok().then_some(waited_ms), waited_ms, copy_equal }))
}

fn is_segment(text: &str) -> bool {
    text.len() == SEGMENT_NAME && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Says whether the archiver has come as far as a segment. Between segments it archives history and backup files, too.
fn is_as_late(last: &str, segment: &str) -> bool {
    match last.get(..SEGMENT_NAME) {
        Some(_) if last.len() == SEGMENT_NAME => last >= segment,
        Some(of_backup) => of_backup > segment,
        None => false,
    }
}

fn equal_sums(text: &str) -> Observed<bool> {
    let sums: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    match sums.as_slice() {
        [one, other] => Observed::Known(one == other),
        _ => Observed::Unreadable(["sha256sum answered ", text].concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archiver_has_come_as_far() {
        let segment = "00000001000000000000000A";
        for (last, far) in [
            (segment, true),
            ("00000001000000000000000B", true),
            ("000000010000000000000009", false),
            ("00000001000000000000000A.00000028.backup", false),
            ("00000001000000000000000B.00000028.backup", true),
            ("00000002.history", false),
        ] {
            assert_eq!(is_as_late(last, segment), far, "{last}");
        }
    }

    #[test]
    fn sums_are_compared() {
        assert_eq!(equal_sums("ab  /x\nab  /y\n"), Observed::Known(true));
        assert_eq!(equal_sums("ab  /x\ncd  /y\n"), Observed::Known(false));
        assert!(equal_sums("ab  /x\n").unreadable().is_some());
    }
}
