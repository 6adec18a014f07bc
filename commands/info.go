package commands

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/record"
)

func infoCommand() *cli.Command {
	return &cli.Command{Usage: "Display system-wide information", Flags: []cli.Flag{inspectFormat()}, Action: info}
}

// hostInfo is what info shows: the names of Docker's API where it has one.
type hostInfo struct {
	ID                string
	Containers        int
	ContainersRunning int
	ContainersPaused  int
	ContainersStopped int
	Images            int
	Driver            string
	DriverStatus      [][2]string
	LoggingDriver     string
	CgroupDriver      string
	CgroupVersion     string
	DefaultRuntime    string
	SecurityOptions   []string
	KernelVersion     string
	OperatingSystem   string
	OSType            string
	Architecture      string
	NCPU              int
	MemTotal          int64
	DockerRootDir     string
	RunDir            string
	Name              string
	ServerVersion     string
	Rootless          bool
	Warnings          []string
}

func info(c *cli.Context) error {
	h, err := hostOf(c)
	if err != nil {
		return err
	}
	list, listErr := h.List(c.Context)
	images, err := h.Images.List()
	if err != nil {
		return err
	}
	i := machineInfo()
	i.Containers, i.Images, i.DockerRootDir, i.RunDir = len(list), len(images), h.Records.Data, h.Records.Run
	for _, t := range list {
		switch t.State {
		case record.Running, record.Restarting:
			i.ContainersRunning++
		case record.Paused:
			i.ContainersPaused++
		default:
			i.ContainersStopped++
		}
	}
	i.Driver, i.DriverStatus = layerKind(h.Records.Data)
	if listErr != nil {
		i.Warnings = append(i.Warnings, strings.Split(listErr.Error(), "\n")...)
	}
	if text, err := os.ReadFile(pingRange); err == nil && !mayPing(string(text), ownGroups()) {
		i.Warnings = append(i.Warnings, "containers cannot ping what is not on their network: none of your groups is in net.ipv4.ping_group_range; let all ping with `sudo sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"`")
	}
	switch format := c.String("format"); format {
	case "":
		return printInfo(c, i)
	case "json":
		return json.NewEncoder(c.App.Writer).Encode(i)
	default:
		t, err := parseFormat(format)
		if err != nil {
			return err
		}
		return executeLines(c.App.Writer, t, []hostInfo{i})
	}
}

// layerKind is the kind of writable layer that was chosen for this data directory, and why; none before the first container.
func layerKind(data string) (string, [][2]string) {
	text, err := os.ReadFile(filepath.Join(data, "layer-kind"))
	if err != nil {
		return "not chosen yet", nil
	}
	kind, rest, _ := strings.Cut(string(text), "\n")
	why, _, _ := strings.Cut(rest, "\n") // the boot that it was chosen in follows
	return kind, [][2]string{{"Reason", why}}
}

// machineInfo is what does not depend on skiff's state.
func machineInfo() hostInfo {
	i := hostInfo{
		LoggingDriver: "local", CgroupDriver: "cgroupfs", CgroupVersion: cgroupVersion(), DefaultRuntime: "skiff",
		SecurityOptions: []string{"name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"},
		KernelVersion:   kernelVersion(), OperatingSystem: osName(), OSType: "linux", Architecture: machine(),
		NCPU: runtime.NumCPU(), ServerVersion: Version, Rootless: os.Getuid() != 0,
	}
	i.Name, _ = os.Hostname()
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) == nil {
		i.MemTotal = int64(si.Totalram) * int64(si.Unit)
	}
	return i
}

// pingRange is the first and the last of the groups whose processes may ping without more rights (icmp(7)); the way out of networks pings as its user.
const pingRange = "/proc/sys/net/ipv4/ping_group_range"

// ownGroups are those of the calling process.
func ownGroups() []int {
	all, _ := os.Getgroups() // the first one is there at any rate
	return append(all, os.Getegid())
}

// mayPing says whether one of the groups is in the range. What cannot be read forbids nothing.
func mayPing(text string, groups []int) bool {
	var first, last int
	if n, err := fmt.Sscan(text, &first, &last); n != 2 || err != nil {
		return true
	}
	return slices.ContainsFunc(groups, func(g int) bool { return first <= g && g <= last })
}

func cgroupVersion() string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return "2"
	}
	return "1"
}

func uname() (u unix.Utsname) {
	_ = unix.Uname(&u) // it cannot fail with memory of ours
	return u
}

func kernelVersion() string { u := uname(); return unix.ByteSliceToString(u.Release[:]) }
func machine() string       { u := uname(); return unix.ByteSliceToString(u.Machine[:]) }

// osName is PRETTY_NAME of os-release.
func osName() string {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "Linux"
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if name, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return strings.Trim(name, `"'`)
		}
	}
	return "Linux"
}

func printInfo(c *cli.Context, i hostInfo) error {
	w := c.App.Writer
	fmt.Fprintf(w, "Containers: %d\n Running: %d\n Paused: %d\n Stopped: %d\nImages: %d\n", i.Containers, i.ContainersRunning, i.ContainersPaused, i.ContainersStopped, i.Images)
	fmt.Fprintf(w, "skiff Version: %s\nStorage Driver: %s\n", i.ServerVersion, i.Driver)
	for _, s := range i.DriverStatus {
		fmt.Fprintf(w, " %s: %s\n", s[0], s[1])
	}
	fmt.Fprintf(w, "Logging Driver: %s\nCgroup Version: %s\nDefault Runtime: %s\nSecurity Options:\n", i.LoggingDriver, i.CgroupVersion, i.DefaultRuntime)
	for _, s := range i.SecurityOptions {
		fmt.Fprintf(w, " %s\n", strings.TrimPrefix(s, "name="))
	}
	fmt.Fprintf(w, "Kernel Version: %s\nOperating System: %s\nOSType: %s\nArchitecture: %s\nCPUs: %d\nTotal Memory: %s\nName: %s\nRoot Dir: %s\nRun Dir: %s\n",
		i.KernelVersion, i.OperatingSystem, i.OSType, i.Architecture, i.NCPU, humanSize(i.MemTotal), i.Name, i.DockerRootDir, i.RunDir)
	for _, s := range i.Warnings {
		fmt.Fprintf(c.App.ErrWriter, "WARNING: %s\n", s)
	}
	return nil
}
