#!/bin/bash
# Makes a Debian or Ubuntu machine ready to build and run skiff ("run") or to test it as well ("test"). Says each thing it does; does
# nothing that is done already. Elsewhere it says what to install.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/lib.sh
what=${1:-test}

# Commands and the Debian packages that bring them.
need_run='newuidmap:uidmap busybox:busybox-static tar:tar git:git make:make'
need_test='/usr/libexec/lxc/lxc-user-nic:liblxc-common docker-registry:docker-registry mmdebstrap:mmdebstrap fuse-overlayfs:fuse-overlayfs runc:runc crun:crun dpkg-deb:dpkg setpriv:util-linux slirp4netns:slirp4netns pasta:passt ps:procps ip:iproute2 nft:nftables dbus-daemon:dbus podman:podman conmon:conmon bwrap:bubblewrap unshare:util-linux skopeo:skopeo ssh-agent:openssh-client'
optional_bench='bwrap:bubblewrap'

missing() {
	local pair
	for pair in $1; do
		PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null 2>&1 || echo "${pair#*:}"
	done
}

# the container's busybox must be static: a plain Debian busybox is not enough
static_busybox() { ! ldd "$(command -v busybox)" 2>/dev/null | grep -q '=>'; }

apt_install() {
	say "installing $*"
	export DEBIAN_FRONTEND=noninteractive
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" </dev/null >"$log" 2>&1 && return
	say "updating the package lists"
	as_root apt-get update -q </dev/null >"$log" 2>&1 || { tail -n 5 "$log" >&2; die "cannot update the package lists"; }
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" </dev/null >"$log" 2>&1 ||
		{ tail -n 5 "$log" >&2; return 1; }
}

packages() {
	local list
	list=$(missing "$need_run")
	[ "$what" != test ] || list="$list $(missing "$need_test")"
	if command -v busybox >/dev/null 2>&1 && ! static_busybox; then list="$list busybox-static"; fi
	list=$(echo $list)
	if [ -n "$list" ]; then
		command -v apt-get >/dev/null 2>&1 || die "missing: $list (Debian's names). Install them with your package manager and try again"
		# shellcheck disable=SC2086
		apt_install $list || die "cannot install $list"
	fi
	if [ "$what" = bench ]; then
		list=$(echo $(missing "$optional_bench"))
		if [ -n "$list" ] && command -v apt-get >/dev/null 2>&1; then
			# shellcheck disable=SC2086
			apt_install $list || say "cannot install $list: they will be left out of the comparison"
		fi
	fi
}

# newer_go puts the version that go.mod names into /usr/local/go. Distributions' own may be older than 1.21, which would fetch it by itself; as a module any Go can
# download it, checked against the checksum database.
newer_go() {
	local want dir
	want=go$(sed -n 's/^go //p' go.mod)
	[ ! -e /usr/local/go ] || die "Go 1.$1 is too old to build skiff: install $want from https://go.dev/dl/ into /usr/local/go and try again"
	say "Go 1.$1 is too old: fetching $want into /usr/local/go"
	(cd / && GO111MODULE=on GOFLAGS=-mod=mod go mod download -json "golang.org/toolchain@v0.0.1-$want.linux-$(go env GOARCH)" >"$log" 2>&1) || true
	dir=$(sed -n 's/^\s*"Dir": "\(.*\)".*/\1/p' "$log")
	[ -d "$dir" ] || { grep Error "$log" >&2 || true; die "cannot fetch $want: install it from https://go.dev/dl/ into /usr/local/go and try again"; }
	as_root cp -r "$dir" /usr/local/go
	as_root sh -c 'chmod -R u+w,a+rX /usr/local/go && chmod 755 /usr/local/go/bin/* /usr/local/go/pkg/tool/*/*' # modules carry no modes
	find_go && [ "$(cd / && GOTOOLCHAIN=local go env GOVERSION)" = "$want" ] || die "cannot use the $want that was fetched into /usr/local/go"
}

# Go 1.21 and later fetch the version that go.mod names by themselves.
toolchain() {
	local version
	if ! find_go; then
		command -v apt-get >/dev/null 2>&1 || die "Go is missing: install it from https://go.dev/dl/ (1.21 or later) and try again"
		apt_install golang-go ca-certificates || die "Go is missing: install it from https://go.dev/dl/ (1.21 or later) and try again"
		find_go || die "Go is missing: install it from https://go.dev/dl/ (1.21 or later) and try again"
	fi
	version=$(cd / && GOTOOLCHAIN=local go env GOVERSION | sed 's/^go1\.\([0-9]*\).*/\1/')
	[ "${version:-0}" -ge 21 ] || newer_go "$version"
	[ -f go.mod ] && go version >/dev/null || die "cannot use Go: it is older than go.mod asks for and cannot fetch a newer one; install it from https://go.dev/dl/"
}

