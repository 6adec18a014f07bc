// Package ref is image names: parsing, normalising (short names mean docker.io, never a question), and showing them as Docker does.
package ref

// Ref is a parsed image name. Domain and Path are never empty; Tag is "" only when Digest is set and no tag was given.
type Ref struct {
	Domain, Path, Tag, Digest string
}

// Parse takes what a user typed (debian, debian:12, localhost:5000/x/y@sha256:...) and normalises it.
func Parse(s string) (Ref, error) { panic("stub") }

// String is the full name: docker.io/library/debian:12.
func (r Ref) String() string { panic("stub") }

// Familiar is the name as Docker shows it: debian:12.
func (r Ref) Familiar() string { panic("stub") }
