package record

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/disk"
)

// A --rm container that ran when the machine went down is gone at the first command of the next boot; nothing else is.
func TestFirstCommandOfABoot(t *testing.T) {
	s := open(t)
	boot := filepath.Base(s.Run)
	made := map[string]*Container{}
	for name, started := range map[string]string{"fleeting": "aaaaaaaa", "this-boot": boot, "never": "", "unwritten": "", "kept": "aaaaaaaa", "damaged": "aaaaaaaa"} {
		c := &Container{Version: Version, ID: NewID(), Name: name, Created: time.Now(), Config: config.Config{Remove: name != "kept"}, Anonymous: []string{"of-" + name}}
		p, err := s.Begin(c)
		if err == nil {
			err = p.Commit()
		}
		if err == nil && started != "" {
			err = s.WriteStarted(c.ID, Started{Life: 1, Boot: started}, disk.Volatile)
		}
		switch name {
		case "unwritten":
			err = errors.Join(err, os.Truncate(filepath.Join(s.Dir(c.ID), configFile), 0))
		case "damaged":
			err = errors.Join(err, os.WriteFile(filepath.Join(s.Dir(c.ID), configFile), []byte("{"), 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
		made[name] = c
	}
	again := func() {
		t.Helper()
		if _, err := Open(Options{Root: s.Data, RunRoot: filepath.Dir(s.Run)}); err != nil {
			t.Fatal(err)
		}
	}
	there := func(name string) bool {
		_, err := os.Stat(s.Dir(made[name].ID))
		return err == nil
	}
	again() // of the same boot
	if !there("fleeting") || !there("unwritten") {
		t.Error("a later command of a boot removed something")
	}
	if err := os.Remove(s.Run); err != nil {
		t.Fatal(err)
	}
	again()
	for name := range made {
		if got, want := there(name), name != "fleeting" && name != "unwritten"; got != want {
			t.Errorf("%s: there is %v, want %v", name, got, want)
		}
	}
	var volumes []string
	err := s.Sweep(os.RemoveAll, func(name string) error { volumes = append(volumes, name); return nil })
	if err != nil || len(volumes) != 1 || volumes[0] != "of-fleeting" {
		t.Error("volumes that went along:", volumes, err)
	}
	create(t, s, "fleeting")
	create(t, s, "unwritten")
}
