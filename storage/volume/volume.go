// Package volume is named volumes: directories under <data>/volumes that outlive containers.
package volume

import "time"

// Volume is volumes/<name>/volume.json; its files are in volumes/<name>/_data.
type Volume struct {
	Version    int               `json:"version"`
	Name       string            `json:"name"`
	Driver     string            `json:"driver"`
	Created    time.Time         `json:"created"`
	Labels     map[string]string `json:"labels,omitzero"`
	Options    map[string]string `json:"options,omitzero"`
	Anonymous  bool              `json:"anonymous,omitzero"`
	Mountpoint string            `json:"-"`
}

// Errors tested with errors.Is.
var ErrNotFound, ErrExists, ErrInUse error

// Set is <data>/volumes.
type Set struct{ dir string }

// Open names the set under a data directory.
func Open(data string) *Set { return &Set{dir: data + "/volumes"} }

// Create makes a volume; an existing one of the same name and driver is returned with created false.
func (s *Set) Create(v Volume) (vol *Volume, created bool, err error) { panic("stub") }
func (s *Set) Find(name string) (*Volume, error)                      { panic("stub") }
func (s *Set) List() ([]*Volume, error)                               { panic("stub") }

// Remove deletes a volume and its files; inside the user namespace.
func (s *Set) Remove(name string) error { panic("stub") }

// NeedsCopy says whether the volume has never been filled or used; MarkFilled ends that. Filling is package run's.
func (s *Set) NeedsCopy(name string) (bool, error) { panic("stub") }
func (s *Set) MarkFilled(name string) error        { panic("stub") }
