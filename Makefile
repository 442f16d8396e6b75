# The project's everyday commands. What a machine may lack for them is installed by the scripts in tools/.

.DEFAULT_GOAL := help
.PHONY: help run test check bench

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

run: ## a whole node on an embedded database under ./data
	cargo run --release -- node

test: ## every test; installs MariaDB's programs, an S3 server and schemathesis when missing, and each test binary starts its own
	tools/install-mariadb
	tools/install-s3-server
	tools/install-schemathesis
	tools/run-tests

check: ## formatting, lints, documentation, licences and sources of the dependencies
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo clippy --locked --no-default-features --features reader -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	cargo fetch --locked
	$$(tools/install-cargo-deny) --locked --offline check --hide-inclusion-graph bans licenses sources

bench: ## the benchmarks (results go to target/criterion), then the loads against the real binary and their table
	tools/install-mariadb
	cargo bench --locked --bench apply --bench read --bench literals
	cargo bench --locked --bench growth -- $(CURDIR)/docs/growth.svg
	cargo bench --locked --bench load
	cargo bench --locked --bench snapshot
