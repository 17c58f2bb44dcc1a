//! Live scenarios: pgstead on real Debian hosts with systemd, sshd and PostgreSQL 15, 17 and 18.
//!
//! Outcomes are read with psql on the hosts, past SSH and past pgstead's own `check`. They need root for the hosts lab
//! and fail without it; nothing is skipped. Adding a scenario is adding a function.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and says what it measured")]

mod adoption;
mod alarm;
mod alarms;
mod alarms_promises;
mod applications;
mod aside;
mod attest;
mod authority;
mod bootstrap;
mod brought;
mod capture;
mod cells;
mod changes;
mod depth;
mod doubts;
mod drill;
mod earlier;
mod failover;
mod failover_cells;
mod faults;
mod frozen;
mod guard;
mod guard_boot;
mod hanging;
mod history;
mod invariants;
mod jobs;
mod joined;
mod laptop;
mod lease;
mod left;
mod networks;
mod places;
mod pooler;
mod preflight;
mod proof;
mod receivers;
mod refusals;
mod release;
mod remove;
mod replace;
mod reported;
mod reseed;
mod reseed_cells;
mod reseed_layouts;
mod reseed_sources;
mod reseed_tablespaces;
mod rings;
mod rotate;
mod scenario;
mod schedules;
mod secrets;
mod shared;
mod stops;
mod succession;
mod switchover;
mod switchover_cells;
mod switchover_load;
mod traces;
mod variants;
mod ways;
mod world;
