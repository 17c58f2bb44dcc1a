//! Networks as they are: routers that translate addresses, public and private addresses, several addresses on one
//! server, IPv6, names that differ from server to server. What PostgreSQL sees is asked on the hosts themselves.

use std::net::Ipv4Addr;

use pgstead::lab::hosts::HostSpec;
use pgstead::lab::hosts::Release;
use serde_json::json;

use crate::scenario::Scenario;

/// Translates connections that leave a host, as a router to another network does; answers to others stay as they are.
const MASQUERADE: &str = "table ip translate {\nchain out {\ntype nat hook postrouting priority srcnat\ntcp flags & (syn | ack) == syn masquerade\n}\n}\n";

#[test]
fn a_router_that_translates_addresses_on_15() {
    translating_router(Release::Bookworm);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn a_router_that_translates_addresses_on_17() {
    translating_router(Release::Trixie);
}

#[test]
#[ignore = "plays on 15 in every run, on all releases in make soak"]
fn a_router_that_translates_addresses_on_18() {
    translating_router(Release::Forky);
}

/// Boots a and b, and a third host that is no server of the topology.
fn with_third(release: Release, third: &str) -> Scenario {
    let mut lab = Scenario::boot(release, &["a", "b", third]);
    lab.edit(|inventory| {
        inventory["servers"].as_object_mut().unwrap().remove(third);
        inventory["sites"].as_object_mut().unwrap().remove("remote");
    });
    lab
}

/// Another address on a host's network.
fn beside(address: Ipv4Addr, last: u8) -> Ipv4Addr {
    let [a, b, c, _] = address.octets();
    Ipv4Addr::new(a, b, c, last)
}

impl Scenario {
    /// Makes a host forward packets. It must not tell anybody of a shorter way.
    fn forward(&self, host: &str, rules: &str) {
        let init = self.host(host).init_pid().unwrap().to_string();
        for setting in
            ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.host0.send_redirects=0"]
        {
            let status = std::process::Command::new("nsenter")
                .args(["--net", "--target", &init, "--", "sysctl", "-q", "-w", setting])
                .status();
            assert!(status.unwrap().success(), "{setting}");
        }
        self.nft(host, rules);
    }

    fn nft(&self, host: &str, rules: &str) {
        self.host(host).write_file("/run/rules.nft", rules.as_bytes()).unwrap();
        self.run(host, &["nft", "--file", "/run/rules.nft"]);
    }

    /// Writes known hosts in which names stand for hosts of the lab, and uses them.
    fn known_hosts(&mut self, names: &[(&str, &str)]) {
        let recorded = std::fs::read_to_string(self.inventory["ssh"]["known_hosts"].as_str().unwrap()).unwrap();
        let mut text = recorded.clone();
        for (name, host) in names {
            let address = self.host(host).address().to_string();
            let lines = recorded.lines().filter(|line| line.split_whitespace().next() == Some(address.as_str()));
            let before = text.len();
            text.extend(lines.map(|line| line.replacen(&address, name, 1) + "\n"));
            assert!(text.len() > before, "no key of {host} in {recorded}");
        }
        let path = self.path().with_file_name("known_hosts");
        std::fs::write(&path, text).unwrap();
        self.edit(|inventory| inventory["ssh"]["known_hosts"] = json!(path));
    }

    fn hba(&self, host: &str) -> String {
        self.sql(host, "SELECT pg_read_file(current_setting('hba_file'))")
    }

    /// Demands that a row written on a arrives on b, and that nothing is left to do.
    #[track_caller]
    fn proven(&self) {
        self.sql("a", "CREATE TABLE t AS SELECT 42 AS answer");
        self.eventually("b", "SELECT answer FROM t", "42");
        self.streams("a", &["b"]);
        self.settled();
    }
}

fn translating_router(release: Release) {
    let lab = with_third(release, "r");
    let [a, b, r] = ["a", "b", "r"].map(|name| lab.host(name).address().to_string());
    lab.forward("r", MASQUERADE);
    lab.run("b", &["ip", "route", "replace", &a, "via", &r]);

    let planned = lab.pgstead(&["plan", "--format", "json"]).expect(0);
    println!("{}", planned.stderr);
    let ran = lab.bootstrap();
    println!("{}", ran.stderr);
    assert_eq!(lab.sql("a", "SELECT client_addr FROM pg_stat_replication"), r, "a sees the router, not {b}");
    assert!(lab.hba("a").contains(&format!("{r}/32 cert")), "{}", lab.hba("a"));
    assert!(planned.stdout.contains("address-translated") || ran.stderr.contains("address-translated"), "{ran}");
    lab.proven();

    // Where nobody can be asked, the plan says so, and the failure names the address.
    let other = with_third(release, "r");
    let [a, r] = ["a", "r"].map(|name| other.host(name).address().to_string());
    other.forward("r", MASQUERADE);
    other.run("b", &["ip", "route", "replace", &a, "via", &r]);
    other.run("b", &["chmod", "000", "/usr/bin/perl"]);
    other.run("b", &["mv", "/usr/bin/perl", "/usr/bin/perl.away"]);
    let ran = other.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(6);
    assert!(ran.codes().contains(&"address-not-seen".to_owned()), "{ran}");
    assert!(ran.codes().contains(&"address-not-admitted".to_owned()), "{ran}");
    assert!(ran.stderr.contains(&r), "{ran}");
    other.run("b", &["mv", "/usr/bin/perl.away", "/usr/bin/perl"]);
    other.run("b", &["chmod", "755", "/usr/bin/perl"]);
    other.bootstrap();
    assert_eq!(other.sql("a", "SELECT client_addr FROM pg_stat_replication"), r);
    other.proven();
}

/// The way looks direct, and is not: the failure tells the address, and the next run finds it out.
#[test]
fn an_address_that_is_translated_unseen() {
    let lab = with_third(Release::Bookworm, "r");
    let [a, b] = ["a", "b"].map(|name| lab.host(name).address());
    let other = beside(b, 112);
    lab.run("b", &["ip", "address", "add", &format!("{other}/24"), "dev", "host0"]);
    lab.nft(
        "b",
        &format!("table ip translate {{\nchain out {{\ntype nat hook postrouting priority srcnat\nip daddr {a} tcp dport 5432 snat to {other}\n}}\n}}\n"),
    );
    let ran = lab.pgstead(&["bootstrap", "--yes", "--format", "json"]).expect(6);
    assert!(ran.codes().contains(&"address-not-admitted".to_owned()), "{ran}");
    assert!(ran.stderr.contains(&other.to_string()), "{ran}");
    println!("{}", ran.stderr);
    lab.bootstrap();
    assert_eq!(lab.sql("a", "SELECT client_addr FROM pg_stat_replication"), other.to_string());
}

/// The address of the inventory is the router's; behind it is a server that knows another one.
#[test]
fn a_public_and_a_private_address() {
    let mut lab = with_third(Release::Bookworm, "r");
    let [a, b, r] = ["a", "b", "r"].map(|name| lab.host(name).address());
    let public = beside(r, 200);
    lab.run("r", &["ip", "address", "add", &format!("{public}/24"), "dev", "host0"]);
    lab.forward("r", MASQUERADE);
    lab.nft("r", &format!("table ip enter {{\nchain into {{\ntype nat hook prerouting priority dstnat\nip daddr {public} dnat to {a}\n}}\n}}\n"));
    lab.known_hosts(&[(&public.to_string(), "a")]);
    lab.edit(|inventory| inventory["servers"]["a"]["address"] = json!(public));
    // What a opens itself leaves it as it is.
    lab.bootstrap();
    assert_eq!(lab.sql("a", "SHOW listen_addresses"), format!("{a},127.0.0.1"));
    assert_eq!(lab.sql("b", "SELECT sender_host FROM pg_stat_wal_receiver"), public.to_string());
    assert_eq!(lab.sql("a", "SELECT client_addr FROM pg_stat_replication"), r.to_string());
    let certificate = "openssl x509 -noout -ext subjectAltName -in /var/lib/pgstead/lab/a/tls/server.crt";
    assert!(lab.run("a", &["sh", "-c", certificate]).contains(&public.to_string()));
    for (server, admitted) in [("a", b), ("a", r), ("b", a)] {
        assert!(lab.hba(server).contains(&format!("{admitted}/32 cert")), "{server}: {}", lab.hba(server));
    }
    lab.proven();
}

/// Two addresses, and connections come from the one that nobody dials.
#[test]
fn several_addresses_on_one_server() {
    let lab = with_third(Release::Trixie, "r");
    let [a, b] = ["a", "b"].map(|name| lab.host(name).address());
    let other = beside(b, 112);
    lab.run("b", &["ip", "link", "add", "second", "type", "veth", "peer", "name", "elsewhere"]);
    lab.run("b", &["ip", "address", "add", "10.99.0.12/24", "dev", "second"]);
    lab.run("b", &["ip", "address", "add", &format!("{other}/24"), "dev", "host0"]);
    lab.run("b", &["ip", "route", "replace", &a.to_string(), "dev", "host0", "src", &other.to_string()]);
    lab.bootstrap();
    assert_eq!(lab.sql("a", "SELECT client_addr FROM pg_stat_replication"), other.to_string());
    assert_eq!(lab.sql("b", "SHOW listen_addresses"), format!("{b},127.0.0.1"));
    lab.proven();
}

/// Every address of the inventory is an IPv6 address; SSH goes there through a jump host.
#[test]
fn ipv6_alone() {
    let mut lab = with_third(Release::Bookworm, "j");
    let jump = lab.host("j").address();
    for (name, ip) in [("a", "fd00:213::11"), ("b", "fd00:213::12"), ("j", "fd00:213::13")] {
        let init = lab.host(name).init_pid().unwrap().to_string();
        for setting in ["net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.host0.disable_ipv6=0"] {
            let mut command = std::process::Command::new("nsenter");
            assert!(
                command
                    .args(["--net", "--target", &init, "--", "sysctl", "-q", "-w", setting])
                    .status()
                    .unwrap()
                    .success()
            );
        }
        lab.run(name, &["ip", "address", "add", &format!("{ip}/64"), "dev", "host0", "nodad"]);
    }
    lab.known_hosts(&[("fd00:213::11", "a"), ("fd00:213::12", "b")]);
    lab.edit(|inventory| {
        inventory["servers"]["a"]["address"] = json!("fd00:213::11");
        inventory["servers"]["b"]["address"] = json!("fd00:213::12");
        inventory["ssh"]["jump"] = json!(format!("root@{jump}"));
    });
    lab.bootstrap();
    assert_eq!(lab.sql("a", "SELECT client_addr FROM pg_stat_replication"), "fd00:213::12");
    assert_eq!(lab.sql("a", "SHOW listen_addresses"), "fd00:213::11,127.0.0.1");
    assert!(!lab.hba("a").contains("10.213."), "{}", lab.hba("a"));
    lab.proven();
}

/// A name has one address on one server, another on the next, and its owner takes it for itself.
#[test]
fn names_that_differ_from_server_to_server() {
    let mut lab = Scenario::of(["a", "b", "c", "j"].map(|name| HostSpec::new(name, Release::Bookworm)).into());
    let [a, b, c, jump] = ["a", "b", "c", "j"].map(|name| lab.host(name).address());
    let inner = beside(a, 111);
    lab.run("a", &["ip", "address", "add", &format!("{inner}/24"), "dev", "host0"]);
    let names = |of_a: &str| format!("127.0.0.1 localhost\n{of_a} db-a\n{b} db-b\n{c} db-c\n");
    for (host, of_a) in [("a", "127.0.1.1"), ("b", &inner.to_string()), ("c", &a.to_string()), ("j", &a.to_string())] {
        lab.host(host).write_file("/etc/hosts", names(of_a).as_bytes()).unwrap();
    }
    lab.known_hosts(&[("db-a", "a"), ("db-b", "b"), ("db-c", "c")]);
    lab.edit(|inventory| {
        inventory["servers"].as_object_mut().unwrap().remove("j");
        for name in ["a", "b", "c"] {
            inventory["servers"][name]["address"] = json!(format!("db-{name}"));
        }
        // Each of them dials a for itself.
        inventory["servers"]["c"]["upstream"] = json!("a");
        inventory["ssh"]["jump"] = json!(format!("root@{jump}"));
    });
    lab.bootstrap();
    assert_eq!(lab.sql("a", "SHOW listen_addresses"), format!("{a},{inner},127.0.0.1"));
    let met = "SELECT string_agg(application_name || ' ' || host(client_addr), ', ' ORDER BY application_name) FROM pg_stat_replication";
    assert_eq!(lab.sql("a", met), format!("b {b}, c {c}"));
    let certificate = "openssl x509 -noout -ext subjectAltName -in /var/lib/pgstead/lab/a/tls/server.crt";
    let names = lab.run("a", &["sh", "-c", certificate]);
    for name in ["db-a".to_owned(), a.to_string(), inner.to_string()] {
        assert!(names.contains(&name), "{names}");
    }
    lab.sql("a", "CREATE TABLE t AS SELECT 42 AS answer");
    for standby in ["b", "c"] {
        lab.eventually(standby, "SELECT answer FROM t", "42");
    }
    lab.settled();
}
