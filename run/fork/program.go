package fork

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Slot is a place for a result of one call that later calls take as an argument (mostly descriptors).
type Slot int32

// noSlot says that a call's result is not kept.
const noSlot Slot = -1

const maxSlots = 64

// Arg is an argument of a call: a number, the value of a slot, or the address of memory that the Program keeps.
type Arg struct {
	value uintptr
	slot  Slot
}

// Int is a plain number.
func Int[T ~int | ~int32 | ~int64 | ~uint | ~uint32 | ~uint64 | ~uintptr](n T) Arg {
	return Arg{value: uintptr(n), slot: noSlot}
}

// Cwd is AT_FDCWD.
func Cwd() Arg { return Int(unix.AT_FDCWD) }

// kind says how the interpreter treats a step.
type kind uint8

const (
	kindCall  kind = iota
	kindStore      // write a slot's value to memory, as an int32
	kindExec       // execve; some failures let the next step be tried
	kindInit       // fork; the parent stays as a small init
)

// step is one element of a Program. The child reads it and writes nothing but slots and declared buffers.
type step struct {
	kind kind
	nr   uintptr
	args [6]Arg
	out  Slot
	// allow are errors that are no failure: the step then counts as done, and skipErr further steps are passed over.
	allow   [3]unix.Errno
	skipErr int32
	// skipOK steps are passed over when the call succeeded.
	skipOK int32
	// short, when not zero, is the least result that is a success (a read that must have read something).
	short uintptr
	retry bool   // on EINTR
	to    *int32 // of kindStore
	what  string
}

// Program is a list of system calls to be done by a forked child. It is built by one goroutine, run once.
type Program struct {
	steps []step
	slots [maxSlots]uintptr
	used  Slot
	keep  []any // memory that steps point to
	// The child's own memory: its error report, and what init works with.
	report  [2]uint32
	sigset  uint64
	oldset  uint64
	siginfo [128]byte
	status  int32
	// What init is called: title over the words of our command line, which are args at argv.
	title []byte
	argv  unsafe.Pointer
}

// Slot reserves a place for a result.
func (p *Program) Slot() Slot {
	if p.used == maxSlots {
		panic("fork: out of slots")
	}
	p.used++
	return p.used - 1
}

// Value is an Arg that reads a slot.
func (s Slot) Value() Arg { return Arg{slot: s} }

// Len is the number of steps so far.
func (p *Program) Len() int { return len(p.steps) }

// Words are what the steps from the first-th on are called; those before have no words. They are for Adopt.
func (p *Program) Words(first int) []string {
	words := make([]string, len(p.steps))
	for i := first; i < len(p.steps); i++ {
		words[i] = p.steps[i].what
	}
	return words
}

// Str is the address of a NUL-terminated copy of s. A string with a NUL in it is cut there, so callers refuse those first.
func (p *Program) Str(s string) Arg {
	b := make([]byte, len(s)+1)
	copy(b, s)
	return p.Bytes(b)
}

// Bytes is the address of b, which must not be changed afterwards.
func (p *Program) Bytes(b []byte) Arg {
	if len(b) == 0 {
		b = make([]byte, 1)
	}
	p.keep = append(p.keep, b)
	return Arg{value: uintptr(unsafe.Pointer(&b[0])), slot: noSlot}
}

// Pointer is the address of *v, which is kept.
func Pointer[T any](p *Program, v *T) Arg {
	p.keep = append(p.keep, v)
	return Arg{value: uintptr(unsafe.Pointer(v)), slot: noSlot}
}

// Strings is the address of a NULL-terminated array of strings, as execve(2) wants it.
func (p *Program) Strings(ss []string) Arg {
	array := make([]uintptr, len(ss)+1)
	for i, s := range ss {
		array[i] = p.Str(s).value
	}
	p.keep = append(p.keep, array)
	return Arg{value: uintptr(unsafe.Pointer(&array[0])), slot: noSlot}
}

// Call adds a system call. what names it in an error: "mount /proc".
func (p *Program) Call(what string, nr uintptr, args ...Arg) Step {
	s := step{nr: nr, what: what, out: noSlot}
	for i := range s.args {
		s.args[i] = Int(0)
	}
	copy(s.args[:], args)
	p.steps = append(p.steps, s)
	return Step{p, len(p.steps) - 1}
}

// Store adds a step that writes a slot's value to *to.
func (p *Program) Store(s Slot, to *int32) {
	p.Call("", 0, s.Value())
	last := &p.steps[len(p.steps)-1]
	last.kind, last.to = kindStore, to
}

// Exec adds an attempt to execute path. On ENOENT, ENOTDIR and EACCES the next step is tried; the last attempt should be followed by
// nothing: the error then reported is EACCES if any attempt met it, else the last one.
func (p *Program) Exec(path string, argv, envv Arg) {
	p.Call("exec", unix.SYS_EXECVE, p.Str(path), argv, envv)
	p.steps[len(p.steps)-1].kind = kindExec
}

// Init adds a step that forks once more: the child goes on with the next step, the parent stays as init: it reaps whatever dies, passes the
// signals it gets on to the child, and ends with the child's status. It is called name: it never executes anything, and the command line that it has from us names
// directories of the host. Not for a child that borrows our memory.
func (p *Program) Init(name string) {
	p.Call("name init", unix.SYS_PRCTL, Int(unix.PR_SET_NAME), p.Str(name), Int(0), Int(0), Int(0))
	p.Call("fork for init", unix.SYS_CLONE, Int(unix.SIGCHLD))
	p.steps[len(p.steps)-1].kind = kindInit
	p.sigset = ^uint64(0)
	if argv, n := commandLine(os.Args); n > len(name) {
		p.argv, p.title = argv, make([]byte, n)
		copy(p.title, name)
	}
}

// commandLine is where the words of the command line are, which the kernel has put behind one another, and how many bytes they have with their ends; none when they are not
// where they came.
func commandLine(args []string) (unsafe.Pointer, int) {
	if len(args) == 0 {
		return nil, 0
	}
	first := unsafe.Pointer(unsafe.StringData(args[0]))
	n := 0
	for _, a := range args {
		if a == "" || unsafe.Pointer(unsafe.StringData(a)) != unsafe.Add(first, n) {
			return nil, 0
		}
		n += len(a) + 1
	}
	return first, n
}

// Step refines a call that was added.
type Step struct {
	p *Program
	i int
}

func (s Step) step() *step { return &s.p.steps[s.i] }

// To keeps the result in a slot.
func (s Step) To(slot Slot) Step { s.step().out = slot; return s }

// Allow makes up to three errors no failure.
func (s Step) Allow(errs ...unix.Errno) Step { copy(s.step().allow[:], errs); return s }

// SkipOnError passes over n steps after an allowed error.
func (s Step) SkipOnError(n int) Step { s.step().skipErr = int32(n); return s }

// SkipOnSuccess passes over n steps after a success.
func (s Step) SkipOnSuccess(n int) Step { s.step().skipOK = int32(n); return s }

// AtLeast makes a smaller result a failure (EPIPE), and repeats the call when a signal interrupts it.
func (s Step) AtLeast(n int) Step { s.step().short = uintptr(n); s.step().retry = true; return s }

// Error is a step that failed in the child.
type Error struct {
	What  string
	Errno unix.Errno
}

func (e *Error) Error() string { return fmt.Sprintf("cannot %s: %v", e.What, e.Errno) }

// Unwrap gives the errno.
func (e *Error) Unwrap() error { return e.Errno }
