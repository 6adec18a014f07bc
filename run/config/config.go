// Package config is what a user asks of a container: one struct of plain data, written to disk as given and
// read by every command, and the grammars of the values people type (mounts, ports, sizes, ulimits, ...).
//
// It knows nothing of images, files or namespaces: what an image adds, and what the two make together, is
// package run/spec's. It runs in any process.
package config

import (
	"reflect"
	"strings"
	"time"
)

// Version is the version of Config's JSON form. Readers accept it and older ones.
const Version = 1

// Config is everything a user asks of a container, and nothing that can be derived. The zero value of each
// field means "not asked": the image's value or the default applies. It is stored verbatim with the container.
type Config struct {
	Version int `json:"version"`

	// Image is the image as the user wrote it; the record holds what it resolved to.
	Image string `json:"image,omitzero"`
	// Command is the words after the image; nil means the image's CMD.
	Command []string `json:"command,omitzero"`
	// Entrypoint replaces the image's ENTRYPOINT (and then its CMD is not used). Empty but non-nil: none.
	Entrypoint []string `json:"entrypoint,omitempty"`
	// ClearEntrypoint is `--entrypoint ""`: the image's entrypoint is dropped.
	ClearEntrypoint bool `json:"clear_entrypoint,omitzero"`

	// Env holds NAME=VALUE, in order, later ones win; files and host look-ups are already resolved.
	Env []string `json:"env,omitzero"`
	// UnsetEnv names variables of the image to drop (`-e NAME` where the host has no NAME drops nothing).
	UnsetEnv    []string          `json:"unset_env,omitzero"`
	Labels      map[string]string `json:"labels,omitzero"`
	Annotations map[string]string `json:"annotations,omitzero"`

	User     string   `json:"user,omitzero"` // user[:group], names or numbers
	GroupAdd []string `json:"group_add,omitzero"`
	Workdir  string   `json:"workdir,omitzero"`
	Umask    string   `json:"umask,omitzero"` // octal, default 0022

	Tty         bool     `json:"tty,omitzero"`
	Interactive bool     `json:"interactive,omitzero"` // keep standard input open
	Detach      bool     `json:"detach,omitzero"`
	Attach      []string `json:"attach,omitzero"` // of stdin, stdout, stderr
	DetachKeys  string   `json:"detach_keys,omitzero"`

	Hostname   string `json:"hostname,omitzero"`
	Domainname string `json:"domainname,omitzero"`

	// Network is host, none, container:<id>, or the name of the first of the networks, as asked for; "" is the default network.
	Network    string   `json:"network,omitzero"`
	Places     []Place  `json:"places,omitzero"` // all networks of a bridged container; none is the default network alone
	AddHost    []Host   `json:"add_host,omitzero"`
	DNS        []string `json:"dns,omitzero"`
	DNSSearch  []string `json:"dns_search,omitzero"`
	DNSOptions []string `json:"dns_options,omitzero"`
	Ports      []Port   `json:"ports,omitzero"`
	Expose     []string `json:"expose,omitzero"` // 80/tcp, 7000-7010/udp
	PublishAll bool     `json:"publish_all,omitzero"`

	Pid      string `json:"pid,omitzero"`      // "", private, host, container:<id>
	IPC      string `json:"ipc,omitzero"`      // "", private, shareable, host, none, container:<id>
	UTS      string `json:"uts,omitzero"`      // "", private, host
	Cgroupns string `json:"cgroupns,omitzero"` // "", private, host
	Userns   string `json:"userns,omitzero"`   // "" or host (of skiff's own user namespace)

	Mounts      []Mount  `json:"mounts,omitzero"` // from -v, --mount and --tmpfs
	VolumesFrom []string `json:"volumes_from,omitzero"`
	ReadOnly    bool     `json:"read_only,omitzero"`
	ShmSize     int64    `json:"shm_size,omitzero"` // bytes, default 64 MiB

	CapAdd     []string          `json:"cap_add,omitzero"`
	CapDrop    []string          `json:"cap_drop,omitzero"`
	Privileged bool              `json:"privileged,omitzero"`
	Security   Security          `json:"security,omitzero"`
	Devices    []Device          `json:"devices,omitzero"`
	CDI        []string          `json:"cdi,omitzero"` // devices by the names of the Container Device Interface, see DeviceEdits
	Sysctls    map[string]string `json:"sysctls,omitzero"`

	Limits  Limits   `json:"limits,omitzero"`
	Ulimits []Ulimit `json:"ulimits,omitzero"`

	Init          bool              `json:"init,omitzero"`
	Remove        bool              `json:"remove,omitzero"` // --rm
	StopSignal    string            `json:"stop_signal,omitzero"`
	StopTimeout   *int              `json:"stop_timeout,omitempty"` // seconds; nil is 10
	Restart       Restart           `json:"restart,omitzero"`
	LogDriver     string            `json:"log_driver,omitzero"` // local (default), json-file, none
	LogOptions    map[string]string `json:"log_options,omitzero"`
	Runtime       string            `json:"runtime,omitzero"` // "" is skiff's own; crun, runc or a path
	Platform      string            `json:"platform,omitzero"`
	CgroupParent  string            `json:"cgroup_parent,omitzero"`
	StorageDriver string            `json:"storage_driver,omitzero"` // "", overlay, fuse-overlayfs, vfs
	Health        Health            `json:"health,omitzero"`
}

