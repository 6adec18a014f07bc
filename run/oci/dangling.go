package oci

import (
	"errors"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/storage/disk"
)

// maxLinks is how many links a path may lead over, as the kernel has it (path_resolution(7)).
const maxLinks = 40

// written is a path beneath the root with its links written out when what it leads to is missing, as of an /etc/resolv.conf that is a link into an empty /run: what is
// missing can then be made by its own name, as Docker does. Other paths are returned as they are. It only chooses a name beneath the root, now; the name is opened, and
// what is missing made, by the child, which leaves the root for nothing that has changed since.
func (b *builder) written(rel string) string {
	if b.image == nil || rel == "." || b.covered(rel) {
		return rel
	}
	if f, err := disk.OpenBeneath(b.image, rel, unix.O_PATH, 0); err == nil {
		f.Close()
		return rel
	} else if !errors.Is(err, unix.ENOENT) {
		return rel
	}
	at, rest := ".", strings.Split(rel, "/")
	for links := 0; len(rest) > 0; {
		next := path.Join(at, rest[0])
		if rest[0] == ".." && at == "." {
			next = "."
		}
		rest = rest[1:]
		target, isLink := "", false
		if !b.covered(next) {
			target, isLink = linkBeneath(b.image, next)
		}
		switch {
		case !isLink:
			at = next
			continue
		case links == maxLinks:
			return rel
		case path.IsAbs(target):
			at = "."
		}
		links++
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at
}

// covered says whether a path is a mount's target or beneath one: the image's files there are out of sight.
func (b *builder) covered(rel string) bool {
	for ; rel != "."; rel = path.Dir(rel) {
		if b.mounted[rel] {
			return true
		}
	}
	return false
}

// linkBeneath reads a link; false when the path is none.
func linkBeneath(root *os.File, name string) (string, bool) {
	f, err := disk.OpenBeneath(root, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return "", false
	}
	defer f.Close()
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buf)
	return string(buf[:max(n, 0)]), err == nil
}
