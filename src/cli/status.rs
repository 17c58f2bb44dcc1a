//! `status`: the topology as a picture, once or again and again.

use std::time::Duration;

use clap::Args;
use jiff::{Timestamp, Zoned};

use super::exit::Exit;
use super::globals::Globals;
use super::session::Session;
use super::{block_on, exit, inventory};
use crate::apply::lock::Standing;
use crate::check::{CheckReport, Verdict};
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::event::Events;
use crate::judge::{Role, ServerState};
use crate::model::aside;
use crate::model::aside::Beside;
use crate::model::observation::ServerObservation;
use crate::model::observed::Observed;
use crate::model::topology::Server;
use crate::observe::probe::Wish;
use crate::plan;
use crate::ui::beside::BesideView;
use crate::ui::json::StatusDocument;
use crate::ui::topology::{RoleView, ServerView, SiteView, StatusView};
use crate::ui::{Delivery, Ui, topology};

/// Show the topology: sites, roles, links, lag
///
/// It shows what is there and proves nothing: use check to prove links. It ends with code 0 whatever the picture shows.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead status
  pgstead status --watch      every 2 seconds, until Ctrl-C
  pgstead status --watch 10")]
pub(super) struct StatusArgs {
    /// Draw again every SECONDS, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
}

pub(super) fn run(globals: &Globals, args: &StatusArgs, ui: &Ui) -> Result<Exit, Failure> {
    if args.watch.is_some() && ui.is_json() {
        return Err(Failure::one(
            FailureKind::Usage,
            Diagnostic::error(Code::Usage, "--watch draws again and again, and JSON is exactly one document")
                .hint("Leave out --watch or --format json."),
        ));
    }
    let inventory = inventory::load(globals, ui)?;
    block_on(async {
        // Sizes are counted once, and not again and again.
        let wish = Wish { beside_size: args.watch.is_none(), ..Wish::default() };
        let mut session = Session::open(&inventory, wish, Events::silent()).await?;
        let Some(every) = args.watch else {
            let view = view(&session, &session.check(None).await?);
            session.close().await;
            ui.answer(|look| topology::render(&view, look), || StatusDocument::new(&view))?;
            return Ok(exit::DONE);
        };
        tokio::select! {
            result = watch(&mut session, every, ui) => result,
            _ = tokio::signal::ctrl_c() => Ok(exit::DONE),
        }
    })
}

async fn watch(session: &mut Session<'_>, every: u64, ui: &Ui) -> Result<Exit, Failure> {
    let mut ticks = tokio::time::interval(Duration::from_secs(every));
    // A slow look must not be followed by a burst of them.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        session.observe(Wish::default()).await;
        let view = view(session, &session.check(None).await?);
        let frame = topology::render_frame(&view, Zoned::now().time(), every, ui.out);
        if ui.result(&frame)? == Delivery::ReaderGone {
            return Ok(exit::DONE);
        }
    }
}

/// Returns the picture of what was observed.
fn view(session: &Session<'_>, report: &CheckReport) -> StatusView {
    let topology = &session.inventory.topology;
    let common = topology.common();
    let sites = common.sites.iter().map(|(name, site)| SiteView {
        name: name.clone(),
        location: site.location.clone(),
        region: site.region.clone(),
        servers: topology
            .servers()
            .filter(|server| server.site == *name)
            .map(|server| server_view(server, session.observation.servers.get(&server.name)))
            .collect(),
    });
    StatusView {
        topology: topology.name().clone(),
        verdict: report.verdict,
        sites: sites.filter(|site| !site.servers.is_empty()).collect(),
        links: report.links.clone(),
        why: report
            .causes()
            .filter(|(finding, _)| finding.verdict != Verdict::Healthy)
            .map(|(finding, _)| finding.diagnostic.clone())
            .collect(),
        beside: topology.servers().flat_map(|server| beside(session, server)).collect(),
    }
}

/// Returns what stands beside a server's data directory.
fn beside<'a>(session: &'a Session<'_>, server: &'a Server) -> impl Iterator<Item = BesideView> + 'a {
    let seen = session.observation.server(&server.name);
    let facts = seen.into_iter().filter_map(|seen| Some((seen, seen.layout.known()?)));
    facts.flat_map(move |(seen, layout)| {
        seen.beside_facts.iter().map(move |fact| {
            let kind = aside::read(&layout.data_directory, &fact.path);
            BesideView {
                server: server.name.clone(),
                name: aside::own_name(&fact.path).to_owned(),
                command: matches!(kind, Beside::Aside(_))
                    .then(|| plan::survey::aside::command(&server.name, &fact.path)),
                kind,
                modified: Timestamp::from_second(fact.modified_s).ok(),
                now: Timestamp::now(),
                bytes: fact.bytes.known().copied(),
            }
        })
    })
}

fn server_view(server: &Server, seen: Option<&Observed<ServerObservation>>) -> ServerView {
    let mut view = ServerView {
        name: server.name.clone(),
        address: server.address.clone(),
        port: server.port,
        role: RoleView::Unknown("not observed".to_owned()),
        timeline: None,
        lsn: None,
        notes: Vec::new(),
    };
    let seen = match seen {
        Some(Observed::Known(seen)) => seen,
        Some(Observed::Unreadable(why)) => {
            view.role = RoleView::Unreachable(why.clone());
            return view;
        }
        _ => return view,
    };
    // The box is narrow; "unlock" tells the rest.
    view.notes.extend(Standing::of(seen).map(|lock| {
        let word = if lock.is_living() { "locked by " } else { "expired lock of " };
        [word, lock.owner.as_deref().unwrap_or("unknown")].concat()
    }));
    let state = ServerState::of_seen(seen);
    view.notes.extend(state.successor().map(|name| ["about to hand over to ", name].concat()));
    if let Some(instance) = state.instance() {
        view.timeline = Some(instance.timeline);
        view.lsn = instance.positions.current.or(instance.positions.replay);
        if !state.waits_for_restart().is_empty() {
            view.notes.push("restart pending".to_owned());
        }
    }
    view.role = match state.role {
        Role::Primary(_) => RoleView::Primary,
        Role::Standby(_) => RoleView::Standby,
        Role::StoppedPrimary(_) | Role::StoppedStandby(_) => RoleView::NotRunning,
        Role::None => RoleView::NoInstance,
        Role::Unknown(_) if seen.unasked().is_some() => {
            RoleView::Unknown(["runs, and cannot be asked: ", seen.unasked().unwrap_or_default()].concat())
        }
        Role::Unknown(why) => RoleView::Unknown(why.to_owned()),
    };
    view
}
