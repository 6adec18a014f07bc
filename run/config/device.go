package config

import "strings"

// IsCDI says whether a --device has the form of a name of the Container Device Interface, VENDOR/CLASS=NAME. Whether there is one of that name is another question.
func IsCDI(s string) bool {
	kind, name, ok := strings.Cut(s, "=")
	vendor, class, has := strings.Cut(kind, "/")
	return ok && has && vendor != "" && class != "" && name != "" && !strings.ContainsAny(kind, ": \t") && !strings.Contains(class, "/")
}

// DeviceEdits are what devices of the Container Device Interface ask of a container, taken from their specs by package run/cdi. Nothing in it has been opened yet.
type DeviceEdits struct {
	Env     []string      `json:"env,omitzero"`
	Devices []Device      `json:"devices,omitzero"`
	Mounts  []DeviceMount `json:"mounts,omitzero"`
	Hooks   []DeviceHook  `json:"hooks,omitzero"`
	Groups  []uint32      `json:"groups,omitzero"` // further ones of the process
}

// DeviceMount is a mount that a device needs, such as a driver's library.
type DeviceMount struct {
	Type      string   `json:"type,omitzero"` // "" is a bind mount
	Host      string   `json:"host"`
	Container string   `json:"container"`
	Options   []string `json:"options,omitzero"`
}

// DeviceHook is a program of the host's that prepares the container for a device. Kind is prestart, createRuntime or createContainer.
type DeviceHook struct {
	Kind    string   `json:"kind"`
	Path    string   `json:"path"`
	Args    []string `json:"args,omitzero"`
	Env     []string `json:"env,omitzero"`
	Timeout *int     `json:"timeout,omitempty"` // seconds
}
