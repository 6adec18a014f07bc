#!/bin/bash
# make bench: the program just built beside bubblewrap, crun, runc and podman, as the unprivileged user, ROUNDS times (default 31; 0: not), its builds beside buildah's and
# podman's, a hundred containers at once beside podman's, and its bridge beside pasta and slirp4netns, NETWORK_ROUNDS times (default 5; 0: not). BENCH is a pattern of the parts, as TestBenchBuild.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib.sh
tests/setup.sh bench
find_go || die "Go is missing: install it from https://go.dev/dl/"
pair=$(mktemp -d /tmp/skiff-bench.XXXXXX)
trap 'rm -rf "$pair"' EXIT
chmod 755 "$pair"
cp -r bin libexec "$pair"
export SKIFF_E2E_PAIR=$pair CGO_ENABLED=0
[ "${ROUNDS:-31}" = 0 ] || export SKIFF_BENCH=${ROUNDS:-31}
[ "${NETWORK_ROUNDS:-5}" = 0 ] || export SKIFF_BENCH_NETWORKS=${NETWORK_ROUNDS:-5}
as_user=()
[ "$(id -u)" != 0 ] || as_user=(-exec "$PWD/tests/as-test-user.sh")
go test -v -count=1 -timeout 30m "${as_user[@]}" -run "${BENCH:-^TestBench}" ./tests
