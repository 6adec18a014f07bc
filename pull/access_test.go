package pull

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/types"
	"golang.org/x/sys/unix"
)

func TestParsePlatform(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "linux/amd64": "linux/amd64", "linux/arm/v7": "linux/arm/v7", "linux/x86_64": "linux/amd64", "linux/aarch64": "linux/arm64",
		"arm64": "linux/arm64", "linux": "linux", "LINUX/ARM64/V8": "linux/arm64/v8", "linux/armhf": "linux/arm/v7",
		"a/b/c/d": "error", "linux/": "error", "/": "error",
	} {
		p, err := ParsePlatform(in)
		if got := p.String(); (err != nil) != (want == "error") || err == nil && got != want {
			t.Errorf("ParsePlatform(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestLoopback(t *testing.T) {
	for domain, want := range map[string]bool{
		"localhost": true, "localhost:5000": true, "127.0.0.1:5000": true, "127.1.2.3": true, "[::1]:5000": true,
		"docker.io": false, "localhost.example.com": false, "10.0.0.1:5000": false, "128.0.0.1": false,
	} {
		if got := loopback(domain); got != want {
			t.Errorf("loopback(%q) = %v", domain, got)
		}
	}
}

func TestParseRegistry(t *testing.T) {
	for in, want := range map[string]string{
		"": "docker.io", "docker.io": "docker.io", "https://index.docker.io/v1/": "docker.io", "localhost:5000": "localhost:5000",
		"https://quay.io": "quay.io", "quay.io/some/path": "quay.io", "no": "error", "a b.c": "error",
	} {
		got, _, err := parseRegistry(in)
		if (err != nil) != (want == "error") || err == nil && got != want {
			t.Errorf("parseRegistry(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestSystem(t *testing.T) {
	no := false
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	address := func(s *httptest.Server) string { return s.Listener.Addr().String() }
	for name, c := range map[string]struct {
		access Access
		image  string
		want   types.OptionalBool
	}{
		"registry on this machine":           {Access{}, address(plain) + "/x", types.OptionalBoolTrue},
		"registry on this machine with TLS":  {Access{}, address(secure) + "/x", types.OptionalBoolUndefined},
		"nobody on this machine":             {Access{}, "localhost:1/x", types.OptionalBoolTrue},
		"registry elsewhere":                 {Access{}, "example.com/x", types.OptionalBoolUndefined},
		"registry elsewhere, no certificate": {Access{TLSVerify: &no}, "example.com/x", types.OptionalBoolTrue},
	} {
		t.Run(name, func(t *testing.T) {
			named, err := parseNamed(c.image)
			if err != nil {
				t.Fatal(err)
			}
			sys, err := c.access.system(t.Context(), nil, named)
			if err != nil || sys.DockerInsecureSkipTLSVerify != c.want {
				t.Errorf("got %v, %v", sys.DockerInsecureSkipTLSVerify, err)
			}
		})
	}
	if _, err := (Access{Creds: ":x"}).system(t.Context(), nil, nil); err == nil {
		t.Error("credentials without a user are accepted")
	}
	if _, err := (Access{AuthFile: "/nonexistent"}).system(t.Context(), nil, nil); err == nil {
		t.Error("a missing credentials file is accepted")
	}
}

func TestPolicy(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	nothing := &types.SystemContext{RootForImplicitAbsolutePaths: t.TempDir()}
	if _, err := (Access{}).policy(nothing); err != nil {
		t.Errorf("without a policy file: %v", err)
	}
	file := filepath.Join(t.TempDir(), "policy.json")
	if _, err := (Access{Policy: file}).policy(&types.SystemContext{SignaturePolicyPath: file}); err == nil {
		t.Error("a named policy file that is missing is accepted")
	}
	if err := os.WriteFile(file, []byte(`{"default":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Access{Policy: file}).policy(&types.SystemContext{SignaturePolicyPath: file}); err == nil {
		t.Error("a bad policy file is accepted")
	}
}

func TestExplain(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
		kind error
	}{
		"full":         {fmt.Errorf("x: %w", unix.ENOSPC), "the disk is full", nil},
		"unauthorised": {docker.ErrUnauthorizedForCredentials{Err: errors.New("x")}, "access refused by reg", ErrUnauthorized},
		"unknown":      {errors.New("reading manifest x in y: manifest unknown"), "no such image in reg", ErrNotFound},
		"host":         {&net.DNSError{Name: "reg"}, "cannot find the host reg", ErrUnreachable},
		"refused":      {errors.New(`Get "https://reg/v2/": dial tcp 1.2.3.4:1: connect: connection refused`), "nothing listens at reg", ErrUnreachable},
		"plain HTTP":   {errors.New("http: server gave HTTP response to HTTPS client"), "reg speaks plain HTTP", ErrUnreachable},
		"certificate":  {errors.New("tls: failed to verify certificate: x509: certificate signed by unknown authority (possibly because of x)"), "cannot be verified: certificate signed by unknown authority", ErrUnreachable},
		"digest":       {errors.New("Digest did not match, expected sha256:a, got sha256:b"), "expected sha256:a, got sha256:b", ErrCorrupt},
		"short":        {fmt.Errorf("x: %w", io.ErrUnexpectedEOF), "the data ends early", ErrCorrupt},
		"damaged":      {errors.New("gzip: invalid checksum"), "a layer is damaged", ErrCorrupt},
		"blocked":      {errors.New(`registry reg is blocked in one of ["a" "b"]`), "registries.conf blocks reg", nil},
		"lines":        {errors.New("one\n two"), "one two", nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := explain(t.Context(), "pull", "reg/x", "reg", c.err)
			text := err.Error()
			if !strings.HasPrefix(text, "cannot pull reg/x: ") || !strings.HasSuffix(text, c.want) && !strings.Contains(text, c.want) || strings.Contains(text, "\n") {
				t.Errorf("got %q", text)
			}
			if c.kind != nil && !errors.Is(err, c.kind) {
				t.Errorf("%v is not %v", err, c.kind)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := explain(ctx, "pull", "x", "", errors.New("whatever")); !strings.HasSuffix(err.Error(), "interrupted") {
		t.Errorf("after an interruption: %v", err)
	}
}

func TestLayoutName(t *testing.T) {
	const oci, containerd = "org.opencontainers.image.ref.name", "io.containerd.image.name"
	for name, c := range map[string]struct {
		annotations map[string]string
		want        string
	}{
		"none":       {nil, ""},
		"a tag":      {map[string]string{oci: "latest"}, ""},
		"a name":     {map[string]string{oci: "foo/bar:1"}, "docker.io/foo/bar:1"},
		"containerd": {map[string]string{oci: "latest", containerd: "docker.io/library/x:latest"}, "docker.io/library/x:latest"},
		"nonsense":   {map[string]string{oci: "UPPER/x:/"}, ""},
	} {
		if got := layoutName(c.annotations); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
