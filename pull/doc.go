// Package pull moves images between the world and the store, both ways: pull, push, save, load, import, and logging in to registries.
// It owns go.podman.io/image: transports, signature policy, registries.conf, credentials. It prints nothing; progress is a
// stream of typed events, and what went wrong is an *Error of one line with a hint.
//
// Its code runs in the engine, as root of the user's user namespace. Nothing here holds the index's lock while the network
// is waited for.
package pull
