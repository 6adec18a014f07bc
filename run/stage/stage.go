// Package stage is the table of the lives this program leads besides the command line: which life the process is,
// and the messages that two of them exchange.
package stage

// Names of stages: they are argv[0] of the process.
const (
	Monitor = "skiff-monitor" // argv: data and runtime directories; descriptor 3 a control connection. Inside the user namespace, own mount namespace.
	Engine  = "skiff-engine"  // argv[1:] a command line. Inside the user namespace.
	Switch  = "skiff-switch"  // serves the networks of a user (netns/switch), an engine. Inside the user namespace.
	Devices = "skiff-devices" // argv[1:] names of devices (run/cdi), an engine. Prints a DevicesAnswer. Inside the user namespace, a child of a monitor.
	DHCP    = "skiff-dhcp"    // gets, renews or gives back an address by DHCP (netns/dhcp), an engine. Reads a LeaseQuestion, prints a LeaseAnswer; descriptor 3 is a network namespace. Inside the user namespace, a child of a monitor.
	OCI     = "skiff-oci-in"  // argv[1]: a descriptor. Makes something in a container of the OCI command line (run/bundle), in its user namespace.
	Sweep   = "skiff-sweep"   // deletes what is retired. Inside the user namespace.
)
