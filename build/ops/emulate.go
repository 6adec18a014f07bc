package ops

// This file finds out whether this machine runs the programs of another: itself, or by an emulator that is registered with the kernel
// (Documentation/admin-guide/binfmt-misc.rst).

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/moby/buildkit/solver/pb"
)

// binfmtDir is where the kernel lists the formats that it has been taught.
const binfmtDir = "/proc/sys/fs/binfmt_misc"

// elfMachine is the e_machine of an architecture's programs (elf.h), and whether they are big-endian; 0 for one that is not known.
func elfMachine(arch string) (machine uint16, big bool) {
	switch arch {
	case "386":
		return 3, false
	case "mips64":
		return 8, true
	case "mips64le", "mipsle":
		return 8, false
	case "ppc64":
		return 21, true
	case "ppc64le":
		return 21, false
	case "s390x":
		return 22, true
	case "arm":
		return 40, false
	case "amd64":
		return 62, false
	case "arm64":
		return 183, false
	case "riscv64":
		return 243, false
	case "loong64":
		return 258, false
	}
	return 0, false
}

// runnable is nil when commands for a platform can be run here.
func runnable(p *pb.Platform) error {
	if p == nil || p.Architecture == "" || p.Architecture == runtime.GOARCH {
		return nil
	}
	if runtime.GOARCH == "amd64" && p.Architecture == "386" {
		return nil // the kernel says if not
	}
	found, err := emulator(binfmtDir, p.Architecture)
	if err != nil {
		return err
	}
	if found == "" {
		return &emulationError{p.Architecture}
	}
	return nil
}

// emulationError says that commands for an architecture cannot be run.
type emulationError struct{ arch string }

func (e *emulationError) Error() string {
	return fmt.Sprintf("cannot run a command for linux/%s on this linux/%s machine: no emulator for it is registered in %s", e.arch, runtime.GOARCH, binfmtDir)
}

// Hint is the way out.
func (e *emulationError) Hint() string {
	return "install one (apt-get install qemu-user-static binfmt-support), or build these steps on this platform: FROM --platform=$BUILDPLATFORM"
}

// emulator is the name of an enabled format in dir for an architecture's programs whose interpreter the kernel holds open (flag F): any other would
// have to be inside the container. "" is none.
func emulator(dir, arch string) (string, error) {
	machine, big := elfMachine(arch)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || machine == 0 {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot look for an emulator: %w", err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err == nil && emulates(string(text), machine, big) {
			return e.Name(), nil
		}
	}
	return "", nil
}

// emulates reads the kernel's description of one format.
func emulates(text string, machine uint16, big bool) bool {
	fields := map[string]string{}
	for i, line := range strings.Split(text, "\n") {
		key, value, _ := strings.Cut(line, " ")
		if i == 0 && key != "enabled" {
			return false
		}
		fields[strings.TrimSuffix(key, ":")] = value
	}
	magic, err := hex.DecodeString(fields["magic"])
	if err != nil || fields["offset"] != "0" || len(magic) < 20 || string(magic[:4]) != "\x7fELF" || !strings.Contains(fields["flags"], "F") {
		return false
	}
	if (magic[5] == 2) != big {
		return false
	}
	have := uint16(magic[18]) | uint16(magic[19])<<8
	if big {
		have = uint16(magic[19]) | uint16(magic[18])<<8
	}
	return have == machine
}
