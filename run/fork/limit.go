package fork

import (
	"errors"

	"golang.org/x/sys/unix"
)

// LimitError says that the kernel makes no more namespaces for this user. Its answer is ENOSPC, which elsewhere is a full disk, so this error is not that one.
type LimitError struct{}

func (*LimitError) Error() string {
	return "a limit of namespaces is reached (user.max_mnt_namespaces, user.max_net_namespaces or another of these)"
}

// HintText is what the user can do; commands print it on a line of its own.
func (*LimitError) HintText() string {
	return "end some containers, or raise it: see `sysctl -a -r user.max_` and `sudo sysctl user.max_net_namespaces=15000`"
}

// Limit puts the error of a call that makes namespaces (clone(2), unshare(2)) into words.
func Limit(err error) error {
	if errors.Is(err, unix.ENOSPC) {
		return &LimitError{}
	}
	return err
}
