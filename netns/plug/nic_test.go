package plug

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-containers/skiff/run/config"
)

func TestAllowed(t *testing.T) {
	const file = "# who may have what\nme veth lxcbr0 3\n@users veth br1 4\n@staff veth br1 6\nme veth br2 0\n@users veth br2 9\nme vlan br3 5\nme veth br4 many\nme veth\n"
	tests := []struct {
		name, user, bridge string
		groups             []string
		want               int
	}{
		{"a user's line", "me", "lxcbr0", nil, 3},
		{"somebody else's", "you", "lxcbr0", []string{"users"}, 0},
		{"a group's", "you", "br1", []string{"users"}, 4},
		{"the better group's", "you", "br1", []string{"users", "staff"}, 6},
		{"the user's before a group's", "me", "br2", []string{"users"}, 0},
		{"another type", "me", "br3", nil, 0},
		{"no number", "me", "br4", nil, 0},
		{"another bridge", "me", "br9", nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := allowed(file, tt.user, tt.groups, tt.bridge); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

// What LXC 5.0's program says.
func TestNICFailed(t *testing.T) {
	const quota = "../src/lxc/cmd/lxc_user_nic.c: 1250: main: Quota reached\n"
	tests := []struct{ name, said, want, hint string }{
		{"no file", "../src/lxc/cmd/lxc_user_nic.c: 308: get_alloted - No such file or directory - Failed to open \"/etc/lxc/lxc-usernet\"\n\n" + quota, "does not allow it to", " veth nosuchbridge 10`"},
		{"no line", quota, "/etc/lxc/lxc-usernet does not allow it to", " veth nosuchbridge 10`"},
		{
			"no bridge of the kernel's", "../src/lxc/cmd/lxc_user_nic.c: 593: create_nic: Error attaching veth1001_VapR to nosuchbridge\n../src/lxc/cmd/lxc_user_nic.c: 767: get_nic_if_avail: Failed to create new nic\n" + quota,
			"on bridge nosuchbridge from lxc-user-nic: create_nic: Error attaching veth1001_VapR", "ip -d link",
		},
		{
			"not ours", "../src/lxc/cmd/lxc_user_nic.c: 973: may_access_netns - Permission denied - Uid 1001 may not access /proc/9/ns/net\n\n../src/lxc/cmd/lxc_user_nic.c: 1189: main: User x may not modify netns for pid 9\n",
			"may_access_netns - Permission denied", "",
		},
		{"nothing", "", "exit status 1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := nicFailed(config.NIC{Bridge: "nosuchbridge"}, tt.said, errors.New("exit status 1"))
			var no *Refusal
			if hint := ""; errors.As(err, &no) {
				if hint = no.Hint; !strings.Contains(hint, tt.hint) {
					t.Errorf("the hint is %q, want %q in it", hint, tt.hint)
				}
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is %q, want %q in it", err, tt.want)
			}
		})
	}
}

func TestNICProgram(t *testing.T) {
	dir := t.TempDir()
	plain, suid := filepath.Join(dir, "plain"), filepath.Join(dir, "suid")
	for path, mode := range map[string]os.FileMode{plain: 0o755, suid: 0o755 | os.ModeSetuid} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := nicProgram(config.NIC{Binary: suid}); err != nil || got != suid {
		t.Errorf("got %q and %v", got, err)
	}
	if _, err := nicProgram(config.NIC{Binary: filepath.Join(dir, "none")}); err == nil || !strings.Contains(err.Error(), "there is no program") {
		t.Errorf("one that is not there: %v", err)
	}
	if _, err := nicProgram(config.NIC{Binary: dir}); err == nil {
		t.Error("a directory is a program")
	}
	if _, err := nicProgram(config.NIC{Binary: plain}); os.Geteuid() != 0 && (err == nil || !strings.Contains(err.Error(), "not set-uid")) {
		t.Errorf("one that is not set-uid: %v", err)
	}
}

func TestLastOf(t *testing.T) {
	for text, want := range map[string]string{"10.66.3.1/24": "10.66.3.255", "10.0.0.9/29": "10.0.0.15", "10.0.0.9/32": "10.0.0.9", "10.1.2.3/9": "10.127.255.255"} {
		if got := lastOf(netip.MustParsePrefix(text)); got.String() != want {
			t.Errorf("the last of %s is %s, want %s", text, got, want)
		}
	}
}
