# One command per wish. "make help" lists them.
.DEFAULT_GOAL := help
.PHONY: help demo test test-fast flaky ci lab lab-down bench soak docs

RUN = cargo run --quiet --release --locked --

help: ## lists the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 12

demo: ## three servers on this machine: bootstrap, a row's journey, check, status (KEEP=1 leaves them up)
	@scripts/install-packages demo
	@scripts/demo

test: ## every test there is: needs root for the hosts lab, says what it skips without
	@scripts/install-packages test
	cargo test --locked --doc
	@scripts/test

test-fast: ## the tests that need no hosts, in less than two minutes
	@scripts/install-packages demo
	@scripts/test fast

flaky: ## the fast tests fifty times beside a load, the scenarios five times: whoever fails once fails (hours)
	@scripts/install-packages test
	@scripts/test flaky

ci: ## what CI runs: format, lints, tests, dependencies, documentation
	.ci/run

lab: ## the hosts lab: three booted systems with systemd, sshd and PostgreSQL (root)
	@scripts/install-packages test
	$(RUN) lab up --backend hosts

lab-down: ## takes the hosts lab away
	$(RUN) lab down --backend hosts

bench: ## micro-benchmarks, and bootstrap in the hosts lab against the bare commands (root)
	@scripts/install-packages test
	cargo bench --locked

soak: ## what takes long, virtual machines among it, and 1200 random schedules of faults, 100 of bootstraps, switchovers, failovers and whole lives on each version (root); SEED=N SCHEDULES=1 plays one again
	@scripts/install-packages test
	@PGSTEAD_SCHEDULES=$(SCHEDULES) PGSTEAD_SCHEDULE_SEED=$(SEED) scripts/soak

docs: ## the API documentation, warnings refused
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
