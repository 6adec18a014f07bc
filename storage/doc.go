// Package storage is the store of images: go.podman.io/storage (overlay) under <data>/storage, and beside it the index
// of package storage/image, which it keeps true. It says which images there are, and names and removes them; what moves images in and out
// is package pull, and how a container's writable layer is made is storage/layer.
//
// Its code runs in the engine, as root of the user's user namespace and in a mount namespace of its own. The front reads the
// index alone and links nothing of this.
//
// An image is in the store first and in the index second, and leaves the index first: whatever stands in the index can be
// run. Reconcile, at the end of every engine verb, repairs what a crash between the two left.
package storage
