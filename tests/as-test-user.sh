#!/bin/bash
# go test -exec tests/as-test-user.sh: runs a test binary as the unprivileged test user. The binary and the package's own files are copied
# to where that user can read them: go's build directory and a clone under /root are closed to others.
set -euo pipefail
user=skiff-test
bin=$1
shift
dir=$(mktemp -d /tmp/skiff-unit.XXXXXX)
trap 'rm -rf "$dir"' EXIT
cp -r . "$dir/pkg"
cp "$bin" "$dir/$(basename "$bin")"
mkdir -m 700 "$dir/run" "$dir/home"
mkdir -m 711 "$dir/tmp" # other users of a user namespace walk through
chown -R "$user:" "$dir"
chmod 755 "$dir"
cd "$dir/pkg"
keep=()
for name in SKIFF_E2E_WHOLE SKIFF_E2E_PAIR SKIFF_E2E_SHAPES SKIFF_E2E_CACHE SKIFF_E2E_CONFORMANCE SKIFF_E2E_SMALL SKIFF_E2E_FULL SKIFF_E2E_KEEP_GOING SKIFF_E2E_UPDATE SKIFF_BENCH SKIFF_BENCH_NETWORKS SKIFF_TEST_CGROUP CI; do
	[ -z "${!name:-}" ] || keep+=("$name=${!name}")
done
setpriv --reuid="$user" --regid="$user" --init-groups --inh-caps=-all env -i "PATH=$PATH" "USER=$user" "HOME=$dir/home" "TMPDIR=$dir/tmp" \
	"XDG_RUNTIME_DIR=$dir/run" LANG=C.UTF-8 "${keep[@]}" "$dir/$(basename "$bin")" "$@" </dev/null
