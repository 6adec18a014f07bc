package build

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/skiff-containers/skiff/storage/image"
)

func TestParseAnnotation(t *testing.T) {
	tests := []struct{ text, want, err string }{
		{"a=b", "[{manifest  a b}]", ""},
		{"a=", "[{manifest  a }]", ""},
		{"a=b=c:d", "[{manifest  a b=c:d}]", ""},
		{"index:a=b", "[{index  a b}]", ""},
		{"index,manifest:a=b", "[{index  a b} {manifest  a b}]", ""},
		{"manifest[linux/arm64/v8]:a=b", "[{manifest linux/arm64 a b}]", ""},
		{"manifest-descriptor[linux/amd64],index-descriptor:a=b", "[{manifest-descriptor linux/amd64 a b} {index-descriptor  a b}]", ""},
		{"com.example/x:y=z", "[{manifest  com.example/x:y z}]", ""},
		{"a", "", "KEY=VALUE"},
		{"=b", "", "no key"},
		{"index:=b", "", "no key"},
		{"label:a=b", "", `"label" is no place`},
		{"index[linux/amd64]:a=b", "", "all platforms"},
		{"manifest[what/is/this/here]:a=b", "", "no place with a platform"},
		{"manifest[linux/amd64:a=b", "", "no place with a platform"},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			list, err := ParseAnnotation(tt.text)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
				return
			}
			if got := fmt.Sprint(list); err != nil || got != tt.want {
				t.Errorf("got %s, %v; want %s", got, err, tt.want)
			}
		})
	}
}

func FuzzParseAnnotation(f *testing.F) {
	f.Add("manifest[linux/amd64],index:a=b")
	f.Add("[]:=")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := ParseAnnotation(text)
		for _, a := range list {
			if err != nil || a.Key == "" || a.On == "" {
				t.Errorf("%q gives %+v, %v", text, a, err)
			}
		}
	})
}

func TestSquashedHistory(t *testing.T) {
	config, err := squashedHistory([]byte(`{"os":"linux","history":[{"comment":"base"},{"comment":"env","empty_layer":true},{"comment":"run"},{"comment":"copy"}]}`), 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		OS      string
		History []image.History
	}
	if err := json.Unmarshal(config, &got); err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, h := range got.History {
		text += fmt.Sprintf("%s:%t ", h.Comment, h.EmptyLayer)
	}
	if want := "base:false env:true run:true copy:true squashed 2 layers:false "; text != want || got.OS != "linux" {
		t.Errorf("got %s %s, want %s", got.OS, text, want)
	}
}
