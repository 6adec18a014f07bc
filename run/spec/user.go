package spec

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/run/oci"
	"github.com/skiff-containers/skiff/storage/disk"
)

// User is who a process is, in numbers.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary
	Home     string
}

// maxAccounts is the largest /etc/passwd or /etc/group that is read, in bytes.
const maxAccounts = 16 << 20

// LookupUser resolves USER[:GROUP] (names or numbers) and further groups in etc/passwd and etc/group beneath root. "" is root. Numbers need not be in the files, which
// may then be what cannot be read (a FIFO, a directory, a file without end); names must.
func LookupUser(root *os.File, spec string, groupAdd []string) (User, error) {
	passwd, err := accounts(root, "etc/passwd")
	group, groupErr := accounts(root, "etc/group")
	if err == nil {
		err = groupErr
	}
	if err != nil && !numeric(spec, groupAdd) {
		return User{}, err
	}
	u, err := resolveUser(string(passwd), string(group), spec, groupAdd)
	if err != nil || len(u.Groups) < 2 || !oci.SetgroupsDenied() {
		return u, err
	}
	if len(groupAdd) > 0 {
		return u, errors.New("cannot honour --group-add: this user namespace maps a single group (the user has no subordinate ids here)")
	}
	// No file can belong to the image's other groups.
	u.Groups = u.Groups[:1]
	return u, nil
}

func accounts(root *os.File, name string) ([]byte, error) {
	data, err := disk.ReadFileBeneath(root, name, maxAccounts)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot look up the user: %w", err)
	}
	return data, nil
}

func resolveUser(passwd, group, spec string, groupAdd []string) (User, error) {
	name, groupName, hasGroup := strings.Cut(spec, ":")
	if name == "" {
		name = "0"
	}
	var u User
	login := ""
	number, isNumber := parseID(name)
	found := false
	for line := range strings.Lines(passwd) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) < 6 {
			continue
		}
		uid, ok1 := parseID(f[2])
		gid, ok2 := parseID(f[3])
		if !ok1 || !ok2 || (f[0] != name && (!isNumber || uid != number)) {
			continue
		}
		u.UID, u.GID, u.Home, login, found = uid, gid, f[5], f[0], true
		break
	}
	if !found {
		if !isNumber {
			return u, fmt.Errorf("unable to find user %s: no matching entries in the container's passwd file", config.Shown(name))
		}
		u.UID = number
		if number == 0 {
			u.Home = "/root"
		}
	}
	if hasGroup && groupName != "" {
		gid, err := findGroup(group, groupName)
		if err != nil {
			return u, err
		}
		u.GID = gid
	} else {
		for line := range strings.Lines(group) {
			f := strings.Split(strings.TrimRight(line, "\n"), ":")
			if len(f) < 4 || login == "" {
				continue
			}
			for member := range strings.SplitSeq(f[3], ",") {
				if gid, ok := parseID(f[2]); ok && member == login && gid != u.GID {
					u.Groups = append(u.Groups, gid)
				}
			}
		}
	}
	for _, g := range groupAdd {
		gid, err := findGroup(group, g)
		if err != nil {
			return u, err
		}
		u.Groups = append(u.Groups, gid)
	}
	// The primary group is among the supplementary ones too, or giving it up would open files it is denied (CVE-2022-36109).
	u.Groups = append([]uint32{u.GID}, u.Groups...)
	return u, nil
}

func findGroup(group, name string) (uint32, error) {
	number, isNumber := parseID(name)
	for line := range strings.Lines(group) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) >= 3 && f[0] == name {
			if gid, ok := parseID(f[2]); ok {
				return gid, nil
			}
		}
	}
	if isNumber {
		return number, nil
	}
	return 0, fmt.Errorf("unable to find group %s: no matching entries in the container's group file", config.Shown(name))
}

// numeric says whether nothing has to be looked up.
func numeric(spec string, groupAdd []string) bool {
	user, group, _ := strings.Cut(spec, ":")
	for _, word := range append([]string{user, group}, groupAdd...) {
		if _, ok := parseID(word); !ok && word != "" {
			return false
		}
	}
	return true
}

// parseID accepts plain decimal digits below 2^31: no sign, no space, no overflow into another id (CVE-2026-30892).
func parseID(s string) (uint32, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 31)
	return uint32(n), err == nil
}
