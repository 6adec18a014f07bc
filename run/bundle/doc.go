// Package bundle is the life of a container by the OCI runtime command line: create, start, state, kill, delete, exec, each a process of its own that ends before the
// container does. Nothing watches over the container: what is known of it is in a directory of its own, and who made it waits for it.
//
//	ROOT/ID/  lock (held while somebody changes it)   config.json (the spec as it was at create)   state.json   start (a socket, until the container is started)
//
// A process that makes something in the container (create, exec, hooks) is started in the container's user namespace, as root there with a mount namespace of its own, through a
// read-only copy of the program's mount: inside.go is that life. It is the in-house runtime, run/oci, that makes containers; what a spec asks and it cannot do is refused by name (check.go).
//
// Nothing here prints, and nothing is read of skiff's own containers, images and networks.
package bundle
