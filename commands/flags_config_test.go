package commands

import (
	"context"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/run/config"
)

// parseRun reads a run command line the way the program does, without running it.
func parseRun(t *testing.T, words ...string) (config.Config, error) {
	t.Helper()
	var cfg config.Config
	cmd := runCommand()
	cmd.Action = func(c *cli.Context) (err error) {
		cfg, err = configOf(c)
		return err
	}
	v, _ := resolve(allVerbs(), []string{"run"})
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	p := &program{streams: Streams{null, null, null}}
	return cfg, p.dispatch(context.Background(), v, cmd, words)
}

func TestConfigOf(t *testing.T) {
	t.Setenv("FROM_HOST", "yes")
	cfg, err := parseRun(t, "-itd", "--rm", "-e", "A=1,2", "-eFROM_HOST", "-e", "NOT_THERE", "-h", "box", "-u33", "-w", "/srv",
		"-p80:80", "-p", "80:80/tcp", "--pids-limit", "-1", "--name", "web", "-l", "a=b,c", "--stop-timeout=-1",
		"-v", "data:/data:ro", "--entrypoint", "", "img:1", "sh", "-c", "echo -n --rm")
	if err != nil {
		t.Fatal(err)
	}
	minusOne := -1
	want := config.Config{
		Version: 1, Image: "img:1", Command: []string{"sh", "-c", "echo -n --rm"}, ClearEntrypoint: true,
		Env: []string{"A=1,2", "FROM_HOST=yes"}, Labels: map[string]string{"a": "b,c"}, User: "33", Workdir: "/srv", Hostname: "box",
		Tty: true, Interactive: true, Detach: true, Remove: true, StopTimeout: &minusOne,
		Ports:  []config.Port{{Container: 80, Host: 80, Protocol: "tcp"}},
		Mounts: []config.Mount{{Type: config.MountVolume, Source: "data", Target: "/data", ReadOnly: true}},
	}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got  %+v\nwant %+v", cfg, want)
	}
}

func TestConfigOfRefuses(t *testing.T) {
	tests := []struct{ name, words, want string }{
		{"an address without a bridge", "--network none --ip 10.0.0.2 img", "need a bridge network"},
		{"an address that is none", "--ip here img", "no IP address"},
		{"the other family", "--ip fd00::1 img", "other family"},
		{"a mode and a network", "--network host --network n img", "cannot be combined"},
		{"a network twice", "--network n --network n img", "named twice"},
		{"an interface on a bridge and a network", "--network lxc-user-nic --network n img", "cannot be combined"},
		{"an interface on a bridge that has an alias", "--network lxc-user-nic --network-alias a img", "--network-alias"},
		{"an interface on a bridge with the other family", "--network lxc-user-nic --ip6 fd00::1 img", "--ip6"},
		{"an interface on no bridge", "--network lxc-user-nic:a/b img", "name of a bridge"},
		{"an interface on a bridge with a wrong MAC address", "--network lxc-user-nic --mac-address 01:02 img", "mac=01:02"},
		{"restart", "--restart sometimes img", "--restart"},
		{"restart without number", "--restart on-failure:x img", "--restart"},
		{"restart with number", "--restart always:3 img", "--restart"},
		{"restart and rm", "--rm --restart always img", "--restart"},
		{"health", "--health-interval soon img", "--health-interval"},
		{"health too often", "--health-interval 1us img", "--health-interval"},
		{"health and none", "--no-healthcheck --health-cmd true img", "--no-healthcheck"},
		{"health retries", "--health-retries -1 img", "--health-retries"},
		{"userns", "--userns keep-id img", "--userns keep-id"},
		{"gpus", "--gpus all img", "--gpus"},
		{"log driver", "--log-driver syslog img", "--log-driver"},
		{"mount string", "--mount type=frob img", "--mount"},
		{"volume string", "-v : img", "--volume"},
		{"duplicate mount", "-v a:/x -v b:/x img", "duplicate mount point: /x"},
		{"port", "-p 99999 img", "--publish"},
		{"pid", "--pid nowhere img", "--pid"},
		{"stop signal", "--stop-signal FROB img", "--stop-signal"},
		{"swap without memory", "--memory-swap 1g img", "--memory-swap"},
		{"bad limit", "--memory lots img", "lots"},
		{"relative workdir", "-w tmp img", "--workdir"},
		{"attach and detach", "-d -a stdout img", "--attach"},
		{"detach keys", "--detach-keys frob img", "--detach-keys"},
		{"integer", "--stop-timeout x img", `"--stop-timeout" flag`},
		{"boolean", "--rm=maybe img", `"--rm" flag`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseRun(t, strings.Fields(tt.words)...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one about %s", err, tt.want)
			}
		})
	}
}

// Every flag of Docker's run is accepted: none is unknown.
func TestEveryDockerFlagIsKnown(t *testing.T) {
	const docker = `add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile cpu-period
	cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems detach detach-keys device device-cgroup-rule device-read-bps
	device-read-iops device-write-bps device-write-iops dns dns-option dns-search domainname entrypoint env env-file expose gpus group-add
	health-cmd health-interval health-retries health-start-interval health-start-period health-timeout hostname init interactive ip
	ip6 ipc label label-file link link-local-ip log-driver log-opt mac-address memory memory-reservation memory-swap memory-swappiness mount
	name network network-alias no-healthcheck oom-kill-disable oom-score-adj pid pids-limit platform privileged publish publish-all pull
	quiet read-only restart rm runtime security-opt shm-size sig-proxy stop-signal stop-timeout storage-opt sysctl tmpfs tty ulimit
	use-api-socket user userns uts volume volume-driver volumes-from workdir dns-opt kernel-memory`
	for name := range strings.FieldsSeq(docker) {
		if findFlag(runFlags(), name) == nil {
			t.Errorf("no flag --%s", name)
		}
	}
}
