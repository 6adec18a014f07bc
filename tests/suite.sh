#!/bin/bash
# The test suite: tests/suite.sh all|unit|floors|e2e. As root everything that makes containers runs as the user skiff-test (tests/setup.sh makes
# it); an ordinary user tests as himself. RUN picks e2e scripts, SHAPES the shapes ("whole pair").
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib.sh
part=${1:-all}
case $part in all | unit | floors | e2e) ;; *) die "usage: tests/suite.sh all|unit|floors|e2e" ;; esac

[ "$part" = floors ] || tests/setup.sh test
find_go || die "Go is missing: install it from https://go.dev/dl/"
export CGO_ENABLED=0
: "${TAGS:=$(sed -n 's/^TAGS *:= *//p' Makefile)}"
# the control groups that setup.sh has handed over; this shell and what it starts is in one of them
group=skiff-tests-$(test_user)
for dir in /sys/fs/cgroup/pids /sys/fs/cgroup; do
	[ ! -d "$dir/$group" ] || export SKIFF_TEST_CGROUP=/$group
done
for dir in /sys/fs/cgroup/unified/$group /sys/fs/cgroup/$group; do
	[ ! -d "$dir" ] || as_root sh -c 'mkdir -p "$1/suite" && chown -R "$2" "$1" && echo "$3" >"$1/suite/cgroup.procs"' - "$dir" "$(test_user)" $$ || say "cannot enter $dir"
done
work=$(mktemp -d /tmp/skiff-tests.XXXXXX)
trap 'small_disks_off; rm -rf "$work"' EXIT
chmod 755 "$work"
failed=0 results=$work/results
: >"$results"
as_user=()
[ "$(id -u)" != 0 ] || as_user=(-exec "$PWD/tests/as-test-user.sh")

# failures shows of a verbose log what the tests that failed have printed, and what belongs to no test; after a panic, the end of everything.
failures() {
	awk '
		{ last[NR % 300] = $0 }
		/^panic: |^fatal error: / { panicked = 1 }
		/^=== (RUN|PAUSE|CONT|NAME) / { test = $3; next }
		/^ *--- (PASS|FAIL|SKIP): / { if ($2 == "FAIL:") { failed[$3] = 1; summary = summary $0 "\n" }; test = ""; next }
		/^(PASS|FAIL|ok|\?)([ \t]|$)/ { test = "" }
		test == "" { if ($0 !~ /^(PASS$|ok|\?)/) print; next }
		{ if (!(test in said)) order[++n] = test; said[test] = said[test] $0 "\n" }
		END {
			for (i = 1; i <= n; i++) if (order[i] in failed) printf "=== %s\n%s", order[i], said[order[i]]
			printf "%s", summary
			if (panicked) for (i = NR > 300 ? NR - 299 : 1; i <= NR; i++) print last[i % 300]
		}'
}

# test runs go test verbosely and shows one line per test that failed, was skipped, or is a top-level one; all of a failure's words.
go_test() {
	local status=0
	say "go test $*"
	go test -v -tags "$TAGS" "$@" >"$work/log" 2>&1 || status=1
	cat "$work/log" >>"$work/all"
	grep -a -E '^(ok|FAIL|---|\?)[[:space:]]' "$work/log" | grep -a -E '^(ok|FAIL|\?)' | grep -a -v 'no test files' >>"$results" || true
	if [ $status != 0 ]; then
		failed=1
		failures <"$work/log"
	else
		grep -a -E '^(ok|--- SKIP)' "$work/log" || true
	fi
}

# small_disks mounts an ext4 of 64 MB with few inodes for each shape, which belongs to the test user: scripts fill it. Where there is no right to mount, they are skipped.
small_disks() {
	local shape dir image owner
	owner=$(id -u "$(test_user)"):$(id -g "$(test_user)")
	if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null || ! PATH=$PATH:/usr/sbin:/sbin command -v mkfs.ext4 >/dev/null; then return 0; fi
	for shape in whole pair; do
		dir=$work/small/$shape image=$work/small-$shape.ext4
		mkdir -p "$dir"
		truncate -s 64M "$image"
		PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -F -m 0 -N 1200 -E "root_owner=$owner" "$image" || return 0
		as_root mount -o loop "$image" "$dir" 2>/dev/null || return 0
	done
	export SKIFF_E2E_SMALL=$work/small
}

