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
for dir in /sys/fs/cgroup/pids/skiff-tests /sys/fs/cgroup/skiff-tests; do
	[ ! -d $dir ] || export SKIFF_TEST_CGROUP=/skiff-tests
done
for dir in /sys/fs/cgroup/unified/skiff-tests /sys/fs/cgroup/skiff-tests; do
	[ ! -d $dir ] || as_root sh -c 'mkdir -p "$1/suite" && chown -R "$2" "$1" && echo "$3" >"$1/suite/cgroup.procs"' - $dir "$(test_user)" $$ || say "cannot enter $dir"
done
work=$(mktemp -d /tmp/skiff-tests.XXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
failed=0 results=$work/results
: >"$results"
as_user=()
[ "$(id -u)" != 0 ] || as_user=(-exec "$PWD/tests/as-test-user.sh")

# test runs go test verbosely and shows one line per test that failed, was skipped, or is a top-level one; all of a failure's words.
go_test() {
	local status=0
	say "go test $*"
	go test -v -tags "$TAGS" "$@" >"$work/log" 2>&1 || status=1
	cat "$work/log" >>"$work/all"
	grep -a -E '^(ok|FAIL|---|\?)[[:space:]]' "$work/log" | grep -a -E '^(ok|FAIL|\?)' | grep -a -v 'no test files' >>"$results" || true
	if [ $status != 0 ]; then
		failed=1
		grep -a -v -E '^ *(=== (RUN|PAUSE|CONT|NAME)|--- PASS)' "$work/log" || true
	else
		grep -a -E '^(ok|--- SKIP)' "$work/log" || true
	fi
}

binaries() {
	say "building both shapes"
	mkdir -p "$work/whole" "$work/pair/bin" "$work/pair/libexec/skiff"
	go build -trimpath -buildvcs=false -ldflags '-s -w -buildid=' -tags "$TAGS" -o "$work/whole/skiff" .
	go build -trimpath -buildvcs=false -ldflags '-s -w -buildid=' -tags "$TAGS,front" -o "$work/pair/bin/skiff" .
	cp "$work/whole/skiff" "$work/pair/libexec/skiff/skiff-engine"
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
	go_test -count=1 -run 'TestFloors' ./tests
	go_test "${as_user[@]}" -run TestScriptCommands ./tests
fi
if [ "$part" = all ] || [ "$part" = e2e ]; then
	binaries
	export SKIFF_E2E_CACHE=${SKIFF_E2E_CACHE:-/var/tmp/skiff-e2e-$(id -u)}
	mkdir -p "$SKIFF_E2E_CACHE"
	[ "$(id -u)" != 0 ] || chown skiff-test: "$SKIFF_E2E_CACHE"
	[[ " ${SHAPES:-whole pair} " != *" whole "* ]] || export SKIFF_E2E_WHOLE=$work/whole
	[[ " ${SHAPES:-whole pair} " != *" pair "* ]] || export SKIFF_E2E_PAIR=$work/pair
	go_test -count=1 -timeout 30m -parallel 4 "${as_user[@]}" -run "TestE2E/.*/${RUN:-}" ./tests
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
