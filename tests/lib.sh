# Shared by the scripts in this directory; sourced, never run.

# say prints a line about what is being done, on stderr.
say() { printf '== %s\n' "$*" >&2; }

# die prints a line and ends the script.
die() { printf 'skiff: %s\n' "$*" >&2; exit 1; }

# go may be installed where a login shell would have it and this one has not.
find_go() {
	# before a distribution's, which may be too old
	[ ! -x /usr/local/go/bin/go ] || PATH=/usr/local/go/bin:$PATH
	command -v go >/dev/null 2>&1 && export PATH && return
	for d in /usr/local/go/bin "$HOME/go/bin" /usr/lib/go/bin /usr/lib/go-1.26/bin; do
		[ -x "$d/go" ] && PATH=$PATH:$d && export PATH && return
	done
	return 1
}

# as_root runs a command as root, through sudo when we are not.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
		return $? # without a number it is, in a trap, the status from before
	fi
	command -v sudo >/dev/null 2>&1 || die "cannot run '$*' as root: sudo is not installed; run this as root, or install sudo"
	sudo "$@"
}

# test_user is who the program is tested as: whoever calls, unless that is root.
test_user() { if [ "$(id -u)" = 0 ]; then echo skiff-test; else id -un; fi; }
