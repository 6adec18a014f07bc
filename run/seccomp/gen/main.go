// Command gen writes what package seccomp embeds: Docker's default profile, the numbers of system calls, and the profile's programs.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/build"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	profiles "github.com/moby/profiles/seccomp"

	"github.com/skiff-containers/skiff/run/seccomp"
)

var capabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run() error {
	docker := profiles.DefaultProfile()
	// The 32-bit socketcall(2) takes socket's arguments through a pointer, which a filter cannot follow: it would let AF_ALG through.
	// C libraries of the last ten years use the direct calls.
	for _, rule := range docker.Syscalls {
		rule.Names = slices.DeleteFunc(rule.Names, func(name string) bool { return name == "socketcall" })
	}
	profile, err := json.MarshalIndent(docker, "", "\t")
	if err != nil {
		return err
	}
	table, err := numbers()
	if err != nil {
		return err
	}
	files := map[string][]byte{"default.json": append(profile, '\n'), "syscalls.txt": table}
	if old, err := os.ReadFile("syscalls.txt"); err != nil || !bytes.Equal(old, table) {
		// The programs are compiled with the table that is embedded: it must be there first.
		if err := os.WriteFile("syscalls.txt", table, 0o644); err != nil {
			return err
		}
		return fmt.Errorf("syscalls.txt has changed: run it once more")
	}
	for _, arch := range []string{"amd64", "arm64"} {
		program, err := seccomp.CompileFor(arch, profile, capabilities)
		if err != nil {
			return err
		}
		files["default_"+arch+".bpf"] = seccomp.Encode(program)
	}
	for name, data := range files {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// numbers reads golang.org/x/sys/unix's lists of system calls.
func numbers() ([]byte, error) {
	pkg, err := build.Import("golang.org/x/sys/unix", ".", build.FindOnly)
	if err != nil {
		return nil, err
	}
	constant := regexp.MustCompile(`(?m)^\s+SYS_(\w+)\s+= (\d+)$`)
	byName := map[string][4]string{}
	for i, arch := range []string{"amd64", "386", "arm64", "arm"} {
		text, err := os.ReadFile(filepath.Join(pkg.Dir, "zsysnum_linux_"+arch+".go"))
		if err != nil {
			return nil, err
		}
		for _, m := range constant.FindAllSubmatch(text, -1) {
			name := strings.ToLower(string(m[1]))
			row := byName[name]
			row[i] = string(m[2])
			byName[name] = row
		}
	}
	var names []string
	for n := range byName {
		names = append(names, n)
	}
	slices.Sort(names)
	var out bytes.Buffer
	for _, n := range names {
		fmt.Fprint(&out, n)
		for _, v := range byName[n] {
			if v == "" {
				v = "-"
			}
			fmt.Fprint(&out, " ", v)
		}
		fmt.Fprintln(&out)
	}
	return out.Bytes(), nil
}
