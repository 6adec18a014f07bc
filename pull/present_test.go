package pull

import (
	"bytes"
	"testing"

	"github.com/skiff-containers/skiff/storage"
)

// An image over a layer with an id of its own, as older versions wrote them, is loaded while it is there, and gets its name back.
func TestLoadPresent(t *testing.T) {
	s := open(t)
	l, _, err := s.Library().PutLayer("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "", nil, "", false, nil, rootfs(t, "odd"))
	must(t, err)
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + l.UncompressedDigest.String() + `"]}}`
	id, err := s.PutImage([]storage.Layer{{ID: l.ID, DiffID: l.UncompressedDigest.String(), Size: l.UncompressedSize}}, []byte(config), "odd:1")
	must(t, err)
	must(t, s.Reconcile())
	var saved bytes.Buffer
	must(t, Save(t.Context(), s, &saved, []string{"odd:1"}, SaveOptions{Format: "docker-archive"}))
	// While it has another name alone, the image stays and the name is free.
	must(t, s.AddNames(id, "kept:1"))
	must(t, s.Library().RemoveNames(id, []string{"docker.io/library/odd:1"}))
	must(t, s.Reconcile())
	done, err := Load(t.Context(), s, "", &saved, LoadOptions{})
	must(t, err)
	if len(done) != 1 || done[0].ID != id {
		t.Errorf("loaded %+v, want %s", done, id)
	}
	must(t, s.Reconcile())
	if img, err := s.Find("odd:1"); err != nil || img.ID != id {
		t.Errorf("found %v, %v", img, err)
	}
}
