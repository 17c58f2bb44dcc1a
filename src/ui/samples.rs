//! Values that the snapshots of this module share. Tests only.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::apply::{RunReport, StepReport};
use crate::check::{CheckEntry, CheckReport, Finding, LinkReport, Scope, ServerReport, Verdict};
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::model::argv::{Argv, Login, RootAccess, RunAs};
use crate::model::lsn::Lsn;
use crate::model::name::{ServerName, SiteName, TopologyName};
use crate::model::parameter::Parameters;
use crate::model::secret::Secret;
use crate::model::topology::{Authentication, Common, Kind, Link, Purpose, Replication, Server, Site, Ssh, Topology};
use crate::model::version::Major;
use crate::plan::{Action, Copying, FileChange, Plan, PlanBuilder, Risk, Room, SettingChange, Step, StepId};
use crate::state::journal::Outcome;
use crate::ui::plan::PlanView;
use crate::ui::topology::{RoleView, ServerView, SiteView, StatusView};

pub(crate) const SECRET: &str = "canary-s3cret";

pub(crate) static TOPOLOGY: LazyLock<TopologyName> = LazyLock::new(|| "crawler".parse().unwrap());
static LOGINS: LazyLock<BTreeMap<ServerName, Login>> =
    LazyLock::new(|| BTreeMap::from([(server("a"), Login { user: "root".into(), root: RootAccess::Root })]));

pub(crate) fn server(name: &str) -> ServerName {
    name.parse().unwrap()
}

pub(crate) fn view<'a>(plan: Result<&'a Plan, &'a [Diagnostic]>) -> PlanView<'a> {
    PlanView { topology: &TOPOLOGY, plan, logins: &LOGINS }
}

fn step(title: &str, name: Option<&str>, risk: Risk) -> Step {
    Step { title: title.into(), server: name.map(server), risk, action: Action::Run(Vec::new()), files: Vec::new() }
}

pub(crate) fn plan() -> Plan {
    let postgres = || RunAs::User("postgres".into());
    let mut builder = PlanBuilder::default();
    let ca = builder.add(step("make directories", Some("a"), Risk::Reversible), []);
    let mut configure = step("install configuration", Some("a"), Risk::Reversible);
    configure.files = vec![
        FileChange {
            path: "/etc/postgresql/15/main/conf.d/pgstead.conf".into(),
            before: Some("cluster_name = 'a'\nwal_level = 'replica'\nmax_wal_senders = 5\nssl = off\n".into()),
            after: Some("cluster_name = 'a'\nwal_level = 'replica'\nmax_wal_senders = 10\nssl = on\n".into()),
        },
        FileChange { path: "/etc/postgresql/15/main/pgstead/server.key".into(), before: None, after: None },
    ];
    configure.action = Action::Run(vec![
        Argv::new(postgres(), "install").args(["-m", "0600", "/dev/stdin", "/etc/x y"]).stdin_text("x\n"),
    ]);
    let configure = builder.add(configure, [ca]);
    let mut roles = step("make roles", Some("a"), Risk::Reversible);
    roles.action = Action::Run(vec![
        Argv::new(postgres(), "psql")
            .args(["-X", "-f", "-"])
            .stdin_text("ALTER ROLE replicator PASSWORD '")
            .stdin_secret(Secret::new(SECRET))
            .stdin_text("';\n"),
    ]);
    let roles = builder.add(roles, [configure]);
    let mut hba = step("install pg_hba.conf", Some("b"), Risk::Reversible);
    hba.files = vec![FileChange {
        path: "/etc/postgresql/15/main/pg_hba.conf".into(),
        before: None,
        after: Some("local all postgres peer\nhostssl all all 10.0.0.1/32 cert\n".into()),
    }];
    let hba = builder.add(hba, []);
    let mut backup = step("take base backup from \"a\"", Some("b"), Risk::Destructive);
    backup.action = Action::Copy(Box::new(Copying {
        commands: vec![Argv::new(postgres(), "pg_basebackup").args(["--pgdata=/srv/b.seed.1", "--slot=b"])],
        sender: server("a"),
        room: Room {
            server: server("a"),
            look: Argv::new(postgres(), "df"),
            floor_bytes: 0,
            cancel: Vec::new(),
            release: Vec::new(),
        },
        progress: None,
    }));
    let backup = builder.add(backup, [roles, hba]);
    let restart = builder.add(step("restart", Some("a"), Risk::Disruptive), [backup]);
    let mut prove = step("prove every link", None, Risk::Reversible);
    prove.action =
        Action::ProveLinks { primary: server("a"), links: vec![Link { upstream: server("a"), standby: server("b") }] };
    builder.add(prove, [restart]);
    let notes = vec![Diagnostic::note(Code::Adopted, "server \"a\" is adopted as it is")];
    let change = |name: &str, before: &str, source: &str, after: &str, restart| SettingChange {
        server: server("a"),
        name: name.into(),
        before: before.into(),
        source: source.into(),
        after: Some(after.into()),
        restart,
    };
    let settings = vec![
        change("listen_addresses", "localhost", "default", "localhost,10.0.0.1", true),
        change("wal_keep_size", "0", "/etc/postgresql/15/main/postgresql.conf", "512MB", false),
    ];
    Plan { topology: TOPOLOGY.clone(), steps: builder.finish(), settings, notes }
}

