package pull

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"

	"github.com/skiff-containers/skiff/storage"
)

// Access is how registries are reached and what is accepted from them. The zero value is what configuration files say.
type Access struct {
	// TLSVerify overrides registries.conf. By default registries speak TLS with certificates that can be verified; those on the loopback
	// interface may also speak plain HTTP, as with Docker, but when they do speak TLS it is verified.
	TLSVerify *bool
	Creds     string // USER[:PASSWORD], instead of stored credentials
	AuthFile  string // instead of $REGISTRY_AUTH_FILE and the default files
	CertDir   string // *.crt, *.cert and *.key for the registry
	Policy    string // a policy.json, instead of the user's or the system's
}

// system is the library's view of an Access for one registry; named is nil for what is no registry's.
func (a Access) system(ctx context.Context, s *storage.Store, named reference.Named) (*types.SystemContext, error) {
	sys := &types.SystemContext{
		DockerRegistryUserAgent: "skiff",
		AuthFilePath:            a.AuthFile,
		DockerCertPath:          a.CertDir,
		SignaturePolicyPath:     a.Policy,
	}
	if s != nil {
		sys.BigFilesTemporaryDir = s.Scratch()
		sys.BlobInfoCacheDir = filepath.Join(s.Data(), "storage", "cache")
	}
	if sys.AuthFilePath == "" {
		sys.AuthFilePath = os.Getenv("REGISTRY_AUTH_FILE")
	}
	if dir := os.Getenv("DOCKER_CONFIG"); sys.AuthFilePath == "" && dir != "" {
		sys.DockerCompatAuthFilePath = filepath.Join(dir, "config.json")
	}
	if a.AuthFile != "" {
		if _, err := os.Stat(a.AuthFile); err != nil {
			return nil, fmt.Errorf("cannot read the credentials: %w", err)
		}
	}
	if a.Creds != "" {
		user, password, _ := strings.Cut(a.Creds, ":")
		if user == "" {
			return nil, errors.New("cannot use --creds: it has no user name (USER:PASSWORD)")
		}
		sys.DockerAuthConfig = &types.DockerAuthConfig{Username: user, Password: password}
	}
	switch {
	case a.TLSVerify != nil:
		sys.DockerInsecureSkipTLSVerify = types.NewOptionalBool(!*a.TLSVerify)
		sys.OCIInsecureSkipTLSVerify = !*a.TLSVerify
	case named != nil && loopback(reference.Domain(named)):
		// What registries.conf says of it comes first.
		configured, err := sysregistriesv2.FindRegistry(sys, named.Name())
		if err != nil {
			return nil, &Error{What: "cannot read registries.conf: " + oneLine(err), Err: err}
		}
		if configured == nil && !speaksTLS(ctx, reference.Domain(named)) {
			sys.DockerInsecureSkipTLSVerify = types.OptionalBoolTrue
		}
	}
	return sys, nil
}

// loopback recognises registries on this machine: localhost, 127.0.0.0/8 and ::1, with or without a port.
func loopback(domain string) bool {
	host := domain
	if h, _, err := net.SplitHostPort(domain); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// speaksTLS asks whether a TLS handshake is answered, whatever the certificate: only then is there one to verify.
func speaksTLS(ctx context.Context, domain string) bool {
	if _, _, err := net.SplitHostPort(domain); err != nil {
		domain = net.JoinHostPort(strings.Trim(domain, "[]"), "443")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // nothing is said on this connection
	connection, err := d.DialContext(ctx, "tcp", domain)
	if err != nil {
		return false
	}
	_ = connection.Close()
	return true
}

// policy reads the signature policy. Without one anywhere every image is accepted, as Docker does; a file that is there is obeyed.
func (a Access) policy(sys *types.SystemContext) (*signature.PolicyContext, error) {
	policy, err := signature.DefaultPolicy(sys)
	if storage.NoConfigFile(err) && a.Policy == "" {
		policy, err = &signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}}, nil
	}
	if err != nil {
		return nil, &Error{What: "cannot read the signature policy: " + oneLine(err), Err: err, Help: "see containers-policy.json(5)"}
	}
	return signature.NewPolicyContext(policy)
}

// trustAll is the policy of images that are in the store already.
func trustAll() (*signature.PolicyContext, error) {
	return signature.NewPolicyContext(&signature.Policy{Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()}})
}
