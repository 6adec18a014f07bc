package tests

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPromises wants every test that docs/security.md names to be there.
func TestPromises(t *testing.T) {
	text, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	word := regexp.MustCompile("`[A-Za-z0-9_/]+`")
	rows := 0
	for line := range strings.Lines(string(text)) {
		columns := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(columns) != 3 || !strings.Contains(columns[2], "`") {
			continue
		}
		rows++
		dir := ""
		for _, name := range word.FindAllString(columns[2], -1) {
			name = strings.Trim(name, "`")
			switch {
			case strings.HasPrefix(name, "Test"): // of the package named before
				if !declares(t, filepath.Join("..", dir), name) {
					t.Errorf("%s has no %s", dir, name)
				}
			case strings.Contains(name, "/"):
				dir = name
			default:
				if _, err := os.Stat(filepath.Join("e2e", name+".txtar")); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if rows < 10 {
		t.Errorf("%d rows", rows)
	}
}

// declares says whether a package's directory has a test of that name.
func declares(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "func "+name+"(") {
			return true
		}
	}
	return false
}