small_disks_off() {
	local dir
	for dir in "$work"/small/*; do
		! mountpoint -q "$dir" 2>/dev/null || as_root umount -l "$dir"
	done
}

binaries() {
	say "building both shapes"
	mkdir -p "$work/whole" "$work/pair/bin" "$work/pair/libexec/skiff"
	go build -trimpath -buildvcs=false -ldflags '-s -w -buildid= -E github.com/skiff-containers/skiff/run/fork.entry' -tags "$TAGS" -o "$work/whole/skiff" .
	go build -trimpath -buildvcs=false -ldflags '-s -w -buildid= -E github.com/skiff-containers/skiff/run/fork.entry' -tags "$TAGS,front" -o "$work/pair/bin/skiff" .
	go build -trimpath -buildvcs=false -ldflags '-s -w -buildid= -E github.com/skiff-containers/skiff/run/fork.entry' -tags "$TAGS,switch" -o "$work/pair/libexec/skiff/skiff-switch" .
	cp "$work/whole/skiff" "$work/pair/libexec/skiff/skiff-engine"
}

# the runtime spec's own programs, from a module of their own
conformance() {
	local tools=github.com/opencontainers/runtime-tools
	say "building the programs of $tools"
	mkdir -p "$work/conformance"
	go build -C tests/conformance -mod=readonly -o "$work/conformance/" $tools/validation/... $tools/cmd/runtimetest
	cp "$(go list -C tests/conformance -m -f '{{.Dir}}' $tools)"/rootfs-*.tar.gz docs/conformance.md "$work/conformance/"
	chmod -R a+rX "$work/conformance"
}

if [ "$part" = all ] || [ "$part" = unit ]; then
	say "go vet"
	go vet -tags "$TAGS" ./... || failed=1
	go vet -tags "$TAGS,front" ./commands . || failed=1
	# shellcheck disable=SC2046
	go_test -timeout 10m "${as_user[@]}" $(go list -tags "$TAGS" ./... | grep -a -v /tests)
	# root's own user namespace is another path: no set-uid helpers
	[ "$(id -u)" != 0 ] || go_test -count=1 ./run/userns ./run/oci
fi
if [ "$part" = all ] || [ "$part" = floors ]; then
	go_test -count=1 -run 'TestFloors|TestPromises' ./tests
	go_test "${as_user[@]}" -run TestScriptCommands ./tests
fi
if [ "$part" = all ] || [ "$part" = e2e ]; then
	binaries
	export SKIFF_E2E_CACHE=${SKIFF_E2E_CACHE:-/var/tmp/skiff-e2e-$(id -u)}
	mkdir -p "$SKIFF_E2E_CACHE"
	[ "$(id -u)" != 0 ] || chown skiff-test: "$SKIFF_E2E_CACHE"
	for shape in ${SHAPES:-whole pair}; do
		[[ $shape == whole || $shape == pair ]] || { echo "no shape is called $shape: SHAPES takes whole and pair" >&2; exit 2; }
	done
	[[ " ${SHAPES:-whole pair} " != *" whole "* ]] || export SKIFF_E2E_WHOLE=$work/whole
	[[ " ${SHAPES:-whole pair} " != *" pair "* ]] || export SKIFF_E2E_PAIR=$work/pair
	small_disks
	go_test -count=1 -timeout 30m -parallel 4 "${as_user[@]}" -run "TestE2E/.*/${RUN:-}" ./tests
	if [ -z "${RUN:-}" ] || [ "$RUN" = conformance ]; then
		conformance
		SKIFF_E2E_CONFORMANCE=$work/conformance go_test -count=1 -timeout 10m -parallel 4 "${as_user[@]}" -run TestConformance ./tests
	fi
	unset SKIFF_E2E_WHOLE SKIFF_E2E_PAIR
fi

count() { grep -a -c -E "^ *--- $1" "$work/all" || true; }
echo
if [ "$(count SKIP)" != 0 ]; then
	echo "skipped, and why:"
	grep -a -E -A3 '^ *--- SKIP' "$work/all" | grep -a -v -E '^--$|--- PASS|^ok|=== ' | sed 's/^ */  /' | sort -u
fi
if [ "$(count FAIL)" != 0 ]; then
	echo "failed:"
	grep -a -E '^ *--- FAIL' "$work/all" | sed 's/^ */  /'
fi
echo "$(count PASS) passed, $(count FAIL) failed, $(count SKIP) skipped"
cat "$results"
[ $failed = 0 ] || { echo FAIL; exit 1; }
echo PASS
