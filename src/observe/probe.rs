//! The probe's script and its arguments: what is asked of one server.
//!
//! Pure; the layouts it asks about come from `model::layout`, the one place that knows the paths.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use crate::model::layout::Layout;
use crate::model::pooler::Pooler;
use crate::model::topology::{Server, Topology};
use crate::model::{layout, session};

/// The text of the probe.
pub static SCRIPT: LazyLock<String> = LazyLock::new(|| {
    let script = include_str!("probe.sh").replace("# @@BESIDE@@\n", include_str!("beside.sh"));
    let script = script.replace("# @@SESSION@@", &session::FUNCTION);
    let sql = include_str!("instance.sql").replace("-- @@SESSION@@\n", &session::STATEMENTS);
    let script = script.replace("@@VISITED_SQL@@", include_str!("visited.sql").trim_end());
    script.replace("@@INSTANCE_SQL@@", sql.trim_end())
});

/// The text of the probe with what a preflight wants besides.
pub static READINESS_SCRIPT: LazyLock<String> = LazyLock::new(|| {
    let readiness = include_str!("readiness.sh")
        .replace("@@READINESS_SQL@@", include_str!("readiness.sql").trim_end())
        .replace("@@DATABASE_SQL@@", include_str!("database.sql").trim_end());
    SCRIPT.replace("# @@READINESS@@\n", &readiness)
});

/// Returns the text of the probe for a wish.
pub fn script(wish: Wish) -> &'static str {
    if wish.readiness { &READINESS_SCRIPT } else { &SCRIPT }
}

/// The files that a probe reports, as (where, name): what pgstead installs, so that a plan can compare.
pub const FILES: &[(&str, &str)] = &[
    ("config", "postgresql.conf"),
    ("config", "pgstead.conf"),
    ("config", "pg_hba.conf"),
    ("config", "pg_ident.conf"),
    ("config", "start.conf"),
    ("config", "pg_ctl.conf"),
    ("config", "environment"),
    ("own", "ca.crt"),
    ("own", "tls/server.crt"),
    ("own", "tls/client.crt"),
    ("secret", "tls/server.key"),
    ("secret", "tls/client.key"),
    ("secret", "passfile"),
    ("own", "role"),
    ("own", "wait-ready"),
    ("own", "start-guard"),
    ("own", "start-refused"),
    ("own", "peers"),
    ("own", layout::POOLER),
    ("own", "manifest"),
    ("own", "data-directory"),
];

/// How long a login of the first look may take, in seconds; libpq takes less for two (manual, `connect_timeout`).
const DIAL_SECONDS: u64 = 2;

/// What a probe should look at besides what it always does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// A replication-protocol login to every other server (L15), for a moment: whoever asks for it in the first look waits for
    /// it. Costs a TLS connection each.
    pub dials: bool,
    /// The bytes of the data directory. Costs a walk through it.
    pub size: bool,
    /// The bytes of directories beside the data directory. Costs a walk through each, ten seconds at most.
    pub beside_size: bool,
    /// What a preflight wants besides: the machine, the installation, every database. Costs a connection per database.
    pub readiness: bool,
    /// How long an instance that starts or stops is looked at again, before it is taken for what it then is.
    pub settle: Duration,
}

/// Returns the candidates for a server's layout.
pub fn layouts(topology: &Topology, server: &Server) -> Vec<Layout> {
    Layout::candidates(topology.name().as_str(), server, topology.common().version)
}

