package storage

import (
	"errors"
	"testing"
)

func TestUnpackError(t *testing.T) {
	lib := errors.New(`unpacking failed (error: exit status 1; output: potentially insufficient UIDs or GIDs available in user namespace (requested 0:42 for /etc/shadow): Check /etc/subuid and /etc/subgid if configured locally and run "podman system migrate": lchown /etc/shadow: invalid argument)`)
	err := unpackError(lib)
	var ours *Error
	if !errors.As(err, &ours) || ours.Help == "" || !errors.Is(err, lib) || err.Error() != "cannot unpack a layer: /etc/shadow is owned by 0:42, and the user namespace has no such ids" {
		t.Errorf("got %v", err)
	}
	if err := unpackError(errors.New("x")); err.Error() != "cannot unpack a layer: x" {
		t.Errorf("got %v", err)
	}
}
