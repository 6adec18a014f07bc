// Package monitor is the process that owns one container: it takes the container's lock, mounts its layer, makes it with the runtime,
// copies its output to the log and to whoever is attached, serves its control socket, and writes down how it ended.
//
// All of it runs inside the user's user namespace, in a mount namespace of the monitor's own. The files follow the order of events:
//
//	monitor.go  Main: one life of the container, top to bottom
//	prepare.go  from record and image to the runtime's bundle
//	volumes.go  volumes made and filled
//	process.go  a process's streams: log, attached clients, terminal
//	server.go   control connections
package monitor