/// Returns the probe's arguments for a server.
pub fn arguments(topology: &Topology, server: &Server, wish: Wish) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    words.extend(["version".to_owned(), topology.common().version.to_string()]);
    words.extend(["port".to_owned(), server.port.to_string()]);
    if wish.size {
        words.push("size".to_owned());
    }
    if wish.beside_size {
        words.push("beside-size".to_owned());
    }
    if wish.readiness {
        words.push("readiness".to_owned());
    }
    if wish.dials {
        words.extend(["patience".to_owned(), DIAL_SECONDS.to_string()]);
    }
    if let Some(Pooler { port, socket_directory, os_user, .. }) = &topology.common().pooler {
        words.extend(["pooler".to_owned(), port.to_string(), socket_directory.clone(), os_user.clone()]);
    }
    let visited: BTreeSet<&str> =
        topology.common().roles.values().flat_map(|role| role.visits().map(|(database, _)| database)).collect();
    for database in visited {
        words.extend(["visited".to_owned(), database.to_owned()]);
    }
    layout_words(topology, server, &mut words);
    for (place, name) in FILES {
        words.extend([(*place).to_owned(), (*name).to_owned()]);
    }
    for path in layouts(topology, server).iter().filter_map(Layout::guard_drop_in) {
        words.extend(["drop-in".to_owned(), path]);
    }
    if wish.readiness {
        let places = server.tablespaces.values().cloned();
        words.extend(places.flat_map(|path| ["place".to_owned(), path]));
    }
    for peer in topology.servers().filter(|peer| peer.name != server.name) {
        for verb in if wish.dials { &["peer", "dial"][..] } else { &["peer"][..] } {
            words.extend([(*verb).to_owned(), peer.name.to_string(), peer.address.to_string(), peer.port.to_string()]);
        }
    }
    words
}

/// Returns the arguments of a second look: dials to every other server, and the room at some paths.
pub fn second_look(topology: &Topology, server: &Server, paths: &[String]) -> Vec<String> {
    let mut words: Vec<String> = vec!["second-look".to_owned()];
    words.extend(["version".to_owned(), topology.common().version.to_string()]);
    words.extend(["port".to_owned(), server.port.to_string()]);
    layout_words(topology, server, &mut words);
    for path in paths {
        words.extend(["disk".to_owned(), path.clone()]);
    }
    for peer in topology.servers().filter(|peer| peer.name != server.name) {
        words.extend(["dial".to_owned(), peer.name.to_string(), peer.address.to_string(), peer.port.to_string()]);
    }
    words
}

fn layout_words(topology: &Topology, server: &Server, words: &mut Vec<String>) {
    for layout in layouts(topology, server) {
        words.push("layout".to_owned());
        words.push(kind_word(&layout).to_owned());
        words.push(layout.bin_directory);
        words.push(layout.data_directory);
        words.push(layout.config_directory.unwrap_or_default());
        words.push(layout.unit.unwrap_or_default());
        words.push(layout.socket_directory);
        words.push(layout.os_user);
        words.push(layout.pgstead_directory);
    }
}