pub(crate) fn refusal() -> Diagnostic {
    Diagnostic::error(Code::DataDirectoryNotOurs, "data directory \"/srv/b\" is not empty and not a copy of \"a\"")
        .server("b")
        .detail("Its system identifier is 7412630518824471123. Nothing was changed.")
}

fn step_report(id: u32, title: &str, name: Option<&str>, outcome: Outcome, seconds: f64) -> StepReport {
    StepReport { id: StepId(id), title: title.into(), server: name.map(server), outcome, seconds }
}

pub(crate) fn run() -> RunReport {
    RunReport {
        topology: TOPOLOGY.clone(),
        changed: true,
        steps: vec![
            step_report(1, "make directories", Some("a"), Outcome::Done, 0.02),
            step_report(2, "take base backup from \"a\"", Some("b"), Outcome::Done, 63.5),
        ],
        seconds: 64.25,
        bytes_transferred: 0,
        write_downtime: None,
        warnings: Vec::new(),
        failure: None,
    }
}

pub(crate) fn failed_run() -> RunReport {
    let failure = Diagnostic::error(Code::TakeBaseBackup, "could not take a base backup from \"a\" (step 2 of 3)")
        .server("b")
        .command("pg_basebackup --slot=b");
    RunReport {
        steps: vec![
            step_report(1, "make directories", Some("a"), Outcome::Done, 0.02),
            step_report(2, "take base backup from \"a\"", Some("b"), Outcome::Failed, 3.5),
            step_report(3, "start the standby", Some("b"), Outcome::NotStarted, 0.0),
        ],
        seconds: 3.75,
        failure: Some(Failure::one(FailureKind::StepFailed, failure)),
        ..run()
    }
}

pub(crate) fn links() -> Vec<LinkReport> {
    let link = |upstream: &str, standby: &str, verdict| LinkReport {
        upstream: server(upstream),
        standby: server(standby),
        state: Some("streaming".into()),
        sync_state: Some("async".into()),
        slot: Some(standby.into()),
        tls: Some("TLSv1.3".into()),
        canary_ms: Some(12.25),
        lag_bytes: Some(0),
        verdict,
    };
    vec![
        LinkReport { sync_state: Some("quorum".into()), ..link("a", "b", Verdict::Healthy) },
        LinkReport { lag_bytes: Some(5_242_880), canary_ms: None, ..link("b", "c", Verdict::Unhealthy) },
        LinkReport {
            state: None,
            sync_state: None,
            slot: None,
            tls: None,
            canary_ms: None,
            lag_bytes: None,
            ..link("a", "d", Verdict::Unknown)
        },
    ]
}

