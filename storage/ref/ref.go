// Package ref is image names: parsing, normalising (short names mean docker.io, never a question), and showing them as Docker does.
// The grammar is that of distribution's reference package, written out by hand: its regular expressions cost every start of the program.
package ref

import (
	"errors"
	"fmt"
	"strings"
)

// Ref is a parsed image name. Domain and Path are never empty; Tag is "" only when Digest is set and no tag was given.
type Ref struct {
	Domain, Path, Tag, Digest string
}

const (
	defaultDomain = "docker.io"
	officialRepo  = "library/"
	maxName       = 255
	maxTag        = 128
)

// ErrInvalid is an image name that is none.
var ErrInvalid = errors.New("invalid image name")

// Parse takes what a user typed (debian, debian:12, localhost:5000/x/y@sha256:...) and normalises it.
func Parse(s string) (Ref, error) {
	bad := func(why string) (Ref, error) { return Ref{}, fmt.Errorf("%w %q: %s", ErrInvalid, s, why) }
	var r Ref
	name := s
	if i := strings.IndexByte(name, '@'); i >= 0 {
		name, r.Digest = name[:i], name[i+1:]
		if !validDigest(r.Digest) {
			return bad("the digest must be like sha256:<64 hex digits>")
		}
	}
	if i := strings.LastIndexByte(name, ':'); i >= 0 && !strings.Contains(name[i:], "/") {
		name, r.Tag = name[:i], name[i+1:]
		if !validTag(r.Tag) {
			return bad("the tag takes a-z A-Z 0-9 _ . - and at most 128 of them")
		}
	}
	if isHex64(name) && r.Tag == "" && r.Digest == "" {
		return bad("64 hex digits are an image id, not a name")
	}
	first, rest, hasSlash := strings.Cut(name, "/")
	if hasSlash && (strings.ContainsAny(first, ".:") || first == "localhost") {
		r.Domain, r.Path = first, rest
	} else {
		r.Domain, r.Path = defaultDomain, name
	}
	if r.Domain == "index.docker.io" {
		r.Domain = defaultDomain
	}
	if !validDomain(r.Domain) {
		return bad("the registry is not a host name with an optional port")
	}
	if r.Domain == defaultDomain && !strings.Contains(r.Path, "/") {
		r.Path = officialRepo + r.Path
	}
	if strings.ToLower(r.Path) != r.Path {
		return bad("the repository must be lower case")
	}
	if !validPath(r.Path) {
		return bad("the repository takes a-z 0-9, separated by / . _ __ or -")
	}
	if len(r.Domain)+1+len(r.Path) > maxName {
		return bad("it is longer than 255 characters")
	}
	if r.Tag == "" && r.Digest == "" {
		r.Tag = "latest"
	}
	return r, nil
}

// Name is the name without tag and digest: docker.io/library/debian.
func (r Ref) Name() string { return r.Domain + "/" + r.Path }

// String is the full name: docker.io/library/debian:12.
func (r Ref) String() string { return r.Name() + r.suffix() }

// Familiar is the name as Docker shows it: debian:12.
func (r Ref) Familiar() string { return r.FamiliarName() + r.suffix() }

// FamiliarName is Familiar without tag and digest.
func (r Ref) FamiliarName() string {
	if r.Domain == defaultDomain {
		return strings.TrimPrefix(r.Path, officialRepo)
	}
	return r.Name()
}

func (r Ref) suffix() string {
	s := ""
	if r.Tag != "" {
		s = ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

func validDigest(d string) bool {
	algorithm, hex, ok := strings.Cut(d, ":")
	lengths := map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}
	return ok && len(hex) == lengths[algorithm] && len(hex) > 0 && allHex(hex)
}

func isHex64(s string) bool { return len(s) == 64 && allHex(s) }

func allHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func validTag(t string) bool {
	if t == "" || len(t) > maxTag || t[0] == '.' || t[0] == '-' {
		return false
	}
	for i := range len(t) {
		if c := t[i]; !alnum(c) && (c < 'A' || c > 'Z') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

func alnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// validDomain accepts host names, IPv4 addresses and bracketed IPv6 ones, with an optional port.
func validDomain(d string) bool {
	host := d
	if i := strings.LastIndexByte(d, ':'); i >= 0 && !strings.HasSuffix(d, "]") {
		port := d[i+1:]
		host = d[:i]
		if port == "" || strings.Trim(port, "0123456789") != "" {
			return false
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		return ok && inner != "" && strings.Trim(strings.ToLower(inner), "0123456789abcdef:") == ""
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !alnum(c) && (c < 'A' || c > 'Z') && c != '-' {
				return false
			}
		}
	}
	return true
}

// validPath checks components of lower-case letters and digits, separated inside by one '.', one or two '_', or any number of '-'.
func validPath(p string) bool {
	for part := range strings.SplitSeq(p, "/") {
		if part == "" || !alnum(part[0]) || !alnum(part[len(part)-1]) {
			return false
		}
		for i := 0; i < len(part); {
			if alnum(part[i]) {
				i++
				continue
			}
			j := i
			for j < len(part) && !alnum(part[j]) {
				j++
			}
			sep := part[i:j]
			if sep != "." && sep != "_" && sep != "__" && strings.Trim(sep, "-") != "" {
				return false
			}
			i = j
		}
	}
	return true
}
