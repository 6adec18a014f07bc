// Package netns is what skiff knows of networks: their types, the files that hold them, and who has which address.
//
// A network is a file under <data>/networks; an address that is in use is a file under <runtime>/net, and it is in use for as long as somebody holds the lock
// that its file names (the container's alive lock). So what a killed process leaves is free again without any repair, and nothing here has to run.
//
// It makes no interface, opens no socket and links no netlink: bridges are package netns/switch's, and each other driver has its folder. It runs in any process:
// the front makes and lists networks, a monitor allocates addresses, the switch reads both.
package netns