// Host is one --add-host entry. IP may be the word host-gateway.
type Host struct {
	Name string `json:"name"`
	IP   string `json:"ip"`
}

// Place is one network that a container is to be on, and what was asked for there.
type Place struct {
	Network string   `json:"network"`
	Aliases []string `json:"aliases,omitzero"`
	IPv4    string   `json:"ipv4,omitzero"`
	IPv6    string   `json:"ipv6,omitzero"`
	MAC     string   `json:"mac,omitzero"`
	Links   []string `json:"links,omitzero"` // CONTAINER:ALIAS
	// Priority decides whose gateway is the default route: the highest, then the first.
	Priority int `json:"priority,omitzero"`
}

// NoNetwork is the word of --network for a network namespace with nothing but loopback.
const NoNetwork = "none"

// Bridged says whether the container is on networks that the switch serves.
func (c *Config) Bridged() bool {
	helper, _ := c.UserMode()
	_, nic := c.NIC()
	return helper == "" && !nic && c.Network != NoNetwork && c.Network != "host" && !strings.HasPrefix(c.Network, "container:")
}

// The user-mode networks that a program of that name brings.
const (
	Slirp = "slirp4netns"
	Pasta = "pasta"
)

// UserMode is the program that connects a container of --network slirp4netns[:OPTION,...] or pasta[:OPTION,...], with its options; "" when none does.
func (c *Config) UserMode() (helper string, options []string) {
	name, rest, _ := strings.Cut(c.Network, ":")
	if name != Slirp && name != Pasta {
		return "", nil
	}
	if rest != "" {
		options = strings.Split(rest, ",")
	}
	return name, options
}

// Port is one published port or port range (Count ports from each of Container and Host). Host 0 means any free one.
type Port struct {
	Container uint16 `json:"container"`
	Host      uint16 `json:"host,omitzero"`
	HostEnd   uint16 `json:"host_end,omitzero"` // last host port of a range to choose one from
	Count     uint16 `json:"count,omitzero"`    // 0 is 1
	Protocol  string `json:"protocol"`          // tcp, udp, sctp
	HostIP    string `json:"host_ip,omitzero"`
}

// MountType says what a Mount mounts.
type MountType string

// The mount types of --mount.
const (
	MountBind   MountType = "bind"
	MountVolume MountType = "volume"
	MountTmpfs  MountType = "tmpfs"
)

// Mount is one -v, --mount or --tmpfs.
type Mount struct {
	Type MountType `json:"type"`
	// Source is an absolute host path (bind) or a volume's name ("" makes an anonymous volume).
	Source string `json:"source,omitzero"`
	Target string `json:"target"`
	// Subpath is a path inside the volume.
	Subpath  string `json:"subpath,omitzero"`
	ReadOnly bool   `json:"read_only,omitzero"`
	// NonRecursive is bind-recursive=disabled; ReadOnlyNonRecursive is bind-recursive=writable.
	NonRecursive         bool `json:"non_recursive,omitzero"`
	ReadOnlyNonRecursive bool `json:"read_only_non_recursive,omitzero"`
	// Create makes a missing bind source (the -v spelling does, --mount does not).
	Create      bool   `json:"create,omitzero"`
	NoCopy      bool   `json:"no_copy,omitzero"`     // do not fill a new volume from the image
	Propagation string `json:"propagation,omitzero"` // rprivate (default), private, rslave, slave, rshared, shared
	Exec        *bool  `json:"exec,omitempty"`
	Suid        *bool  `json:"suid,omitempty"`
	Dev         *bool  `json:"dev,omitempty"`
	Size        int64  `json:"size,omitzero"` // tmpfs: bytes
	Mode        uint32 `json:"mode,omitzero"` // tmpfs: permission bits
	// Options are further tmpfs options as typed (uid=, gid=, nr_inodes=).
	Options       []string          `json:"options,omitzero"`
	Driver        string            `json:"driver,omitzero"`
	Labels        map[string]string `json:"labels,omitzero"` // of a volume made by this mount
	DriverOptions map[string]string `json:"driver_options,omitzero"`
}

