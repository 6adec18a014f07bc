package seccomp

import (
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// interpret runs a program as the kernel would.
func interpret(t *testing.T, program []unix.SockFilter, arch, nr uint32, args [6]uint64) uint32 {
	t.Helper()
	var acc uint32
	for pc := 0; pc < len(program); pc++ {
		f := program[pc]
		branch := func(yes bool) {
			if yes {
				pc += int(f.Jt)
			} else {
				pc += int(f.Jf)
			}
		}
		switch f.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			switch f.K {
			case offsetNumber:
				acc = nr
			case offsetArch:
				acc = arch
			default:
				acc = uint32(args[(f.K-offsetArgs)/8] >> (8 * (f.K % 8)))
			}
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= f.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(f.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			branch(acc == f.K)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			branch(acc > f.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			branch(acc >= f.K)
		case unix.BPF_RET | unix.BPF_K:
			return f.K
		default:
			t.Fatalf("instruction %d has code %#x", pc, f.Code)
		}
	}
	t.Fatal("the program has no end")
	return 0
}

// naive evaluates the profile as it is written.
func naive(p profile, caps []string, name string, args [6]uint64) uint32 {
	for _, r := range p.Syscalls {
		if !r.applies("amd64", caps) {
			continue
		}
		for _, n := range append(r.Names, r.Name) {
			if n != name {
				continue
			}
			match := true
			for _, a := range r.Args {
				v := args[a.Index]
				match = match && map[string]bool{
					"SCMP_CMP_EQ": v == a.Value, "SCMP_CMP_NE": v != a.Value, "SCMP_CMP_LT": v < a.Value, "SCMP_CMP_LE": v <= a.Value,
					"SCMP_CMP_GT": v > a.Value, "SCMP_CMP_GE": v >= a.Value, "SCMP_CMP_MASKED_EQ": v&a.Value == a.ValueTwo,
				}[a.Op]
			}
			if match {
				act, _ := action(r.Action, r.ErrnoRet)
				return act
			}
		}
	}
	act, _ := action(p.DefaultAction, p.DefaultErrnoRet)
	return act
}

func compare(t *testing.T, text []byte, caps []string) {
	t.Helper()
	var p profile
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	program, err := CompileFor("amd64", text, caps)
	if err != nil {
		t.Fatal(err)
	}
	values := []uint64{0, 1, 8, 37, 38, 39, 40, 41, 100, 131072, 4294967295, 0x10000000, 1 << 33, 1<<33 | 38, 2114060288}
	for _, a := range architectures["amd64"] {
		for line := range strings.Lines(table) {
			f := strings.Fields(line)
			n, err := strconv.ParseUint(f[a.column], 10, 32)
			if err != nil {
				continue
			}
			for _, v := range values {
				args := [6]uint64{v, v, 3, 4, v, 6}
				if got, want := interpret(t, program, a.audit, uint32(n), args), naive(p, caps, f[0], args); got != want {
					t.Fatalf("%s (%d, column %d) with %d: got %#x, want %#x", f[0], n, a.column, v, got, want)
				}
			}
		}
	}
	if got := interpret(t, program, unix.AUDIT_ARCH_X86_64, 0x40000001, [6]uint64{}); got != errnoENOSYS {
		t.Errorf("x32: got %#x", got)
	}
	if got := interpret(t, program, unix.AUDIT_ARCH_ARM, 1, [6]uint64{}); got != unix.SECCOMP_RET_KILL_PROCESS {
		t.Errorf("foreign architecture: got %#x", got)
	}
	if got := interpret(t, program, unix.AUDIT_ARCH_X86_64, 5000, [6]uint64{}); got != errnoENOSYS && p.DefaultAction == "SCMP_ACT_ERRNO" {
		t.Errorf("unknown call: got %#x", got)
	}
}

func TestCompileAgreesWithTheProfile(t *testing.T) {
	compare(t, defaultProfile, dockerCapabilities)
	compare(t, defaultProfile, []string{"CAP_SYS_ADMIN", "CAP_BPF"})
	var rules []string
	for i, op := range []string{"EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"} {
		rules = append(rules, `{"names":["`+[]string{"read", "write", "open", "close", "stat", "fstat", "lstat"}[i]+`"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":38,"valueTwo":32,"op":"SCMP_CMP_`+op+`"},{"index":4,"value":8589934592,"op":"SCMP_CMP_LE"}]}`)
	}
	compare(t, []byte(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[`+strings.Join(rules, ",")+`]}`), nil)
}

func TestEmbeddedIsCurrent(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		program, err := CompileFor(arch, defaultProfile, dockerCapabilities)
		if err != nil {
			t.Fatal(err)
		}
		file, err := os.ReadFile("default_" + arch + ".bpf")
		if err != nil || string(file) != string(Encode(program)) {
			t.Errorf("default_%s.bpf is not what the profile compiles to: run go generate (%v)", arch, err)
		}
	}
}

// A filter cannot see the arguments of the 32-bit socketcall(2): it is denied with AF_ALG.
func TestSocketcallIsDenied(t *testing.T) {
	for _, caps := range [][]string{dockerCapabilities, {"CAP_SYS_ADMIN"}} {
		program, err := CompileFor("amd64", defaultProfile, caps)
		if err != nil {
			t.Fatal(err)
		}
		if got := interpret(t, program, unix.AUDIT_ARCH_I386, 102, [6]uint64{1}); got != unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM) {
			t.Errorf("socketcall with %v: got %#x", caps, got)
		}
		if got := interpret(t, program, unix.AUDIT_ARCH_I386, 359, [6]uint64{unix.AF_ALG}); got == unix.SECCOMP_RET_ALLOW {
			t.Errorf("socket(AF_ALG) with %v is allowed", caps)
		}
	}
}

func TestRefusesTooManyComparisons(t *testing.T) {
	one := `{"index":0,"value":1,"op":"SCMP_CMP_NE"}`
	text := func(n int) []byte {
		return []byte(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[` + strings.Repeat(one+",", n-1) + one + `]}]}`)
	}
	if _, err := Compile(text(maxArgs+1), nil); err == nil {
		t.Error("accepted")
	}
	compare(t, text(maxArgs), nil)
}

func FuzzCompile(f *testing.F) {
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_MASKED_EQ"}]}]}`))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":7,"syscalls":[{"names":["write","kill"],"action":"SCMP_ACT_ERRNO","errnoRet":38,"args":[{"index":1,"value":4294967296,"op":"SCMP_CMP_GT"}],"excludes":{"caps":["CAP_KILL"]}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := CompileFor("amd64", text, nil); err == nil {
			compare(t, text, nil) // the program does what the profile says
		}
	})
}

func TestRefuses(t *testing.T) {
	for _, text := range []string{
		``, `{`, `{"defaultAction":"X"}`, `{"defaultAction":"SCMP_ACT_NOTIFY"}`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"no"}]}`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":9,"op":"SCMP_CMP_EQ"}]}]}`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"op":"?"}]}]}`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["kill"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":9}]}]}`, // the specification wants an op, and so does runc
	} {
		if _, err := Compile([]byte(text), nil); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}

