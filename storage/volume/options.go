package volume

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// The options of the local driver, as Docker's: what to mount (type, device) and how (o). The mount of a host directory is done as any other bind; other file systems take a privileged user.
const (
	optionType   = "type"
	optionDevice = "device"
	optionHow    = "o"
)

// Source is the directory that containers get: the host's, of a volume that is one (o=bind), else the volume's own.
func (v *Volume) Source() string {
	if v.Bound() {
		return v.Options[optionDevice]
	}
	return v.Mountpoint
}

// Bound says whether the volume is a directory of the host's, which is left as it is when the volume is removed.
func (v *Volume) Bound() bool { return v.Options[optionDevice] != "" }

// checkOptions refuses options other than those of a bind: type=none (or bind, or nothing), o=bind, device=/a/directory.
func checkOptions(options map[string]string) error {
	for key := range options {
		if key != optionType && key != optionDevice && key != optionHow {
			return fmt.Errorf("there is no option %q; there are type, device and o", key)
		}
	}
	kind, device := options[optionType], options[optionDevice]
	how := strings.Split(options[optionHow], ",")
	switch {
	case kind == "tmpfs":
		return fmt.Errorf("a tmpfs would be shared by containers that come and go; give each its own (--tmpfs)")
	case kind != "" && kind != "none" && kind != "bind":
		return fmt.Errorf("mounting %s needs a privileged user; mount it on the host and name that directory (type=none, o=bind, device=DIR)", kind)
	case !slices.Contains(how, "bind") && !slices.Contains(how, "rbind"):
		return fmt.Errorf("the option o must be bind: write type=none, o=bind, device=DIR")
	case !filepath.IsAbs(device):
		return fmt.Errorf("the device %q is no absolute path of a directory", device)
	}
	for _, word := range how {
		if !slices.Contains([]string{"bind", "rbind", "rw"}, word) {
			return fmt.Errorf("o=%s cannot be used; it is bind, and what else is to be had is said where the volume is mounted (-v NAME:TARGET:ro)", word)
		}
	}
	return nil
}
