package seccomp

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data (seccomp(2)).
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArgs   = 16
)

// architecture is one of the system call interfaces of a machine. column is its place in the table of numbers.
type architecture struct {
	audit  uint32
	column int
	x32    bool // numbers from 0x40000000 are of another interface, which is refused
}

// architectures are the native interface first, then the compatible one.
var architectures = map[string][]architecture{
	"amd64": {{unix.AUDIT_ARCH_X86_64, 1, true}, {unix.AUDIT_ARCH_I386, 2, false}},
	"arm64": {{unix.AUDIT_ARCH_AARCH64, 3, false}, {unix.AUDIT_ARCH_ARM, 4, false}},
}

// table has a line per system call: name and number on amd64, i386, arm64 and arm, or -.
//
//go:embed syscalls.txt
var table string

func ret(k uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

// span is a range of numbers from first up to the next span that are treated alike.
type span struct {
	first uint32
	code  []unix.SockFilter
}

// tree is the program that decides by system call number: a balanced tree of comparisons, with rules at the leaves. Numbers above every known one are answered with
// ENOSYS, so that a C library tries an older call.
func (a architecture) tree(rules []rule, fallback uint32) []unix.SockFilter {
	byName := make(map[string][]rule)
	for _, r := range rules {
		for _, n := range r.Names {
			byName[n] = append(byName[n], r)
		}
	}
	leaves := make(map[uint32][]unix.SockFilter)
	last := uint32(0)
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		n, err := strconv.ParseUint(f[a.column], 10, 32)
		if err != nil {
			continue // not on this architecture
		}
		// ARM's private calls are far above the others.
		if n < 0xf0000 {
			last = max(last, uint32(n))
		}
		if rs := byName[f[0]]; rs != nil {
			leaves[uint32(n)] = leaf(rs, fallback)
		}
	}
	numbers := make([]uint32, 0, len(leaves))
	for n := range leaves {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	spans := []span{{0, []unix.SockFilter{ret(fallback)}}}
	add := func(first uint32, code []unix.SockFilter) {
		top := &spans[len(spans)-1]
		switch {
		case top.first == first:
			top.code = code
			if len(spans) > 1 && slices.Equal(spans[len(spans)-2].code, code) {
				spans = spans[:len(spans)-1]
			}
		case !slices.Equal(top.code, code):
			spans = append(spans, span{first, code})
		}
	}
	unknown := []unix.SockFilter{ret(errnoENOSYS)}
	if fallback&unix.SECCOMP_RET_ACTION_FULL != unix.SECCOMP_RET_ERRNO {
		unknown = []unix.SockFilter{ret(fallback)}
	}
	past := false
	for _, n := range numbers {
		if !past && n > last {
			add(last+1, unknown)
			past = true
		}
		add(n, leaves[n])
		if n < last {
			add(n+1, []unix.SockFilter{ret(fallback)})
		} else {
			add(n+1, unknown)
		}
	}
	if !past {
		add(last+1, unknown)
	}
	return balance(spans)
}

// balance makes the comparisons. Code is position-independent: a jump goes forward over the code of the other side.
func balance(spans []span) []unix.SockFilter {
	if len(spans) == 1 {
		return spans[0].code
	}
	middle := len(spans) / 2
	low, high := balance(spans[:middle]), balance(spans[middle:])
	jump := unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: spans[middle].first}
	var code []unix.SockFilter
	if len(low) <= 255 {
		jump.Jt = uint8(len(low))
		code = append(code, jump)
	} else {
		jump.Jf = 1
		code = append(code, jump, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(low))})
	}
	return append(append(code, low...), high...)
}

// leaf is what happens with one system call: the first rule whose arguments match.
func leaf(rules []rule, fallback uint32) []unix.SockFilter {
	var code []unix.SockFilter
	for _, r := range rules {
		act, _ := action(r.Action, r.ErrnoRet) // checked when the profile was read
		var one []unix.SockFilter
		for _, a := range r.Args {
			c, _ := a.code() // likewise
			one = append(one, c...)
		}
		// What fails jumps behind the rule's return.
		for i := range one {
			if one[i].Jt == fails {
				one[i].Jt = uint8(len(one) - i)
			}
			if one[i].Jf == fails {
				one[i].Jf = uint8(len(one) - i)
			}
		}
		code = append(append(code, one...), ret(act))
		if len(r.Args) == 0 {
			return code
		}
	}
	return append(code, ret(fallback))
}

// fails marks a jump to be taken when an argument does not match.
const fails = 255

// code compares one argument of 64 bits in two halves; it falls through when it matches.
func (a arg) code() ([]unix.SockFilter, error) {
	if a.Index > 5 {
		return nil, fmt.Errorf("argument index %d: system calls have arguments 0 to 5", a.Index)
	}
	low, high := offsetArgs+8*uint32(a.Index), offsetArgs+8*uint32(a.Index)+4
	jump := func(op uint16, k uint32, jt, jf uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, K: k, Jt: jt, Jf: jf}
	}
	hi, lo := uint32(a.Value>>32), uint32(a.Value)
	switch a.Op {
	case "SCMP_CMP_EQ":
		return []unix.SockFilter{load(high), jump(unix.BPF_JEQ, hi, 0, fails), load(low), jump(unix.BPF_JEQ, lo, 0, fails)}, nil
	case "SCMP_CMP_NE":
		return []unix.SockFilter{load(high), jump(unix.BPF_JEQ, hi, 0, 2), load(low), jump(unix.BPF_JEQ, lo, fails, 0)}, nil
	case "SCMP_CMP_GT":
		return []unix.SockFilter{load(high), jump(unix.BPF_JGT, hi, 3, 0), jump(unix.BPF_JEQ, hi, 0, fails), load(low), jump(unix.BPF_JGT, lo, 0, fails)}, nil
	case "SCMP_CMP_GE":
		return []unix.SockFilter{load(high), jump(unix.BPF_JGT, hi, 3, 0), jump(unix.BPF_JEQ, hi, 0, fails), load(low), jump(unix.BPF_JGE, lo, 0, fails)}, nil
	case "SCMP_CMP_LT":
		return []unix.SockFilter{load(high), jump(unix.BPF_JGT, hi, fails, 0), jump(unix.BPF_JEQ, hi, 0, 2), load(low), jump(unix.BPF_JGE, lo, fails, 0)}, nil
	case "SCMP_CMP_LE":
		return []unix.SockFilter{load(high), jump(unix.BPF_JGT, hi, fails, 0), jump(unix.BPF_JEQ, hi, 0, 2), load(low), jump(unix.BPF_JGT, lo, fails, 0)}, nil
	case "SCMP_CMP_MASKED_EQ":
		and := func(k uint32) unix.SockFilter {
			return unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: k}
		}
		return []unix.SockFilter{
			load(high), and(hi), jump(unix.BPF_JEQ, uint32(a.ValueTwo>>32), 0, fails),
			load(low), and(lo), jump(unix.BPF_JEQ, uint32(a.ValueTwo), 0, fails),
		}, nil
	}
	return nil, fmt.Errorf("unknown comparison %q", a.Op)
}
