// Package seccomp turns Docker's seccomp profiles into programs for the kernel (seccomp(2)), in Go, without libseccomp.
//
// Docker's default profile (github.com/moby/profiles) for Docker's default capabilities is compiled beforehand and embedded; another
// capability set or a profile of the user's is compiled when a container starts, which takes about half a millisecond.
package seccomp

import (
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

//go:generate go run ./gen

//go:embed default.json
var defaultProfile []byte

// Default is Docker's default profile for a container's capabilities (CAP_CHOWN, ...). AF_ALG is denied,
// on i386 with socketcall(2), which could hide it.
func Default(caps []string) ([]unix.SockFilter, error) {
	if slices.Equal(sorted(caps), dockerCapabilities) {
		return decode(precompiled), nil
	}
	return Compile(defaultProfile, caps)
}

// dockerCapabilities is the set that the embedded program is for, sorted.
var dockerCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

// decode reads a program of eight-byte instructions, little-endian, as Encode wrote it.
func decode(b []byte) []unix.SockFilter {
	program := make([]unix.SockFilter, len(b)/8)
	for i := range program {
		p := b[i*8:]
		program[i] = unix.SockFilter{Code: binary.LittleEndian.Uint16(p), Jt: p[2], Jf: p[3], K: binary.LittleEndian.Uint32(p[4:])}
	}
	return program
}

// Encode writes a program for embedding.
func Encode(program []unix.SockFilter) []byte {
	var b []byte
	for _, f := range program {
		b = binary.LittleEndian.AppendUint16(b, f.Code)
		b = append(b, f.Jt, f.Jf)
		b = binary.LittleEndian.AppendUint32(b, f.K)
	}
	return b
}

// profile is Docker's file format (https://docs.docker.com/engine/security/seccomp/).
type profile struct {
	DefaultAction   string  `json:"defaultAction"`
	DefaultErrnoRet *uint32 `json:"defaultErrnoRet"`
	Syscalls        []rule  `json:"syscalls"`
}

type rule struct {
	Name     string   `json:"name"`
	Names    []string `json:"names"`
	Action   string   `json:"action"`
	ErrnoRet *uint32  `json:"errnoRet"`
	Args     []arg    `json:"args"`
	Includes filter   `json:"includes"`
	Excludes filter   `json:"excludes"`
}

type arg struct {
	Index    uint   `json:"index"`
	Value    uint64 `json:"value"`
	ValueTwo uint64 `json:"valueTwo"`
	Op       string `json:"op"`
}

type filter struct {
	Caps      []string `json:"caps"`
	Arches    []string `json:"arches"`
	MinKernel string   `json:"minKernel"`
}

// Compile makes the program of a profile for a container's capabilities on the machine's architecture. Names of system calls
// that the architecture does not have are passed over, as Docker does.
func Compile(profileJSON []byte, caps []string) ([]unix.SockFilter, error) {
	return CompileFor(runtime.GOARCH, profileJSON, caps)
}

// maxArgs bounds a rule's comparisons: a conditional jump, which leads behind the rule, reaches 255 instructions.
const maxArgs = 32

// CompileFor is Compile for another architecture: amd64 or arm64.
func CompileFor(goarch string, profileJSON []byte, caps []string) ([]unix.SockFilter, error) {
	p, rules, err := read(goarch, profileJSON, caps)
	if err != nil {
		return nil, err
	}
	fallback, err := action(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err // read has looked at it
	}
	arches, ok := architectures[goarch]
	if !ok {
		return nil, fmt.Errorf("cannot compile seccomp profiles for %s", goarch)
	}
	program := []unix.SockFilter{load(offsetArch)}
	for _, a := range arches {
		section := append(program[:0:0], load(offsetNumber))
		if a.x32 {
			section = append(section, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: 0x40000000, Jf: 1}, ret(errnoENOSYS))
		}
		section = append(section, a.tree(rules, fallback)...)
		// Over the section when it is another architecture's; it is longer than a conditional jump reaches.
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: a.audit, Jt: 1},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(section))})
		program = append(program, section...)
	}
	program = append(program, ret(unix.SECCOMP_RET_KILL_PROCESS))
	if len(program) > unix.BPF_MAXINSNS {
		return nil, fmt.Errorf("cannot use the seccomp profile: it becomes %d instructions, the kernel takes %d", len(program), unix.BPF_MAXINSNS)
	}
	return program, nil
}

