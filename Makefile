# Each target is a line or three; what takes longer is a script in tests/.
export CGO_ENABLED = 0
PREFIX  ?= /usr/local
TAGS    := containers_image_openpgp,exclude_graphdriver_btrfs,exclude_graphdriver_zfs,containers_image_docker_daemon_stub,urfave_cli_no_docs
export TAGS
GOBUILD := go build -trimpath -buildvcs=false -ldflags '-s -w -buildid= -E github.com/skiff-containers/skiff/run/fork.entry'

.PHONY: build build-whole test unit e2e test-vm floors lint bench quickstart setup install clean help

build: ## the front (bin/skiff), the engine and the switch beside it (libexec/skiff/skiff-engine, skiff-switch)
	$(GOBUILD) -tags $(TAGS) -o libexec/skiff/skiff-engine .
	$(GOBUILD) -tags $(TAGS),switch -o libexec/skiff/skiff-switch .
	$(GOBUILD) -tags $(TAGS),front -o bin/skiff .

build-whole: ## everything in one binary (bin/skiff-whole)
	$(GOBUILD) -tags $(TAGS) -o bin/skiff-whole .

test: ## the whole suite: installs what it needs, vet, unit tests, floors, e2e on both shapes
	tests/suite.sh all

unit: ## unit tests only
	tests/suite.sh unit

e2e: ## e2e scripts only; RUN=exec picks one, SHAPES=whole one shape
	tests/suite.sh e2e

test-vm: ## scripts of limits in a Debian with systemd and pure cgroup v2, under qemu; RUN picks some
	tests/vm.sh

floors: ## who may import whom, and what the front may link
	tests/suite.sh floors

lint: ## gofmt, go vet, golangci-lint at the pinned version
	tests/lint.sh

bench: build ## start-up times beside bubblewrap, crun, runc and podman; networks beside pasta and slirp4netns
	tests/bench.sh

quickstart: ## install what is missing, build, make an image, run it
	tests/quickstart.sh

setup: ## install what the tests need and make the test user
	tests/setup.sh test

install: build ## into PREFIX (/usr/local); skiff-oci is a link to skiff
	install -D -m 755 bin/skiff $(DESTDIR)$(PREFIX)/bin/skiff
	install -D -m 755 libexec/skiff/skiff-engine $(DESTDIR)$(PREFIX)/libexec/skiff/skiff-engine
	install -D -m 755 libexec/skiff/skiff-switch $(DESTDIR)$(PREFIX)/libexec/skiff/skiff-switch
	ln -sf skiff $(DESTDIR)$(PREFIX)/bin/skiff-oci

clean: ## remove what was built
	rm -rf bin libexec

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | while IFS='	' read -r t d; do printf '  %-12s %s\n' "$$t" "$$d"; done