/// Returns the word by which the probe names a layout's kind.
pub fn kind_word(layout: &Layout) -> &'static str {
    use crate::model::layout::LayoutKind::*;
    match layout.kind {
        Debian => "debian",
        Rhel => "rhel",
        Plain => "plain",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;
    use std::process::{Command, Stdio};
    use std::time::Instant;

    use super::*;
    use crate::model::observed::Observed;
    use crate::observe::parse::{Asked, parse_server};
    use crate::observe::records::Records;

    const BIN: &str = "/usr/lib/postgresql/15/bin";

    /// Runs the probe on this machine, for a plain instance in a directory.
    fn run(at: &str, more: &[&str]) -> Vec<u8> {
        let mut probe = Command::new("sh")
            .args(["-s", "--", "version", "15", "port", "5999"])
            .args(["layout", "plain", BIN, at, "", "", at, "", at])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        probe.stdin.take().unwrap().write_all(script(Wish::default()).as_bytes()).unwrap();
        probe.wait_with_output().unwrap().stdout
    }

    /// Files are looked at together; where one holds what no shell can, each alone. The outcome is the same.
    #[test]
    fn files_are_what_they_are_together_and_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (name, text) in
            [("one", "1\n\n"), ("two words", "no line feed"), ("empty", ""), ("back\\slash", "#end 2\nok\n")]
        {
            std::fs::write(at(name), text).unwrap();
        }
        // Root looks at them as the user of the instance.
        Command::new("chmod").arg("0755").arg(dir.path()).status().unwrap();
        std::fs::write(at("key"), "secret of the server").unwrap();
        std::os::unix::fs::symlink(at("one"), at("link")).unwrap();
        let asked = ["own", "one", "own", "not there", "own", "two words", "secret", "key", "own", "back\\slash"];
        let asked = [&asked[..], &["own", "empty", "own", "link", "secret", "no key"]].concat();
        let look = || {
            let answer = run(dir.path().to_str().unwrap(), &asked);
            assert!(!String::from_utf8_lossy(&answer).contains("secret of the server"));
            let records = Records::parse(&answer).unwrap();
            let asked = Asked { sent_ms: 0, answered_ms: 0 };
            parse_server(&records, &[], asked).files
        };
        let together = look();
        let file = |name: &str| together[at(name).to_str().unwrap()].known().unwrap().clone();
        let text = |name: &str| file(name).content;
        assert_eq!(text("one").as_deref(), Some("1\n\n"));
        assert_eq!(text("two words").as_deref(), Some("no line feed"));
        assert_eq!(text("empty").as_deref(), Some(""));
        assert_eq!(text("back\\slash").as_deref(), Some("#end 2\nok\n"));
        assert_eq!((text("link").as_deref(), file("link").is_link, file("one").is_link), (Some("1\n\n"), true, false));
        assert_eq!((text("key"), file("key").sha256), (None, crate::plan::files::hash::sha256("secret of the server")));
        assert_eq!(file("back\\slash").sha256, crate::plan::files::hash::sha256("#end 2\nok\n"));
        assert!(together[at("not there").to_str().unwrap()].is_absent() && together.len() == 8, "{together:?}");

        // One that is far too large is not read, and costs no other.
        let whole = std::fs::File::options().write(true).open(at("one")).unwrap();
        whole.set_len(2 << 20).unwrap();
        let large = look();
        let why = large[at("one").to_str().unwrap()].unreadable().unwrap();
        assert_eq!(why, "it has 2097152 bytes, more than the 1048576 that are read");
        assert_eq!(large[at("two words").to_str().unwrap()], together[at("two words").to_str().unwrap()]);
        std::fs::write(at("one"), "1\n\n").unwrap();

        std::fs::write(at("empty"), "0\0 0").unwrap();
        let mut alone = look();
        let changed = alone.insert(at("empty").to_str().unwrap().to_owned(), Observed::Known(file("empty")));
        assert_eq!(changed.unwrap().known().unwrap().content.as_deref(), Some("0 0"));
        assert_eq!(alone, together);
    }

    /// Whoever owns the data directory decides where its links lead and what stands beside it; that is told as it is, and no
    /// line of it becomes a record.
    #[test]
    fn a_link_and_a_name_with_line_feeds_in_them_forge_nothing() {
        const FORGED: &str = "x 0\n\n#instance_user 4\nroot\n#data_bytes 1\n7\n#y";
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("main");
        std::fs::create_dir_all(data.join("pg_tblspc")).unwrap();
        std::fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        std::os::unix::fs::symlink(FORGED, data.join("pg_tblspc/16400")).unwrap();
        let beside = format!("main.aside.{}", FORGED.replace('/', "_"));
        std::fs::create_dir(dir.path().join(&beside)).unwrap();
        let answer = run(data.to_str().unwrap(), &[]);
        let records = Records::parse(&answer).unwrap();
        assert_ne!(records.text("data_bytes"), "7");
        let me = Command::new("id").arg("-un").output().unwrap().stdout;
        assert_eq!(records.text("instance_user"), String::from_utf8(me).unwrap().trim());
        let seen = parse_server(&records, &[], Asked { sent_ms: 0, answered_ms: 0 });
        assert!(seen.disks.contains_key(FORGED), "{:?}", seen.disks.keys());
        assert_eq!(seen.beside, [dir.path().join(beside).to_str().unwrap()]);
    }

    /// The kernel accepts connections to a postmaster that stands still; whoever looks does not wait for it for ever.
    #[test]
    fn an_instance_that_never_answers_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        // It belongs to whoever owns its data directory.
        std::fs::write(dir.path().join("PG_VERSION"), "15\n").unwrap();
        let _silent = UnixListener::bind(dir.path().join(".s.PGSQL.5999")).unwrap();
        let begun = Instant::now();
        let output = run(dir.path().to_str().unwrap(), &[]);
        let said = String::from_utf8_lossy(&output);
        assert!(said.contains("#instance ! ") && said.contains("timeout expired"), "{said}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    }
}