# On ordinary distributions udev opens these two to everybody.
devices() {
	local d
	for d in /dev/fuse /dev/net/tun; do
		if [ -c $d ] && [ "$(stat -c %a $d)" != 666 ]; then
			say "opening $d to every user"
			as_root chmod 666 $d
		fi
	done
}

# subordinate ids for a user: 65536 after the highest that is taken
subordinate_ids() {
	local user=$1 file next
	for file in /etc/subuid /etc/subgid; do
		grep -q "^\($user\|$(id -u "$user")\):" $file 2>/dev/null && continue
		if command -v getsubids >/dev/null 2>&1; then
			if [ $file = /etc/subuid ]; then getsubids "$user" >/dev/null 2>&1 && continue; else getsubids -g "$user" >/dev/null 2>&1 && continue; fi
		fi
		next=$(cat /etc/subuid /etc/subgid 2>/dev/null | awk -F: '$2+$3>n{n=$2+$3} END{print n<100000?100000:n}')
		say "adding $user:$next:65536 to $file"
		echo "$user:$next:65536" | as_root tee -a $file >/dev/null
	done
}

user() {
	local user
	user=$(test_user)
	if [ "$(id -u)" = 0 ]; then
		[ "$what" != run ] || return 0 # root runs its containers itself
		if ! id "$user" >/dev/null 2>&1; then
			say "making the user $user, who runs the tests"
			useradd --create-home --shell /bin/bash "$user"
		fi
	fi
	subordinate_ids "$user"
}

# Ubuntu 24.04 and later let only programs with an AppArmor profile make user namespaces.
userns() {
	local f=/proc/sys/kernel/unprivileged_userns_clone
	if [ -f $f ] && [ "$(cat $f)" = 0 ]; then
		say "allowing unprivileged user namespaces (kernel.unprivileged_userns_clone=1)"
		as_root sysctl -q -w kernel.unprivileged_userns_clone=1
	fi
	f=/proc/sys/kernel/apparmor_restrict_unprivileged_userns
	if [ -f $f ] && [ "$(cat $f)" = 1 ]; then
		say "lifting AppArmor's restriction of user namespaces until the next boot (kernel.apparmor_restrict_unprivileged_userns=0)"
		as_root sysctl -q -w kernel.apparmor_restrict_unprivileged_userns=0
	fi
}

# systemd lets everybody ping by sockets of their own; containers ping through one.
pings() {
	local f=/proc/sys/net/ipv4/ping_group_range
	[ "$what" = test ] || return 0
	if [ "$(cat $f | tr '\t' ' ')" = '1 0' ]; then
		say "letting every user ping until the next boot (net.ipv4.ping_group_range=0 2147483647)"
		as_root sh -c "echo '0 2147483647' >$f" 2>/dev/null || say "cannot: pinging will not be tested"
	fi
}

# Control groups for the tests of limits, as systemd hands them to users: /skiff-tests-USER in every hierarchy (v1, hybrid), or a subtree (v2).
cgroups() {
	local owner dir c root=/sys/fs/cgroup
	owner=$(test_user)
	[ "$what" = test ] || return 0
	if [ -f $root/cgroup.controllers ]; then
		set -- "$root/skiff-tests-$owner"
		as_root sh -c "echo '+memory +pids +cpu' >$root/cgroup.subtree_control" 2>/dev/null || true
	else
		set --
		for c in pids memory cpu cpuset unified; do
			[ ! -d $root/$c ] || set -- "$@" "$root/$c/skiff-tests-$owner"
		done
	fi
	for dir; do
		[ "$(stat -c %U "$dir" 2>/dev/null)" != "$owner" ] || continue
		say "handing the control group $dir to $owner"
		as_root sh -c 'mkdir -p "$1" && chown -R "$2" "$1"' - "$dir" "$owner" 2>/dev/null || { say "cannot: limits will not be tested there"; continue; }
		case $dir in
		*/cpuset/*) for c in cpuset.cpus cpuset.mems; do as_root sh -c 'cat "$1/../$2" >"$1/$2"' - "$dir" $c; done ;;
		esac
	done
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
packages
toolchain
user
devices
userns
pings
cgroups
