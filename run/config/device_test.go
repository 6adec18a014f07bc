package config

import "testing"

func TestIsCDI(t *testing.T) {
	for text, want := range map[string]bool{
		"nvidia.com/gpu=all": true, "nvidia.com/gpu=0": true, "a/b=*": true, "vendor.com/class=GPU-1:0": true,
		"/dev/fuse": false, "/dev/a=b": false, "/dev/null:/dev/a=b": false, "nvidia.com/gpu": false, "gpu=all": false, "a/b=": false, "/b=c": false, "a/b/c=d": false, "a b/c=d": false, "": false,
	} {
		if got := IsCDI(text); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
