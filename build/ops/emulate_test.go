package ops

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/moby/buildkit/solver/pb"
)

func TestEmulator(t *testing.T) {
	const (
		arm64 = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: POCF\noffset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n"
		s390x = "enabled\ninterpreter /usr/bin/qemu-s390x-static\nflags: F\noffset 0\nmagic 7f454c4602020100000000000000000000020016\n"
		inner = "enabled\ninterpreter /usr/bin/qemu-riscv64\nflags: \noffset 0\nmagic 7f454c460201010000000000000000000200f300\n"
		off   = "disabled\ninterpreter /x\nflags: F\noffset 0\nmagic 7f454c460201010000000000000000000200f300\n"
		py    = "enabled\ninterpreter /usr/bin/python3\nflags: F\noffset 0\nmagic f30d0d0a\n"
	)
	dir := t.TempDir()
	for name, text := range map[string]string{"arm64": arm64, "s390x": s390x, "inner": inner, "off": off, "python3.11": py, "status": "enabled\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for arch, want := range map[string]string{"arm64": "arm64", "s390x": "s390x", "riscv64": "", "arm": "", "unheard": ""} {
		if got, err := emulator(dir, arch); got != want || err != nil {
			t.Errorf("%s: got %q, %v; want %q", arch, got, err, want)
		}
	}
	if got, err := emulator(filepath.Join(dir, "none"), "arm64"); got != "" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if err := runnable(&pb.Platform{OS: "linux", Architecture: runtime.GOARCH}); err != nil {
		t.Error(err)
	}
	var no *emulationError
	if err := runnable(&pb.Platform{OS: "linux", Architecture: "unheard"}); !errors.As(err, &no) || no.Hint() == "" {
		t.Errorf("got %v", err)
	}
}
