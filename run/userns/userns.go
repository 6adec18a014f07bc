// Package userns makes and joins the user's user namespace.
package userns

import "os"

// Child is a process started inside the user's user namespace with a mount namespace of its own.
type Child struct {
	Process *os.Process
}

// Options of Start.
type Options struct {
	Path  string     // the program
	Args  []string   // argv, argv[0] is the stage's name
	Env   []string   // nil is the parent's
	Files []*os.File // descriptors 0, 1, 2, 3, ... of the child
	Dir   string
	// Setsid puts the child in a session of its own.
	Setsid bool
	// RunDir is the runtime directory (record.Store.Run): where living members are looked for, and the lock that makes making exclusive.
	RunDir string
	// Member says that the child will announce itself as a member (a monitor): the namespace's lock is handed to it as its last descriptor (len(Files)).
	Member bool
	// SameMounts leaves the child in a copy ... (always a new mount namespace)
}

// Start joins the user's user namespace if any member lives, else makes it, and executes the program inside as root of it.
func Start(o Options) (*Child, error) { panic("stub") }
