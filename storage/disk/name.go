package disk

import "fmt"

// Name says whether a name may be one of a container, a volume or a network, which are also names of files (Docker's rule, which Podman relaxes to allow one letter). kind is named in the error.
func Name(kind, name string) error {
	ok := name != "" && len(name) <= 255
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		ok = ok && (letter || i > 0 && (r == '_' || r == '.' || r == '-'))
	}
	if !ok {
		return fmt.Errorf("invalid %s name %q: it takes a-z A-Z 0-9 _ . - and begins with a letter or digit", kind, name)
	}
	return nil
}
