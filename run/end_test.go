package run

import (
	"errors"
	"testing"
	"time"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/disk"
	"github.com/skiff-containers/skiff/storage/record"
)

// A monitor that has taken its container's lock before the removal came finds its files where they were.
func TestDiscardLeavesWhoIsStarting(t *testing.T) {
	dir := t.TempDir()
	store, err := record.Open(record.Options{Root: dir + "/data", RunRoot: dir + "/run"})
	if err != nil {
		t.Fatal(err)
	}
	c := &record.Container{Version: record.Version, ID: record.NewID(), Name: "starting", Created: time.Now(), Config: config.Config{}}
	p, err := store.Begin(c)
	if err == nil {
		err = p.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	monitor, err := store.ClaimAlive(c.ID)
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{Records: store, Inside: true}
	if err := h.Discard(c.ID, c, false); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("Discard of a container that is starting: %v, want %v", err, disk.ErrLocked)
	}
	if _, err := store.Load(c.ID); err != nil {
		t.Errorf("its record: %v", err)
	}
	if err := errors.Join(store.Release(c.ID), monitor.Unlock()); err != nil {
		t.Fatal(err)
	}
	if err := h.Discard(c.ID, c, false); err != nil {
		t.Errorf("Discard after its end: %v", err)
	}
	if _, err := store.Load(c.ID); !errors.Is(err, record.ErrNotFound) {
		t.Errorf("after it: %v, want %v", err, record.ErrNotFound)
	}
	if lock, err := store.ClaimAlive(c.ID); err != nil { // whoever starts it too late hears that from Load
		t.Error(err)
	} else if err := lock.Unlock(); err != nil {
		t.Error(err)
	}
}
