package stage

import (
	"time"

	"github.com/skiff-containers/skiff/run/config"
)

// A control connection is a SOCK_SEQPACKET unix socket: one JSON message per packet, descriptors beside it (SCM_RIGHTS).
// The monitor listens on ctl.sock; a front that starts a monitor hands it one end of a socketpair as descriptor 3, which is
// the same kind of connection, with Start as its first request.
//
//	front                                        monitor
//	  |-- Request{Op: start|attach|exec|wait} + fds -->|   opens a conversation
//	  |<- Reply{Kind: started|failed|attached} --------|
//	  |-- Request{Op: signal|resize|detach} ---------->|   any number, no answer but an Error reply
//	  |<- Reply{Kind: exit} ---------------------------|   ends start, attach, exec, wait
//
//	  |<- Reply{Kind: parent, Network} + namespace ----|   before the answer to start or connect: a macvlan network's parent is
//	  |-- Request{Op: parent, Given|Error} ----------->|   not in the switch's network namespace; a front of root's can give it
//
//	  |<- Reply{Kind: port, Port} ---------------------|   before the answer to start: a port of the host that the switch may not
//	  |-- Request{Op: port, Given|Error} + socket ---->|   bind; a front with CAP_NET_BIND_SERVICE can
//
//	  |<- Reply{Kind: nic, NIC, Pid} ------------------|   before the answer to start: an interface on a bridge of the host's, for the
//	  |-- Request{Op: nic, Given|Error} -------------->|   namespace of a process, made by a set-uid program that works for the front only
//
//	  |-- Request{Op: stop|signal|resize|ping} ------->|   as the first request: answered by ok or error
//
// Closing the connection detaches: the container or exec goes on without it.

// Op is what a Request asks.
type Op string

// The operations.
const (
	OpStart  Op = "start"  // on descriptor 3 only
	OpAttach Op = "attach" // to the container's first process
	OpExec   Op = "exec"
	OpWait   Op = "wait" // for the container's end
	OpStop   Op = "stop" // Signal, then SIGKILL after Timeout; answered by exit
	// OpRestart is stop and another life by the same monitor, for a container whose end would remove it (--rm): answered by ok when that has begun, or error.
	OpRestart Op = "restart"
	OpSignal  Op = "signal"
	OpResize  Op = "resize"
	OpDetach  Op = "detach"
	OpPing    Op = "ping"
	// OpHold pauses the container until OpRelease, or until the connection ends; each is answered by ok or error.
	OpHold    Op = "hold"
	OpRelease Op = "release"
	// OpConnect and OpDisconnect change the networks of the running container; answered by ok or error.
	OpConnect Op = "connect"
	// OpUpdate changes the limits of the running container; answered by ok or error.
	OpUpdate     Op = "update"
	OpParent     Op = "parent" // answers Parent
	OpPort       Op = "port"   // answers Port; the socket comes along
	OpNIC        Op = "nic"    // answers NIC
	OpDisconnect Op = "disconnect"
)

// Request is what the front asks of a monitor.
type Request struct {
	Op Op `json:"op"`
	// Of start: which container, and the program that the switch is that gets addresses by DHCP and finds devices ("" when it needs none of these).
	ID     string `json:"id,omitzero"`
	Engine string `json:"engine,omitzero"`
	// Streams says which descriptors come along, in this order: of a non-terminal process the front's own standard streams, handed over; of a terminal
	// one a single stream socket (Tty) that carries both directions.
	Stdin  bool `json:"stdin,omitzero"`
	Stdout bool `json:"stdout,omitzero"`
	Stderr bool `json:"stderr,omitzero"`
	Tty    bool `json:"tty,omitzero"`
	// Logs asks attach to replay the log first.
	Logs    bool           `json:"logs,omitzero"`
	Signal  int            `json:"signal,omitzero"`
	Timeout time.Duration  `json:"timeout,omitzero"` // negative: for ever
	Rows    uint16         `json:"rows,omitzero"`
	Cols    uint16         `json:"cols,omitzero"`
	Exec    *Exec          `json:"exec,omitempty"`
	Place   *config.Place  `json:"place,omitempty"` // of connect and disconnect
	Old     *config.Limits `json:"old,omitempty"`   // of update: those that were in force
	Limits  *config.Limits `json:"limits,omitempty"`
	// Of parent and port: whether it was given; neither this nor an error when the front may not.
	Given bool   `json:"given,omitzero"`
	Error string `json:"error,omitzero"`
	Hint  string `json:"hint,omitzero"`
}

// Exec is a process to add to a running container.
type Exec struct {
	Args       []string `json:"args"`
	Env        []string `json:"env,omitzero"`
	User       string   `json:"user,omitzero"`
	Workdir    string   `json:"workdir,omitzero"`
	Privileged bool     `json:"privileged,omitzero"`
	Detach     bool     `json:"detach,omitzero"` // answered by started, nothing further
	Tty        bool     `json:"tty,omitzero"`
	Stdin      bool     `json:"stdin,omitzero"`
}

// Kind is what a Reply says.
type Kind string

// The replies.
const (
	Started  Kind = "started"
	Failed   Kind = "failed" // the conversation is over: Error, Code and Hint say why
	Attached Kind = "attached"
	Ok       Kind = "ok"
	Exit     Kind = "exit"
	Parent   Kind = "parent" // a question: Network
	Port     Kind = "port"   // a question: Port
	NIC      Kind = "nic"    // a question: NIC and Pid
)

// Reply is a monitor's answer.
type Reply struct {
	Kind  Kind   `json:"kind"`
	Error string `json:"error,omitzero"`
	Hint  string `json:"hint,omitzero"`
	// Warning is what the container goes without (started, ok).
	Warning string `json:"warning,omitzero"`
	// Code is the process's exit code (exit), or the command's (failed: 125, 126, 127).
	Code int `json:"code,omitzero"`
	Pid  int `json:"pid,omitzero"`
	// Network is the name of the one whose parent is asked for.
	Network string `json:"network,omitzero"`
	// Port is the one whose socket is asked for: its place on the host, of which there may be several to choose from.
	Port *config.Port `json:"port,omitempty"`
	// NIC is the interface that the network namespace of process Pid is to have.
	NIC *config.NIC `json:"nic,omitempty"`
}

// DevicesAnswer is what the stage Devices prints, in JSON.
type DevicesAnswer struct {
	Edits config.DeviceEdits `json:"edits,omitzero"`
	Error string             `json:"error,omitzero"`
	Hint  string             `json:"hint,omitzero"`
}
