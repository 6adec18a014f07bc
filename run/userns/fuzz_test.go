package userns

import "testing"

// Whatever /etc/subuid has, its ranges are ranges: none is empty, none goes beyond what an id is, and inside they follow one another from 1 on.
func FuzzSubordinate(f *testing.F) {
	for _, s := range []string{"me:100000:65536\n", "1000:1:1\nme:x:y\n", "me:4294967295:2", "me:-1:5", "me:0:10", "me:100000:0", "me:100000:4294967295", "other:1:1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		next := uint32(1)
		for _, e := range parseSubordinate(data, "me", "1000") {
			if e.Count == 0 || e.Inside != next || uint64(e.Outside)+uint64(e.Count) > 1<<32-1 || uint64(e.Inside)+uint64(e.Count) > 1<<32-1 {
				t.Fatalf("%q: %+v", data, e)
			}
			next += e.Count
		}
	})
}
