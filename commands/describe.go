package commands

import (
	"fmt"
	"io/fs"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/run/config"
	"github.com/skiff-containers/skiff/storage/record"
)

// labelText is labels as ps shows them: name=value, sorted, with commas.
func labelText(labels map[string]string) string {
	words := make([]string, 0, len(labels))
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		words = append(words, k+"="+labels[k])
	}
	return strings.Join(words, ",")
}

// networkName is what a container's network is called.
func networkName(asked string) string {
	if asked == "" {
		return "bridge"
	}
	return asked
}

// networkNames are all of a container's networks, the first one first.
func networkNames(c *config.Config) []string {
	if len(c.Places) == 0 {
		return []string{networkName(c.Network)}
	}
	var names []string
	for _, p := range c.Places {
		names = append(names, p.Network)
	}
	return names
}

// publishedPorts are a container's published ports: of a running one as they are, since a free port may have been asked for.
func publishedPorts(t run.Container) []config.Port {
	if t.State == record.Running && t.Started != nil && len(t.Started.Ports) > 0 {
		return t.Started.Ports
	}
	return t.Config.Ports
}

// mountNames is the Mounts field of ps: volume names and bind sources.
func mountNames(t *record.Container, whole bool) string {
	var words []string
	for _, u := range t.Volumes {
		words = append(words, u.Name)
	}
	for _, m := range t.Config.Mounts {
		if m.Type == config.MountBind {
			words = append(words, m.Source)
		}
	}
	if !whole {
		for i, w := range words {
			words[i] = ellipsis(w, 15)
		}
	}
	return strings.Join(words, ",")
}

// eachPort calls f for every single published port.
func eachPort(ports []config.Port, f func(p config.Port)) {
	for _, p := range ports {
		count := max(p.Count, 1)
		p.Count = 1
		for range count {
			f(p)
			p.Container++
			if p.Host != 0 {
				p.Host++
			}
		}
	}
}

// portText is the PORTS column of a running container: 0.0.0.0:8080->80/tcp. A range is one word.
func portText(t run.Container) string {
	if t.State != record.Running {
		return ""
	}
	var words []string
	for _, p := range publishedPorts(t) {
		last := uint16(0)
		if p.Count > 1 {
			last = p.Count - 1
		}
		inside := portRange(p.Container, last) + "/" + p.Protocol
		if p.Host == 0 {
			words = append(words, inside)
			continue
		}
		words = append(words, net.JoinHostPort(hostIP(p), portRange(p.Host, last))+"->"+inside)
	}
	return strings.Join(words, ", ")
}

func portRange(first, more uint16) string {
	if more == 0 {
		return strconv.Itoa(int(first))
	}
	return fmt.Sprintf("%d-%d", first, first+more)
}

func hostIP(p config.Port) string {
	if p.HostIP == "" {
		return "0.0.0.0"
	}
	return p.HostIP
}

// layerSize counts the bytes of what a container wrote. It has to run inside the user namespace.
func layerSize(h *run.Host, t *record.Container) (total int64) {
	seen := map[uint64]bool{}
	for _, upper := range []string{"upper", "rootfs"} {
		dir := filepath.Join(h.Records.Dir(t.ID), "layer", upper)
		_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return nil //nolint:nilerr // it was deleted while we looked: it has no size
			}
			var st unix.Stat_t
			if unix.Lstat(path, &st) == nil && !seen[st.Ino] {
				seen[st.Ino] = true
				total += st.Size
			}
			return nil
		})
	}
	return total
}

// sizeText is the SIZE column: what the container wrote, and that with its image.
func sizeText(h *run.Host, t run.Container) string {
	own := layerSize(h, t.Container)
	virtual := own
	if img, err := h.Images.Load(t.ImageID); err == nil {
		virtual += img.Size
	}
	return fmt.Sprintf("%s (virtual %s)", humanSize(own), humanSize(virtual))
}