// TestKernelTakesIt loads the default filter in a child of ours.
func TestKernelTakesIt(t *testing.T) {
	if os.Getenv("SECCOMP_TEST_CHILD") == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=TestKernelTakesIt")
		cmd.Env = append(os.Environ(), "SECCOMP_TEST_CHILD=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	runtime.LockOSThread()
	program, err := Default(dockerCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		t.Fatal(errno)
	}
	if _, err := unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0); err != unix.EPERM {
		t.Errorf("AF_ALG: %v", err)
	}
	// The kernel looks at the lower half of the argument only.
	if _, _, errno := unix.Syscall(unix.SYS_SOCKET, 1<<32|unix.AF_ALG, unix.SOCK_SEQPACKET, 0); errno != unix.EPERM {
		t.Errorf("AF_ALG with a bit set above the lower half: %v", errno)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SOCKET, 1<<32|unix.AF_VSOCK, unix.SOCK_STREAM, 0); errno != unix.EPERM {
		t.Errorf("AF_VSOCK with a bit set above the lower half: %v", errno)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Errorf("AF_INET: %v", err)
	}
	unix.Close(fd)
	if err := unix.Unshare(unix.CLONE_NEWUSER); err != unix.EPERM {
		t.Errorf("unshare: %v", err)
	}
	if _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, false); err != unix.EPERM {
		t.Errorf("keyctl: %v", err)
	}
	for name, nr := range map[string]uintptr{"bpf": unix.SYS_BPF, "userfaultfd": unix.SYS_USERFAULTFD, "io_uring_setup": unix.SYS_IO_URING_SETUP, "fsopen": unix.SYS_FSOPEN} {
		if _, _, errno := unix.Syscall(nr, 0, 0, 0); errno != unix.EPERM {
			t.Errorf("%s: %v", name, errno)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := Compile(defaultProfile, []string{"CAP_SYS_ADMIN"}); err != nil {
			b.Fatal(err)
		}
	}
}
