// Package cdi finds devices of the Container Device Interface: files that say which device nodes, mounts, variables and hooks a container needs to use a GPU or the like, by the names
// VENDOR/CLASS=NAME. It reads them with the interface's own library and changes nothing; applying what it finds is run/spec's.
//
// It runs in the engine: in a build, or as a process that a monitor starts when its container has such a device.
package cdi

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"tags.cncf.io/container-device-interface/pkg/cdi"
	"tags.cncf.io/container-device-interface/pkg/parser"
	specs "tags.cncf.io/container-device-interface/specs-go"

	"github.com/skiff-containers/skiff/run/config"
)

// classAnnotation is BuildKit's name for a class of devices of several vendors (RUN --device=CLASS).
const classAnnotation = "org.mobyproject.buildkit.device.class"

// Dirs are the directories that hold specs, the weakest first: the machine's, then the user's, as rootless Docker has them.
func Dirs(getenv func(string) string) []string {
	dirs := []string{cdi.DefaultStaticDir, cdi.DefaultDynamicDir}
	user := getenv("XDG_CONFIG_HOME")
	if home := getenv("HOME"); user == "" && home != "" {
		user = filepath.Join(home, ".config")
	}
	for _, dir := range []string{user, getenv("XDG_RUNTIME_DIR")} {
		if filepath.IsAbs(dir) {
			dirs = append(dirs, filepath.Join(dir, "cdi"))
		}
	}
	return dirs
}

// Devices are those that some directories describe.
type Devices struct {
	cache *cdi.Cache
	dirs  []string
}

// Open reads the specs in dirs. One that cannot be read is told when a device is not found.
func Open(dirs []string) (*Devices, error) {
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		return nil, fmt.Errorf("cannot read the specs of devices: %w", err)
	}
	return &Devices{cache, dirs}, nil
}

// Find resolves what people write, VENDOR/CLASS=NAME, VENDOR/CLASS=* for all of them, VENDOR/CLASS for the first, or a class that the specs' annotations give, to names. An unknown one is a
// *NotFoundError.
func (d *Devices) Find(word string) ([]string, error) {
	kind, name, _ := strings.Cut(word, "=")
	all := d.cache.ListDevices()
	slices.Sort(all)
	var found []string
	if vendor, _ := parser.ParseQualifier(kind); vendor != "" {
		for _, known := range all {
			if known == word || name == "*" && strings.HasPrefix(known, kind+"=") || name == "" && len(found) == 0 && strings.HasPrefix(known, kind+"=") {
				found = append(found, known)
			}
		}
	}
	for _, known := range all {
		if dev := d.cache.GetDevice(known); len(found) == 0 && word != "" && dev != nil && dev.Annotations[classAnnotation] == word {
			found = append(found, known)
		}
	}
	if len(found) == 0 {
		return nil, &NotFoundError{Name: word, known: all, dirs: d.dirs, errs: d.broken()}
	}
	return found, nil
}

// broken are the errors of the files, in the order of their names.
func (d *Devices) broken() (errs []error) {
	byFile := d.cache.GetErrors()
	var files []string
	for file := range byFile {
		files = append(files, file)
	}
	slices.Sort(files)
	for _, file := range files {
		errs = append(errs, byFile[file]...)
	}
	return errs
}

// NotFoundError says that no spec describes a device.
type NotFoundError struct {
	Name        string
	known, dirs []string
	errs        []error
}

func (e *NotFoundError) Error() string {
	text := fmt.Sprintf("cannot find device %s", e.Name)
	if len(e.errs) > 0 {
		text += fmt.Sprintf(": %s", strings.ReplaceAll(errors.Join(e.errs...).Error(), "\n", "; "))
	}
	return text
}

// Hint tells where specs are looked for, and what they have.
func (e *NotFoundError) Hint() string {
	if len(e.known) > 0 {
		return "there are " + strings.Join(e.known, ", ")
	}
	return "no device is described in " + strings.Join(e.dirs, ", ") + "; its vendor's tool writes a spec (nvidia-ctk cdi generate)"
}

// Resolve is Find and Edits for several words at once.
func (d *Devices) Resolve(words []string) (config.DeviceEdits, error) {
	var names []string
	for _, word := range words {
		found, err := d.Find(word)
		if err != nil {
			return config.DeviceEdits{}, err
		}
		names = append(names, found...)
	}
	return d.Edits(names)
}

// Edits are what the named devices need, each once, with what their specs need for any of their devices.
func (d *Devices) Edits(names []string) (config.DeviceEdits, error) {
	var out config.DeviceEdits
	specsDone, done := map[*cdi.Spec]bool{}, map[string]bool{}
	for _, name := range names {
		dev := d.cache.GetDevice(name)
		if dev == nil {
			return out, &NotFoundError{Name: name, known: d.cache.ListDevices(), dirs: d.dirs, errs: d.broken()}
		}
		if done[name] {
			continue
		}
		done[name] = true
		edits := []specs.ContainerEdits{dev.ContainerEdits}
		if spec := dev.GetSpec(); !specsDone[spec] {
			specsDone[spec] = true
			edits = append([]specs.ContainerEdits{spec.ContainerEdits}, edits...)
		}
		for _, e := range edits {
			if err := add(&out, e); err != nil {
				return out, fmt.Errorf("cannot give device %s: %w", name, err)
			}
		}
	}
	return out, nil
}

// add puts one spec's words into ours, and refuses what an ordinary user's container cannot have.
func add(out *config.DeviceEdits, e specs.ContainerEdits) error {
	if e.IntelRdt != nil {
		return errors.New("it asks for Intel RDT, which an ordinary user cannot set")
	}
	if len(e.NetDevices) > 0 {
		return fmt.Errorf("it asks for the host's network interface %s, which an ordinary user cannot move", e.NetDevices[0].HostInterfaceName)
	}
	out.Env = append(out.Env, e.Env...)
	out.Groups = append(out.Groups, e.AdditionalGIDs...)
	for _, n := range e.DeviceNodes {
		node := config.Device{Host: n.HostPath, Container: n.Path, Permissions: n.Permissions}
		if node.Host == "" {
			node.Host = n.Path
		}
		out.Devices = append(out.Devices, node)
	}
	for _, m := range e.Mounts {
		out.Mounts = append(out.Mounts, config.DeviceMount{Type: m.Type, Host: m.HostPath, Container: m.ContainerPath, Options: m.Options})
	}
	for _, h := range e.Hooks {
		switch h.HookName {
		case cdi.PrestartHook, cdi.CreateRuntimeHook, cdi.CreateContainerHook:
		default:
			return fmt.Errorf("it asks for a %s hook; prestart, createRuntime and createContainer hooks are run", h.HookName)
		}
		out.Hooks = append(out.Hooks, config.DeviceHook{Kind: h.HookName, Path: h.Path, Args: h.Args, Env: h.Env, Timeout: h.Timeout})
	}
	return nil
}
