//go:build !front

package commands

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseProvenance(t *testing.T) {
	tests := []struct{ flag, text, want, err string }{
		{"attest", "type=provenance", "provenance: {false   false}", ""},
		{"attest", "type=provenance,mode=max,version=v0.2,builder-id=https://b/1,reproducible=true", "provenance: {true v0.2 https://b/1 true}", ""},
		{"attest", "type=provenance,disabled=true", "provenance:true {false   false}", ""},
		{"provenance", "true", "provenance:false {false   false}", ""},
		{"provenance", "0", "provenance:true {false   false}", ""},
		{"provenance", "mode=min", "provenance: {false   false}", ""},
		{"provenance", "mode=most", "", `"most"`},
		{"provenance", "version=v2", "", `"v2"`},
		{"provenance", "perhaps", "", "KEY=VALUE"},
		{"provenance", "colour=red", "", `"colour"`},
		{"provenance", "reproducible=never", "", "never"},
		{"attest", "mode=max", "", "no type"},
		{"attest", "", "", "KEY=VALUE"},
	}
	for _, tt := range tests {
		t.Run(tt.flag+" "+tt.text, func(t *testing.T) {
			fields, err := attestFields(tt.flag, tt.text)
			got := ""
			if err == nil {
				p, parseErr := parseProvenance(fields)
				if err = parseErr; err == nil {
					got = fmt.Sprintf("%s:%s %v", fields["type"], fields["disabled"], *p)
				}
			}
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %s, %v; want %s", got, err, tt.want)
			}
		})
	}
}
