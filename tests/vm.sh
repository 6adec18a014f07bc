#!/bin/bash
# The scripts of limits on a machine with systemd and pure cgroup v2: a Debian in qemu, made of Debian's packages, without a network, by software
# emulation unless VM_ACCEL=kvm. RUN picks scripts, VM_MINUTES is the limit (60). Not part of `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib.sh
suite=${SUITE:-bookworm}
: "${RUN:=(limits_systemd|limits_io|stats|pause|restart|lifecycle|exec|info|run|run_isolation|run_mounts|volume|cp|commit|build|attack_image|attack_mounts|attack_process)\$}"
minutes=${VM_MINUTES:-60} accel=${VM_ACCEL:-tcg}
[ "$(uname -m)" = x86_64 ] || die "make test-vm knows amd64 machines only"

for c in mmdebstrap:mmdebstrap qemu-system-x86_64:qemu-system-x86 mkfs.ext4:e2fsprogs; do
	PATH=$PATH:/usr/sbin:/sbin command -v "${c%%:*}" >/dev/null || missing="${missing:-} ${c#*:}"
done
if [ -n "${missing:-}" ]; then
	command -v apt-get >/dev/null || die "install these and try again:$missing"
	say "installing$missing"
	# shellcheck disable=SC2086
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi
find_go || die "Go is missing: install it from https://go.dev/dl/"
export CGO_ENABLED=0
TAGS=$(sed -n 's/^TAGS *:= *//p' Makefile)

cache=${XDG_CACHE_HOME:-$HOME/.cache}/skiff-vm
work=$(mktemp -d "${TMPDIR:-/var/tmp}/skiff-vm.XXXXXX")
trap 'as_root rm -rf "$work"' EXIT
mkdir -p "$cache"
packages=systemd-sysv,dbus,dbus-user-session,libpam-systemd,uidmap,busybox-static,linux-image-cloud-amd64,procps,util-linux,iproute2,passwd,tar,xz-utils
if [ ! -f "$cache/$suite.tar" ]; then
	say "making a Debian $suite of packages (kept in $cache)"
	as_root mmdebstrap --quiet --variant=minbase --include=$packages "$suite" "$work/$suite.tar"
	as_root mv "$work/$suite.tar" "$cache/$suite.tar"
fi