// read reads a profile and gives its rules that hold for the capabilities on the architecture, checked.
func read(goarch string, profileJSON []byte, caps []string) (p profile, rules []rule, err error) {
	if err = json.Unmarshal(profileJSON, &p); err != nil {
		return p, nil, fmt.Errorf("cannot read the seccomp profile: %w", err)
	}
	if _, err = action(p.DefaultAction, p.DefaultErrnoRet); err != nil {
		return p, nil, fmt.Errorf("cannot use the seccomp profile: defaultAction: %w", err)
	}
	for i, r := range p.Syscalls {
		if !r.applies(goarch, caps) {
			continue
		}
		if r.Name != "" {
			r.Names = append(r.Names, r.Name)
		}
		if _, err = action(r.Action, r.ErrnoRet); err != nil {
			return p, nil, fmt.Errorf("cannot use the seccomp profile: syscalls[%d]: %w", i, err)
		}
		if len(r.Args) > maxArgs {
			return p, nil, fmt.Errorf("cannot use the seccomp profile: syscalls[%d]: %d comparisons, there may be %d", i, len(r.Args), maxArgs)
		}
		for _, a := range r.Args {
			if _, err = a.code(); err != nil {
				return p, nil, fmt.Errorf("cannot use the seccomp profile: syscalls[%d]: %w", i, err)
			}
		}
		rules = append(rules, r)
	}
	return p, rules, nil
}

// applies says whether a rule's conditions hold.
func (r rule) applies(goarch string, caps []string) bool {
	has := func(c string) bool { return slices.Contains(caps, c) }
	arch := func(a string) bool { return a == goarch }
	if len(r.Includes.Arches) > 0 && !slices.ContainsFunc(r.Includes.Arches, arch) || slices.ContainsFunc(r.Excludes.Arches, arch) {
		return false
	}
	for _, c := range r.Includes.Caps {
		if !has(c) {
			return false
		}
	}
	if slices.ContainsFunc(r.Excludes.Caps, has) {
		return false
	}
	if r.Includes.MinKernel != "" && !kernelAtLeast(r.Includes.MinKernel) {
		return false
	}
	return r.Excludes.MinKernel == "" || !kernelAtLeast(r.Excludes.MinKernel)
}

func kernelAtLeast(want string) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	parse := func(s string) (n [2]int) {
		for i, part := range strings.SplitN(s, ".", 3) {
			if i < 2 {
				digits := part[:len(part)-len(strings.TrimLeft(part, "0123456789"))]
				n[i], _ = strconv.Atoi(digits) // no digits: 0
			}
		}
		return n
	}
	have, need := parse(unix.ByteSliceToString(u.Release[:])), parse(want)
	return have[0] > need[0] || have[0] == need[0] && have[1] >= need[1]
}

const errnoENOSYS = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)

// action is what the kernel shall do, as a filter's return value.
func action(name string, errno *uint32) (uint32, error) {
	number := uint32(unix.EPERM)
	if errno != nil {
		number = *errno
	}
	switch name {
	case "SCMP_ACT_ALLOW":
		return unix.SECCOMP_RET_ALLOW, nil
	case "SCMP_ACT_ERRNO":
		return unix.SECCOMP_RET_ERRNO | number&unix.SECCOMP_RET_DATA, nil
	case "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD":
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case "SCMP_ACT_KILL_PROCESS":
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case "SCMP_ACT_TRAP":
		return unix.SECCOMP_RET_TRAP, nil
	case "SCMP_ACT_LOG":
		return unix.SECCOMP_RET_LOG, nil
	case "SCMP_ACT_TRACE":
		return unix.SECCOMP_RET_TRACE | number&unix.SECCOMP_RET_DATA, nil
	case "SCMP_ACT_NOTIFY":
		return 0, fmt.Errorf("action SCMP_ACT_NOTIFY needs a listener, which skiff has not")
	}
	return 0, fmt.Errorf("unknown action %q", name)
}
