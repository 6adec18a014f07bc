package pull

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/docker/config"

	"github.com/skiff-containers/skiff/storage/ref"
)

// Login asks a registry whether it accepts credentials, and keeps them if so, where Access says: a file or a credential helper. It returns where.
func Login(ctx context.Context, registry, user, password string, a Access) (string, error) {
	registry, named, err := parseRegistry(registry)
	if err != nil {
		return "", err
	}
	missing := a.AuthFile
	a.AuthFile = "" // it need not be there yet
	sys, err := a.system(ctx, nil, named)
	if err != nil {
		return "", err
	}
	if missing != "" {
		sys.AuthFilePath, sys.DockerCompatAuthFilePath = missing, ""
	}
	if err = docker.CheckAuth(ctx, sys, user, password, registry); err != nil {
		var refused docker.ErrUnauthorizedForCredentials
		if errors.As(err, &refused) {
			return "", &Error{What: fmt.Sprintf("cannot log in to %s: wrong user name or password", registry), Err: ErrUnauthorized}
		}
		return "", explain(ctx, "log in to", registry, registry, err)
	}
	where, err := config.SetCredentials(sys, registry, user, password)
	if err != nil {
		return "", fmt.Errorf("cannot keep the credentials of %s: %w", registry, err)
	}
	return where, nil
}

// Logout forgets a registry's credentials; "" is all registries'.
func Logout(ctx context.Context, registry string, a Access) error {
	sys, err := a.system(ctx, nil, nil)
	if err != nil {
		return err
	}
	if registry == "" {
		if err = config.RemoveAllAuthentication(sys); err != nil {
			return fmt.Errorf("cannot forget the credentials: %w", err)
		}
		return nil
	}
	registry, _, err = parseRegistry(registry)
	if err != nil {
		return err
	}
	err = config.RemoveAuthentication(sys, registry)
	if errors.Is(err, config.ErrNotLoggedIn) {
		return &Error{What: "not logged in to " + registry, Err: err}
	}
	if err != nil {
		return fmt.Errorf("cannot forget the credentials of %s: %w", registry, err)
	}
	return nil
}

// User is who is logged in to a registry, "" for nobody.
func User(ctx context.Context, registry string, a Access) (string, error) {
	registry, named, err := parseRegistry(registry)
	if err != nil {
		return "", err
	}
	sys, err := a.system(ctx, nil, named)
	if err != nil {
		return "", err
	}
	stored, err := config.GetCredentials(sys, registry)
	if err != nil {
		return "", fmt.Errorf("cannot read the credentials of %s: %w", registry, err)
	}
	return stored.Username, nil
}

// parseRegistry reads HOST[:PORT], also as the URL that people copy from a browser; Docker Hub is docker.io.
func parseRegistry(s string) (string, reference.Named, error) {
	host := strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
	host, _, _ = strings.Cut(host, "/")
	switch host {
	case "", "index.docker.io", "registry-1.docker.io":
		host = "docker.io"
	}
	r, err := ref.Parse(host + "/name")
	if err != nil || r.Domain != host {
		return "", nil, fmt.Errorf("cannot understand registry %q: it is HOST or HOST:PORT", s)
	}
	named, err := parseNamed(host + "/name")
	return host, named, err
}