pub(crate) fn check() -> CheckReport {
    let report = |name: &str, reachable: bool, in_recovery: Option<bool>| ServerReport {
        name: server(name),
        reachable,
        in_recovery,
        timeline: in_recovery.map(|_| 3),
        system_identifier: in_recovery.map(|_| "7398120446250912034".into()),
    };
    CheckReport {
        topology: TOPOLOGY.clone(),
        verdict: Verdict::Unhealthy,
        servers: vec![
            report("a", true, Some(false)),
            report("b", true, Some(true)),
            report("c", true, Some(true)),
            report("d", false, None),
        ],
        links: links(),
        findings: vec![
            Finding {
                diagnostic: Diagnostic::error(Code::CanaryLost, "a write on \"a\" did not reach \"c\" within 5 s")
                    .server("c")
                    .hint("Look at the server log of \"c\"."),
                verdict: Verdict::Unhealthy,
                scope: Scope::Link(server("c")),
                others: Vec::new(),
                follows: None,
            },
            Finding {
                diagnostic: Diagnostic::warning(Code::ServerUnreachable, "server \"d\" could not be looked at")
                    .server("d"),
                verdict: Verdict::Unknown,
                scope: Scope::Server,
                others: Vec::new(),
                follows: None,
            },
        ],
        checked_at: "2026-11-23T19:30:00.125Z".parse().unwrap(),
        checks: vec![
            CheckEntry { id: "L7", title: "a row arrives", verdict: Some(Verdict::Unhealthy), skipped: None },
            CheckEntry {
                id: "L8",
                title: "replay is near",
                verdict: Some(Verdict::Unknown),
                skipped: Some("whether lag grows takes samples over time (--quick)"),
            },
            CheckEntry { id: "L20", title: "WAL is archived", verdict: None, skipped: Some("archiving is off") },
        ],
    }
}

fn status_server(name: &str, address: &str, role: RoleView) -> ServerView {
    let known = matches!(role, RoleView::Primary | RoleView::Standby);
    ServerView {
        name: server(name),
        address: address.parse().unwrap(),
        port: 5432,
        role,
        timeline: known.then_some(3),
        lsn: known.then_some(Lsn(0x1_A000_0028)),
        notes: Vec::new(),
    }
}

pub(crate) fn status() -> StatusView {
    let site = |name: &str, location: &str, region: &str, servers| SiteView {
        name: name.parse().unwrap(),
        location: Some(location.into()),
        region: Some(region.into()),
        servers,
    };
    let mut b = status_server("b", "192.168.1.101", RoleView::Standby);
    b.notes = vec!["pending restart".into()];
    StatusView {
        topology: TOPOLOGY.clone(),
        verdict: Verdict::Unhealthy,
        sites: vec![
            site("main", "主数据中心", "华东", vec![status_server("a", "192.168.1.100", RoleView::Primary), b]),
            site("metro", "同城备份中心", "华东", vec![status_server("c", "fd00::1", RoleView::NotRunning)]),
            site(
                "remote",
                "Shenzhen",
                "south",
                vec![
                    status_server("d", "192.168.2.100", RoleView::Unreachable("Connection refused\x1b[2J".into())),
                    status_server("e", "192.168.2.101", RoleView::Unknown("permission denied".into())),
                ],
            ),
        ],
        links: links(),
        why: vec![
            Diagnostic::error(Code::InstanceNotRunning, "server \"c\": no instance runs on port 5432").server("c"),
        ],
        beside: Vec::new(),
    }
}

pub(crate) fn topology() -> Topology {
    let site = |name: &str| (name.parse::<SiteName>().unwrap(), Site::default());
    let common = Common {
        replace_certificate: false,
        name: TOPOLOGY.clone(),
        purpose: Purpose::Lab,
        version: Major::try_from(15).unwrap(),
        databases: Vec::new(),
        roles: BTreeMap::new(),
        parameters: Parameters::default(),
        hba: Vec::new(),
        sites: BTreeMap::from([site("main"), site("remote")]),
        replication: Replication {
            authentication: Authentication::Certificate,
            synchronous: None,
            max_slot_wal_keep_size: "64GB".into(),
            start_alone: false,
        },
        hooks: Default::default(),
        drain_timeout_s: 5,
        pooler: None,
        objectives: Default::default(),
        lifetimes: Default::default(),
        thresholds: Default::default(),
    };
    let member = |name: &str, site: &str, kind| {
        let server = Server {
            name: server(name),
            address: "10.0.0.1".parse().unwrap(),
            site: site.parse().unwrap(),
            port: 5432,
            parameters: Parameters::default(),
            data_directory: None,
            tablespaces: BTreeMap::new(),
            bin_directory: None,
            service: None,
            ssh: Ssh::default(),
        };
        (server, kind)
    };
    let below = |upstream: &str| Kind::Standby { upstream: Some(upstream.into()) };
    let servers = vec![
        member("a", "main", Kind::Primary),
        member("b", "main", Kind::Standby { upstream: None }),
        member("c", "remote", below("b")),
    ];
    Topology::new(common, servers).unwrap()
}
