// Package fork starts processes that are nothing but a list of system calls.
//
// A Go process has threads, and a process with threads may not join a user namespace, nor can its child between
// fork(2) and execve(2) run Go code: the scheduler, the allocator and the stacks belong to threads that the child does not have.
// What the child can do is system calls, with memory that was laid out before. So whatever a child has to
// do (join namespaces, mount, change its root, drop capabilities, execute) is written down first as a Program, a
// list of calls with their arguments, and the forked child interprets that list: one loop, no allocation, no Go
// function called but the raw system call. A step that fails is reported to the parent by its number, and the
// parent, which has the words, turns it into an error.
//
// This is faster than executing ourselves again in a second guise (no second program start), and it means that no
// program of ours is ever executed inside a container: there is nothing there to overwrite (CVE-2019-5736).
//
// The rules of the fork are those of the standard library's own (syscall.forkAndExecInChild1): ForkLock held, the runtime's
// hooks before and after called by linkname, raw system calls only. Nothing else in the project does anything of the sort.
package fork