say "building"
root=$work/root dir=$work/root/opt/skiff-tests
as_root mkdir -p "$root"
as_root tar -C "$root" -xf "$cache/$suite.tar"
mkdir -p "$work/opt/whole" "$work/opt/pair/bin" "$work/opt/pair/libexec/skiff" "$work/opt/tests"
go build -trimpath -buildvcs=false -ldflags '-s -w -buildid= -E github.com/skiff-containers/skiff/run/fork.entry' -tags "$TAGS" -o "$work/opt/whole/skiff" .
go build -trimpath -buildvcs=false -ldflags '-s -w -buildid= -E github.com/skiff-containers/skiff/run/fork.entry' -tags "$TAGS,front" -o "$work/opt/pair/bin/skiff" .
go build -trimpath -buildvcs=false -ldflags '-s -w -buildid= -E github.com/skiff-containers/skiff/run/fork.entry' -tags "$TAGS,switch" -o "$work/opt/pair/libexec/skiff/skiff-switch" .
cp "$work/opt/whole/skiff" "$work/opt/pair/libexec/skiff/skiff-engine"
go test -c -tags "$TAGS" -o "$work/opt/tests/tests.test" ./tests
cp -r tests/e2e "$work/opt/tests/"
cat >"$work/opt/boot" <<'EOF'
#!/bin/sh
# runs as root when the machine is up
exec >/dev/ttyS0 2>&1
loginctl enable-linger skiff
loginctl enable-linger plain
for i in $(seq 300); do [ ! -S /run/user/1000/bus ] || [ ! -S /run/user/1001/bus ] || break; sleep 0.2; done
# the first disk is shared out by weight, the second is for limits
modprobe bfq && echo bfq >/sys/block/vda/queue/scheduler
mount /dev/vdb /srv && chown skiff: /srv
echo "== systemd $(systemctl --version | head -n 1), kernel $(uname -r), $(stat -f -c %T /sys/fs/cgroup)"
dmesg --console-level 3
# a session as a login makes it, in which nothing is delegated
scripts() {
	su -l "$1" -c "cd /opt/skiff-tests/tests && PATH=/usr/sbin:/usr/bin:/sbin:/bin SKIFF_E2E_WHOLE=/opt/skiff-tests/whole SKIFF_E2E_PAIR=/opt/skiff-tests/pair SKIFF_E2E_CACHE=/home/$1/cache \
		./tests.test -test.v -test.timeout $(cat /opt/skiff-tests/minutes)m -test.parallel 2 -test.run 'TestE2E/.*/$2'"
}
status=0
scripts plain 'limits_undelegated$' || status=$?
scripts skiff "$(cat /opt/skiff-tests/run)" || status=$?
echo "== the scripts ended: $status"
poweroff
EOF
printf '%s' "$RUN" >"$work/opt/run"
echo "$minutes" >"$work/opt/minutes"
chmod +x "$work/opt/boot"
as_root cp -r "$work/opt" "$dir"
as_root sh -eu -c '
	for u in skiff:1000 plain:1001; do
		chroot "$1" useradd -m -u ${u#*:} -s /bin/sh ${u%:*}
		mkdir -p "$1/home/${u%:*}/cache" && chown ${u#*:}:${u#*:} "$1/home/${u%:*}/cache"
	done
	chmod -R a+rX "$1/opt"
	echo skiff-vm >"$1/etc/hostname"
	printf "/dev/vda / ext4 rw 0 0\n" >"$1/etc/fstab"
	# the controllers that distributions of today delegate to users
	mkdir -p "$1/etc/systemd/system/user@.service.d"
	printf "[Service]\nDelegate=cpu cpuset io memory pids\n" >"$1/etc/systemd/system/user@.service.d/delegate.conf"
	# and a user with those that systemd delegates by itself
	mkdir -p "$1/etc/systemd/system/user@1001.service.d"
	printf "[Service]\nDelegate=pids memory\n" >"$1/etc/systemd/system/user@1001.service.d/delegate.conf"
	printf "[Unit]\nAfter=systemd-logind.service\n[Service]\nType=oneshot\nExecStart=/opt/skiff-tests/boot\nTimeoutStartSec=infinity\n[Install]\nWantedBy=multi-user.target\n" \
		>"$1/etc/systemd/system/skiff-tests.service"
	chroot "$1" systemctl --quiet enable skiff-tests.service
	chroot "$1" systemctl --quiet mask serial-getty@ttyS0.service apt-daily.timer apt-daily-upgrade.timer
	cp "$1"/boot/vmlinuz-* "$2/kernel" && cp "$1"/boot/initrd.img-* "$2/initrd"
	truncate -s 4G "$2/disk" && PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -F -d "$1" "$2/disk"
	truncate -s 64M "$2/second" && PATH=$PATH:/usr/sbin:/sbin mkfs.ext4 -q -F "$2/second"
	chmod a+rw "$2/disk" "$2/second" "$2/kernel" "$2/initrd"
' - "$root" "$work"

say "booting, for $minutes minutes at most"
status=0
timeout "${minutes}m" qemu-system-x86_64 -machine q35,accel="$accel" -cpu max -smp 2 -m 2048 -nic none -display none -monitor none -serial stdio -no-reboot \
	-kernel "$work/kernel" -initrd "$work/initrd" -append 'root=/dev/vda rw console=ttyS0 quiet systemd.unified_cgroup_hierarchy=1 systemd.show_status=false' \
	-drive file="$work/disk",format=raw,if=virtio,cache=unsafe -drive file="$work/second",format=raw,if=virtio,cache=unsafe </dev/null >"$work/log" 2>"$work/qemu" || status=$?
if ! grep -a -q '^== the scripts ended: 0' "$work/log"; then
	tail -n 4000 "$work/log"
	cat "$work/qemu" >&2
	[ $status != 124 ] || die "the machine did not end within $minutes minutes (VM_MINUTES)"
	die "the scripts failed in the machine"
fi
count() { grep -a -c -E "^ *--- $1" "$work/log" || true; }
grep -a '^== ' "$work/log" | tr -d '\r'
echo "$(count PASS) passed, $(count FAIL) failed, $(count SKIP) skipped"
