# A host of one's own with a bridge lxcbr0, busybox's DHCP server and LXC's lxc-user-nic, to be read (.) by a shell that is root in a user namespace with more than one id, and has a mount and a network namespace:
# `unshare -Urmn --map-auto sh -e`. A copy of the program is set-uid root there. The host's user, tester, may have $ALLOWED interfaces, and calls skiff by `as skiff`; his files are in $box/home and $box/rt.
umask 022
box=$(mktemp -d /tmp/skXXXXXX)
end() {
	as skiff ps -aq 2>/dev/null | while read -r c; do as skiff rm -f $c >/dev/null 2>&1 || true; done
	[ -z "$server" ] || kill $server
	umount -l /usr/libexec/lxc /etc /run 2>/dev/null || true
	rm -rf $box || true
}
server=
trap end EXIT

# The host: its files, its bridge, its administrator.
mount -t sysfs sysfs /sys
cp -r /etc/passwd /etc/group /etc/nsswitch.conf /etc/hosts /etc/resolv.conf $box/ 2>/dev/null || true
cp /usr/libexec/lxc/lxc-user-nic /usr/bin/newuidmap /usr/bin/newgidmap $box/
mount -t tmpfs tmpfs /etc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /usr/libexec/lxc
cd $box; cp passwd group nsswitch.conf hosts resolv.conf /etc/ 2>/dev/null || true
mkdir -p /etc/lxc /usr/libexec/lxc/bin
cp lxc-user-nic /usr/libexec/lxc/; cp newuidmap newgidmap /usr/libexec/lxc/bin/
chmod 4755 /usr/libexec/lxc/lxc-user-nic /usr/libexec/lxc/bin/new?idmap
echo tester:x:4321:4321::/tmp:/bin/sh >>/etc/passwd
echo tester:x:4321: >>/etc/group
echo tester:10000:40000 >/etc/subuid
echo tester:10000:40000 >/etc/subgid
printf 'tester veth lxcbr0 %s\nroot veth lxcbr0 10\n' $ALLOWED >/etc/lxc/lxc-usernet
ip link set lo up
for b in lxcbr0 other0; do ip link add $b type bridge; ip link set $b up; done
ip addr add 10.66.3.1/24 dev lxcbr0
serve() { # FIRST LAST SECONDS
	[ -z "$server" ] || { kill $server; wait $server || true; }
	: >$box/leases
	printf 'start %s\nend %s\ninterface lxcbr0\nlease_file %s/leases\npidfile %s/pid\nmin_lease 2\noption lease %s\noption subnet 255.255.255.0\noption router 10.66.3.1\noption dns 10.66.3.1\noption domain lxc.example\nstatic_lease 02:00:00:00:00:77 10.66.3.77\n' \
		$1 $2 $box $box $3 >$box/conf
	busybox udhcpd -f -a 50 $box/conf 2>>$box/log & server=$!
}

# Its user.
mkdir -m 700 $box/home $box/rt
chown -R 4321:4321 $box/home $box/rt
chmod 711 $box
cp $WORK/busybox.tar $box/busybox.tar
as="setpriv --reuid=4321 --regid=4321 --clear-groups --inh-caps=-all env PATH=/usr/libexec/lxc/bin:$PATH HOME=$box/home XDG_DATA_HOME=$box/home/share XDG_RUNTIME_DIR=$box/rt"
as() { $as "$@"; }
cd /
as skiff load -q -i $box/busybox.tar >/dev/null
