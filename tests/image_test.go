package tests

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// busyboxArchive makes the docker-archive of the busybox image once per run: all scripts write the same bytes.
var busyboxArchive = sync.OnceValues(makeBusybox)

func writeBusybox(path string) error {
	archive, err := busyboxArchive()
	if err != nil {
		return err
	}
	return os.WriteFile(path, archive, 0o644)
}

// busyboxTree is the machine's static busybox with the users and groups that the scripts name.
func busyboxTree() (tree, error) {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return tree{}, fmt.Errorf("cannot make the test image: %w (Debian: busybox-static)", err)
	}
	binary, err := os.ReadFile(busybox)
	if err != nil {
		return tree{}, err
	}
	applets, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return tree{}, err
	}
	base := tree{
		dirs: []string{"bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr", "usr/bin", "var", "var/www"},
		files: map[string]string{
			"bin/busybox": string(binary),
			"etc/passwd":  "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
			"etc/group":   "root:x:0:\nwww-data:x:33:\nextra:x:44:www-data\nnogroup:x:65534:\n",
		},
		links: map[string]string{},
	}
	for _, name := range bytes.Fields(applets) {
		if string(name) != "busybox" {
			base.links["bin/"+string(name)] = "busybox"
		}
	}
	return base, nil
}

// makeBusybox is an image of two layers.
func makeBusybox() ([]byte, error) {
	base, err := busyboxTree()
	if err != nil {
		return nil, err
	}
	top := tree{
		dirs:  []string{"data"},
		files: map[string]string{"data/greeting": "hello from the image\n", "data/plain": "not executable\n", "etc/top": "second layer\n"},
	}
	config := map[string]any{
		"Cmd": []string{"sh"}, "Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "FROM_IMAGE=yes"},
		"Labels": map[string]string{"org.example.kind": "test"},
	}
	return dockerArchive("busybox:latest", config, base.tar(), top.tar())
}

// tree is the content of a layer: executable files are those under bin.
type tree struct {
	dirs  []string
	files map[string]string
	links map[string]string
}

func (t tree) tar() []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	put := func(h *tar.Header, content string) {
		h.ModTime, h.Size = time.Unix(1700000000, 0), int64(len(content))
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			panic(err)
		}
	}
	for _, name := range t.dirs {
		mode := int64(0o755)
		if name == "tmp" {
			mode = 0o1777
		}
		put(&tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: mode}, "")
	}
	for _, name := range sortedKeys(t.files) {
		mode := int64(0o644)
		if filepath.Dir(name) == "bin" {
			mode = 0o755
		}
		put(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode}, t.files[name])
	}
	for _, name := range sortedKeys(t.links) {
		put(&tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: t.links[name], Mode: 0o777}, "")
	}
	if err := w.Close(); err != nil {
		panic(err) // a buffer takes everything
	}
	return buf.Bytes()
}

// dockerArchive is what `docker save` would write for an image of these layers.
func dockerArchive(name string, config map[string]any, layers ...[]byte) ([]byte, error) {
	var diffIDs, paths []string
	files := map[string]string{}
	var history []map[string]string
	for _, layer := range layers {
		sum := fmt.Sprintf("%x", sha256.Sum256(layer))
		diffIDs, paths = append(diffIDs, "sha256:"+sum), append(paths, sum+".tar")
		files[sum+".tar"] = string(layer)
		history = append(history, map[string]string{"created": "2023-11-14T22:13:20Z", "created_by": "tests"})
	}
	configJSON, err := json.Marshal(map[string]any{
		"architecture": goarch(), "os": "linux", "created": "2023-11-14T22:13:20Z", "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs}, "history": history,
	})
	if err != nil {
		return nil, err
	}
	configName := fmt.Sprintf("%x.json", sha256.Sum256(configJSON))
	files[configName] = string(configJSON)
	manifest, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": []string{name}, "Layers": paths}})
	if err != nil {
		return nil, err
	}
	files["manifest.json"] = string(manifest)
	return tree{files: files}.tar(), nil
}

// debianTar makes a small Debian once and keeps it between runs.
var debianTar = sync.OnceValues(func() (string, error) {
	cache := os.Getenv(envCache)
	if cache == "" {
		cache = os.TempDir()
	}
	path := filepath.Join(cache, "debian-minbase.tar")
	if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
		return path, nil
	}
	// The suite is the machine's: mmdebstrap then takes the machine's own sources.
	cmd := exec.Command("mmdebstrap", "--mode=unshare", "--variant=minbase", "--format=tar", hostSuite(), path+".part")
	// Its root is a subordinate id, which cannot walk into a directory of ours.
	cmd.Env = append(os.Environ(), "TMPDIR=/tmp")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("mmdebstrap: %w\n%s", err, out)
	}
	return path, os.Rename(path+".part", path)
})

// cmdDebian imports a Debian image: debian NAME. The script is skipped where none can be made.
func cmdDebian(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: debian NAME")
	}
	path, err := debianTar()
	if err != nil {
		if os.Getenv("SKIFF_E2E_FULL") != "" {
			ts.Fatalf("cannot make a Debian image: %v", err)
		}
		skip(ts, "cannot make a Debian image: %v", err)
	}
	ts.Check(ts.Exec("skiff", "import", "-c", `CMD ["bash"]`, path, args[0]))
}
