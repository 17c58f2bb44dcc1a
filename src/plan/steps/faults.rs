//! What a drill breaks on purpose, in a lab alone (hazard 67). Nothing is removed by it.

use crate::drill::Fault;
use crate::model::argv::{Argv, RunAs};
use crate::model::layout::Layout;
use crate::model::name::ServerName;
use crate::plan::scripts;

/// Returns the server that a fault strikes.
pub fn struck(fault: &Fault) -> &ServerName {
    match fault {
        Fault::KillInstance(server) | Fault::LoseControlFile(server) => server,
    }
}

/// Returns the command that breaks an instance, as the OS user that it belongs to.
pub fn command(fault: &Fault, layout: &Layout) -> Argv {
    let what = match fault {
        Fault::KillInstance(_) => "kill",
        Fault::LoseControlFile(_) => "control",
    };
    Argv::new(RunAs::User(layout.os_user.clone()), "sh").args([
        "-c",
        scripts::BREAK_INSTANCE,
        "pgstead-break-instance",
        &layout.data_directory,
        what,
    ])
}
