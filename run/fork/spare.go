package fork

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Go's runtime starts threads whenever it likes, the first before main, and when the kernel refuses one (RLIMIT_NPROC) it prints some hundred lines of its own and ends
// the process. So room is made sure of beforehand, where that limit is low: the program is entered here (entry, the linker's -E in the Makefile), which tries a few
// processes before Go has begun (and refuses a limit of open files that Go cannot begin with); what starts further processes of ours asks Spare. Without -E there is only the latter.

// low is what a limit of processes is taken seriously up to: entry's figure, too. Distributions have 4096 and more, where a look would cost each command a millisecond.
const low = 1024

// most is how many children the routine in assembly has room for.
const most = 64

//nolint:unused // the linker's -E names it
func entry()

// spare makes n processes and ends them again; 0 says that there was no room for so many. They are forked without a signal at their end and do nothing.
//
//go:noescape
func spare(n int) int

// trying lets one look at a time have the memory that the children's ids are kept in.
var trying sync.Mutex

// ProcessesError says that the user may have no more processes.
type ProcessesError struct{ What string }

func (e *ProcessesError) Error() string {
	return fmt.Sprintf("cannot start %s: the limit of processes is reached", e.What)
}

// HintText is what the user can do; commands print it on a line of its own.
func (e *ProcessesError) HintText() string { return "end some, or raise it (ulimit -u)" }

// Spare makes sure that n more processes can be had, threads among them, for what is named. It looks only where the limit is so low that it may matter.
func Spare(n int, what string) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &limit); err != nil || limit.Cur > low {
		return nil //nolint:nilerr // whoever cannot ask finds out
	}
	trying.Lock()
	defer trying.Unlock()
	if spare(min(n, most)) == 0 {
		return &ProcessesError{what}
	}
	return nil
}
