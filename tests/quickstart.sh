#!/bin/bash
# make quickstart: from a clean clone to a container's output.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib.sh
tests/setup.sh run
find_go || die "Go is missing: install it from https://go.dev/dl/"
say "building skiff (the first time this takes a minute or two)"
make --no-print-directory -s build
skiff=$PWD/bin/skiff
export PATH=$PATH:/usr/sbin:/sbin

say "making the image hello/busybox from $(command -v busybox)"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
mkdir -p "$root"/{bin,dev,etc,proc,root,sys,tmp}
install -m 755 "$(command -v busybox)" "$root/bin/busybox"
for applet in $("$root/bin/busybox" --list); do [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"; done
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
tar -C "$root" --owner=0 --group=0 --numeric-owner -cf - . | "$skiff" import -c 'CMD ["sh"]' - hello/busybox >/dev/null

command='echo "Hello from a container. I am $(id -un) (uid $(id -u)) on $(hostname), process $$, and these are all the processes I see:"; ps'
echo
echo "\$ bin/skiff run --rm hello/busybox sh -c '$command'"
"$skiff" run --rm hello/busybox sh -c "$command" # the first run makes directories
start=$(date +%s%N)
"$skiff" run --rm hello/busybox true
end=$(date +%s%N)
printf '\nAnother one, `skiff run --rm hello/busybox true`, took %d.%d ms from start to end.\n' $(((end - start) / 1000000)) $(((end - start) / 100000 % 10))
echo "Go on with: bin/skiff run --rm -it hello/busybox"
