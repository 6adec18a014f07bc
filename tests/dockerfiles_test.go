package tests

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdDockerfiles builds each NAME.dockerfile that a pattern matches and compares what the image has with NAME.want: dockerfiles CONTEXT PATTERN. Flags of the build are in a comment that begins
// with "# flags:". Everything in the context gets one time first. Of an image are shown
//
//	Key: VALUE          what its configuration says, where it differs from busybox's
//	+ CREATED BY        a line of its history that made a layer, with what is in that:
//	    f 640 5:6 PATH "content" @SECONDS       (d, f, l, p, h, x: directory, file, link, pipe, further name, removed; times only of what is older than the test)
//	- CREATED BY        a line of its history that made none
//
// from the end of its base on. An image whose history has another number of layers than its configuration is wrong.
func cmdDockerfiles(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: dockerfiles CONTEXT PATTERN")
	}
	dir := ts.MkAbs(args[0])
	when := time.Unix(1500000000, 0)
	ts.Check(filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.Type()&os.ModeSymlink != 0 {
			return err
		}
		return os.Chtimes(path, when, when)
	}))
	files, err := filepath.Glob(filepath.Join(ts.MkAbs("."), args[1]+".dockerfile"))
	ts.Check(err)
	if len(files) == 0 {
		ts.Fatalf("no Dockerfile matches %s", args[1])
	}
	failed := 0
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".dockerfile")
		words := []string{"build", "-q", "--network", "none", "-f", file, "-t", "dockerfile-" + name, dir}
		for line := range strings.Lines(ts.ReadFile(file)) {
			if flags, ok := strings.CutPrefix(line, "# flags:"); ok {
				words = append(words, strings.Fields(flags)...)
			}
		}
		archive := filepath.Join(ts.Getenv("TMPDIR"), name+".tar")
		if err := errors.Join(ts.Exec("skiff", words...), ts.Exec("skiff", "save", "-o", archive, "dockerfile-"+name)); err != nil {
			ts.Fatalf("%s: %v\n%s", name, err, ts.ReadFile("stderr"))
		}
		got, err := describeArchive(archive)
		if err = errors.Join(err, os.Remove(archive)); err != nil {
			ts.Fatalf("%s: %v", name, err)
		}
		if update := os.Getenv("SKIFF_E2E_UPDATE"); update != "" {
			ts.Check(os.WriteFile(filepath.Join(update, name+".want"), []byte(got), 0o644))
			continue
		}
		if want := ts.ReadFile(name + ".want"); got != want {
			failed++
			ts.Logf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
	if failed > 0 {
		ts.Fatalf("%d of %d images are not what they should be", failed, len(files))
	}
}

// imageConfig is what the tests look at of an image's configuration.
type imageConfig struct {
	Author  string                     `json:"author"`
	Config  map[string]json.RawMessage `json:"config"`
	History []struct {
		CreatedBy string `json:"created_by"`
		Empty     bool   `json:"empty_layer"`
	} `json:"history"`
	RootFS struct {
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// describeArchive reads a Docker archive of one image: an OCI configuration has no room for all that Dockerfiles say.
func describeArchive(path string) (string, error) {
	blobs, err := archiveBlobs(path)
	if err != nil {
		return "", err
	}
	var manifest []struct {
		Config string
		Layers []string
	}
	var config imageConfig
	if err := json.Unmarshal(blobs["manifest.json"], &manifest); err != nil || len(manifest) != 1 {
		return "", fmt.Errorf("the archive's manifest is odd: %w", err)
	}
	if err := json.Unmarshal(blobs[manifest[0].Config], &config); err != nil {
		return "", err
	}
	list := manifest[0].Layers
	var out strings.Builder
	if config.Author != "" {
		fmt.Fprintf(&out, "Author: %s\n", config.Author)
	}
	// What busybox has is shown only where it is not so.
	base := map[string]string{"Cmd": `["sh"]`, "Env": `[PATH,"FROM_IMAGE=yes"]`, "Labels": `{"org.example.kind":"test"}`}
	keys := map[string]string{"Cmd": "", "Env": "", "Labels": ""}
	for key, value := range config.Config {
		keys[key] = string(value)
	}
	for _, key := range sortedKeys(keys) {
		v := strings.ReplaceAll(keys[key], `"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"`, "PATH")
		switch {
		case v == base[key]:
		case !slices.Contains([]string{"", "null", `""`, "{}", "[]"}, v):
			fmt.Fprintf(&out, "%s: %s\n", key, v)
		case base[key] != "":
			fmt.Fprintf(&out, "%s: none\n", key)
		}
	}
	layers := 0
	for _, h := range config.History {
		if h.Empty {
			fmt.Fprintf(&out, "- %s\n", h.CreatedBy)
			continue
		}
		if layers++; layers > len(list) {
			return "", fmt.Errorf("the history has more layers than the %d of the image", len(list))
		}
		if h.CreatedBy == "tests" { // the base's
			continue
		}
		fmt.Fprintf(&out, "+ %s\n", h.CreatedBy)
		if err := describeLayer(&out, blobs[list[layers-1]]); err != nil {
			return "", err
		}
	}
	if layers != len(list) || layers != len(config.RootFS.DiffIDs) {
		return "", fmt.Errorf("the history has %d layers, the manifest %d, the configuration %d", layers, len(list), len(config.RootFS.DiffIDs))
	}
	return out.String(), nil
}

// archiveBlobs are the files of a tar archive.
func archiveBlobs(path string) (map[string][]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	blobs := map[string][]byte{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return blobs, nil
		}
		if err == nil {
			blobs[h.Name], err = io.ReadAll(r)
		}
		if err != nil {
			return nil, err
		}
	}
}

// describeLayer lists what is in a layer.
func describeLayer(out io.Writer, data []byte) error {
	var lines []string
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name := "/" + strings.Trim(h.Name, "/")
		if up, gone, ok := strings.Cut(name, ".wh."); ok {
			lines = append(lines, "    x "+up+gone)
			continue
		}
		kind := map[byte]string{tar.TypeDir: "d", tar.TypeReg: "f", tar.TypeSymlink: "l", tar.TypeFifo: "p", tar.TypeLink: "h"}[h.Typeflag]
		line := fmt.Sprintf("    %s %o %d:%d %s", kind, h.Mode&0o7777, h.Uid, h.Gid, name)
		switch h.Typeflag {
		case tar.TypeSymlink, tar.TypeLink:
			line += " -> " + h.Linkname
		case tar.TypeReg:
			text, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			if line += fmt.Sprintf(" %q", text); len(text) > 200 {
				line = fmt.Sprintf("%s and more, %d bytes", line[:strings.IndexByte(line, '"')], len(text))
			}
		}
		for key, value := range h.PAXRecords {
			if attribute, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
				line += fmt.Sprintf(" %s=%q", attribute, value)
			}
		}
		if h.ModTime.Before(time.Unix(1600000000, 0)) {
			line += fmt.Sprintf(" @%d", h.ModTime.Unix())
		}
		lines = append(lines, line)
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(pathOf(a), pathOf(b)) })
	for _, line := range lines {
		fmt.Fprintln(out, line)
	}
	return nil
}

// pathOf is the part of a line from the path on.
func pathOf(line string) string { return line[strings.IndexByte(line, '/'):] }
