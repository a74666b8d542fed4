# What a person types; each target says what it does. `make demo` and `make test` need nothing but a Rust toolchain and a
# C compiler to begin with.
.PHONY: help setup build guest release install demo test test-fast lab-long break endurance soak fuzz bench compare-images clean-lab

help:
	@sed -n 's/^## //p' Makefile

## make demo       see it work: an emulated host, a GPU, a NIC and an NVMe drive handed to a machine and taken back
demo: setup build
	@scripts/demo

## make setup      install what is missing on this machine; prints what; needs root only for that
setup:
	@scripts/setup

## make build      build handover and the lab, for development
build:
	cargo build --locked -p cli -p lab
	@scripts/build-guest target/lib/handover

## make guest      build the init of machines from container images, for the development's handover
guest:
	@scripts/build-guest target/lib/handover

## make release    build the executables that are shipped
release:
	cargo build --locked --release -p cli
	@scripts/build-guest target/lib/handover

## make install    install what `make release` built: executable, manual pages, completions, unit, group (as root; DESTDIR, PREFIX)
install:
	@scripts/install

## make test-fast  format, lints, dependencies, all tests but the lab's
test-fast:
	@scripts/test-fast

## make test       the gate: test-fast, random histories, the REST interface against its document, and the lab's tests on a real kernel
test: setup test-fast
	@scripts/test-histories
	@scripts/test-rest
	@scripts/test-lab

## make lab-long   the lab's long tests: every boundary instead of a sample, once per issue
lab-long: setup
	@HANDOVER_LAB=thorough scripts/test-lab

## make break      attacks on a running Handover in the lab, for longer than the gate has them (about 10 minutes)
break: setup
	@HANDOVER_LAB=thorough scripts/test-lab attacks:: many_clients

## make endurance  an hour of claims, listings and events in the lab: the daemon's memory stays flat (ENDURANCE_SECONDS)
endurance: setup
	@ENDURANCE_SECONDS=$${ENDURANCE_SECONDS:-3600} scripts/test-lab endurance::

## make soak       random histories with crashes and faults, until one fails or for SOAK_SECONDS
soak:
	@scripts/soak

## make fuzz       broken input for every reader of foreign input, FUZZ_SECONDS (60) each; TARGETS="a b" for some
fuzz:
	@scripts/fuzz $(TARGETS)

## make compare-images  compare a machine's root with podman's container, file by file, over a whole Debian tree (as root, with podman)
compare-images: build
	@scripts/compare-podman

## make bench      run all benchmarks
bench: setup
	@scripts/bench

## make clean-lab  remove the lab's images (they are built again when needed)
clean-lab:
	rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/handover-lab"
