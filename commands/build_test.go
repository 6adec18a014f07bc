//go:build !front

package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseDestination(t *testing.T) {
	tests := []struct{ text, want, err string }{
		{"out", "local out [] false false", ""},
		{"-", "tar - [] false false", ""},
		{"type=tar,dest=x.tar", "tar x.tar [] false false", ""},
		{"type=registry,name=a/b", "image  [a/b] true false", ""},
		{"type=image,push=true,rewrite-timestamp=true", "image  [] true true", ""},
		{"type=docker", "docker  [] false false", ""},
		{"type=local", "", "needs dest"},
		{"type=zip,dest=x", "", "type \"zip\""},
		{"type=tar,dest=x,color=red", "", "\"color\""},
		{"dest=x", "", "type \"\""},
		{"type=tar,dest", "", "\"dest\""},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			d, err := parseDestination(tt.text)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
				return
			}
			if got := fmt.Sprint(d.kind, " ", d.dest, " ", d.names, " ", d.push, " ", d.rewrite); err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func FuzzParseDestination(f *testing.F) {
	f.Add("type=tar,dest=x")
	f.Add("=,=")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDestination(text)
		if err == nil && d.kind == "" {
			t.Errorf("%q is a destination of no kind", text)
		}
	})
}

func TestBuildSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("file"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOME", "variable")
	tests := []struct{ text, id, want, err string }{
		{"id=a,src=" + file, "a", "file", ""},
		{"id=a,source=" + file, "a", "file", ""},
		{"type=file,id=a,src=" + file, "a", "file", ""},
		{"id=a,env=SOME", "a", "variable", ""},
		{"id=SOME", "SOME", "variable", ""},
		{"type=env,id=SOME", "SOME", "variable", ""},
		{"src=" + file, "", "", "no id"},
		{"id=a,env=NONE", "", "", "NONE"},
		{"id=a,src=" + file + ".none", "", "", "no such file"},
		{"id=a,src=/", "", "", "is no file"},
		{"id=a,what=b", "", "", "\"what\""},
		{"a", "", "", "KEY=VALUE"},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			all, err := buildSecrets([]string{tt.text})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || all[tt.id] == nil {
				t.Fatalf("got %v, %v", all, err)
			}
			if got, err := all[tt.id](); err != nil || string(got) != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}
