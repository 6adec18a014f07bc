// Package oci is the container runtime: an OCI runtime spec goes in, a process in its own namespaces comes out.
//
// Its code runs in a process that is root in the user's user namespace and has a mount namespace of its own (the monitor; the
// engine during a build). What the container's first process has to do before it executes the payload is compiled
// into a list of system calls (package run/fork) and interpreted by the forked child; no program of ours runs
// inside a container. The files follow the order of events:
//
//	create.go      Native.Create: opens what must be opened outside, forks, waits until the child is ready
//	plan.go        the whole life of the first process, top to bottom, as a list of steps
//	namespaces.go  which are new, which are joined
//	mount.go       one mount: its file system or source, its target beneath the root, its attributes
//	rootfs.go      root, devices, masks, read-only paths, pivot
//	process.go     what init and exec'd processes have in common: limits, ids, capabilities, seccomp, execve
//	enter.go       Exec: one more process in a living container
//
// Every path that an image or a container can influence is resolved beneath the root's descriptor with openat2(2) and
// without magic links; mounts go to descriptors, not to paths (CVE-2021-30465, CVE-2025-31133, CVE-2025-52881).
package oci