// Security is what --security-opt asks.
type Security struct {
	NoNewPrivileges bool `json:"no_new_privileges,omitzero"`
	// Seccomp is "" (the default profile), unconfined, or the profile's JSON text itself (already read).
	Seccomp     string   `json:"seccomp,omitzero"`
	SeccompPath string   `json:"seccomp_path,omitzero"` // where the text came from, for inspect
	Unmask      []string `json:"unmask,omitzero"`       // ALL or paths
	Mask        []string `json:"mask,omitzero"`
}

// Device is one --device.
type Device struct {
	Host        string `json:"host"`
	Container   string `json:"container"`
	Permissions string `json:"permissions,omitzero"` // rwm
}

// Limits are resources of the control group; zero means unlimited. A limit that cannot be applied fails the command.
type Limits struct {
	Memory            int64  `json:"memory,omitzero"`      // bytes
	MemorySwap        int64  `json:"memory_swap,omitzero"` // bytes, memory and swap together; -1 unlimited
	MemoryReservation int64  `json:"memory_reservation,omitzero"`
	MemorySwappiness  *int64 `json:"memory_swappiness,omitempty"`
	NanoCPUs          int64  `json:"nano_cpus,omitzero"` // 1e9 is one processor
	CPUShares         uint64 `json:"cpu_shares,omitzero"`
	CPUPeriod         uint64 `json:"cpu_period,omitzero"` // microseconds
	CPUQuota          int64  `json:"cpu_quota,omitzero"`  // microseconds
	CPUSetCPUs        string `json:"cpuset_cpus,omitzero"`
	CPUSetMems        string `json:"cpuset_mems,omitzero"`
	Pids              int64  `json:"pids,omitzero"`
	BlkioWeight       uint16 `json:"blkio_weight,omitzero"`
	// Block are limits of single disks.
	Block []BlockLimit `json:"block,omitempty"`
	// HugePages are limits of huge pages, SIZE=BYTES,... (2MB=4194304). No flag of ours sets them, the OCI command line does.
	HugePages      string `json:"huge_pages,omitzero"`
	OOMScoreAdj    *int   `json:"oom_score_adj,omitempty"`
	OOMKillDisable bool   `json:"oom_kill_disable,omitzero"`
}

// The limits of a disk, which are called as the flags are.
const (
	ReadBps      = "device-read-bps"
	WriteBps     = "device-write-bps"
	ReadIOps     = "device-read-iops"
	WriteIOps    = "device-write-iops"
	DeviceWeight = "blkio-weight-device"
)

// BlockLimit is a limit of one disk: bytes or operations a second, or its weight (10 to 1000).
type BlockLimit struct {
	Flag  string `json:"flag"`
	Path  string `json:"path"` // of its node, or MAJOR:MINOR
	Value uint64 `json:"value"`
}

// Equal says that two are the same.
func (l Limits) Equal(other Limits) bool { return reflect.DeepEqual(l, other) }

// Ulimit is one resource limit of the process (setrlimit(2)); -1 is unlimited.
type Ulimit struct {
	Name string `json:"name"`
	Soft int64  `json:"soft"`
	Hard int64  `json:"hard"`
}

// Restart is the restart policy: "", no, on-failure, always, unless-stopped.
type Restart struct {
	Policy     string `json:"policy,omitzero"`
	MaxRetries int    `json:"max_retries,omitzero"`
}

// Health is the health check a user asked for; Disable is --no-healthcheck.
type Health struct {
	Disable       bool          `json:"disable,omitzero"`
	Command       string        `json:"command,omitzero"`
	Interval      time.Duration `json:"interval,omitzero"`
	Timeout       time.Duration `json:"timeout,omitzero"`
	StartPeriod   time.Duration `json:"start_period,omitzero"`
	StartInterval time.Duration `json:"start_interval,omitzero"`
	Retries       int           `json:"retries,omitzero"`
}
