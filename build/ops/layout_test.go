package ops

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLayouts(t *testing.T) {
	const one, two = "sha256:1111111111111111111111111111111111111111111111111111111111111111", "sha256:2222222222222222222222222222222222222222222222222222222222222222"
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "index.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entry := func(sum, name string) string {
		return fmt.Sprintf(`{"digest":%q,"annotations":{"org.opencontainers.image.ref.name":%q}}`, sum, name)
	}
	write("single", `{"manifests":[`+entry(one, "")+`]}`)
	write("many", `{"manifests":[`+entry(one, "docker.io/library/x:old")+`,`+entry(two, "latest")+`]}`)
	write("odd:name", `{"manifests":[`+entry(two, "")+`]}`)
	write("none", `{"manifests":[]}`)
	write("damaged", `{`)
	write("forged", `{"manifests":[{"digest":"sha256:../../x"}]}`)
	tests := []struct {
		where string
		index int
		err   string
	}{
		{"single", 0, ""},
		{"many", 1, ""},
		{"many:old", 0, ""},
		{"many:latest", 1, ""},
		{"many@" + one, 0, ""},
		{"many:old@" + two, 1, ""},
		{"odd:name", 0, ""},
		{"single:other", 0, "no image other in it; there are: " + one},
		{"single@" + two, 0, "no image " + two},
		{"none", 0, "no image in it"},
		{"damaged", 0, "damaged"},
		{"forged", 0, "damaged"},
		{"missing", 0, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.where, func(t *testing.T) {
			at, tag, sum := splitLayout(filepath.Join(dir, tt.where))
			index, _, err := FindInLayout(at, tag, sum)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || index != tt.index {
				t.Errorf("got %d, %v; want %d", index, err, tt.index)
			}
		})
	}
}
