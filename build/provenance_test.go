package build

import (
	"testing"

	"github.com/moby/buildkit/solver/pb"
)

func TestPackageURL(t *testing.T) {
	const sum = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	arm := &pb.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	tests := []struct {
		kind, name string
		platform   *pb.Platform
		want, sum  string
	}{
		{"docker", "busybox", nil, "pkg:docker/busybox@latest", ""},
		{"docker", "docker.io/library/busybox:1.36", arm, "pkg:docker/busybox@1.36?platform=linux%2Farm%2Fv7", ""},
		{"docker", "busybox:1@" + sum, nil, "pkg:docker/busybox@1?digest=" + sum, sum},
		{"oci", "quay.io/a/b@" + sum, arm, "pkg:oci/quay.io/a/b?digest=" + sum + "&platform=linux%2Farm%2Fv7", sum},
		{"docker", "localhost:5000/x:y", nil, "pkg:docker/localhost:5000/x@y", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, sum, err := packageURL(tt.kind, tt.name, tt.platform)
			if got != tt.want || string(sum) != tt.sum || err != nil {
				t.Errorf("got %s, %s, %v; want %s", got, sum, err, tt.want)
			}
		})
	}
	if _, _, err := packageURL("docker", "No Name", nil); err == nil {
		t.Error("a name that is none has a package")
	}
}

func TestRedact(t *testing.T) {
	for text, want := range map[string]string{
		"https://user:word@example.com/a.git#main": "https://xxxxx:xxxxx@example.com/a.git#main",
		"https://example.com/a.git":                "https://example.com/a.git",
		"git@example.com:a/b":                      "git@example.com:a/b",
	} {
		if got := redact(text); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
