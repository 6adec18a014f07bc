package ops

// This file fetches what is elsewhere: a file by http(s), a repository by the git program.

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/skiff-containers/skiff/build/files"
	"github.com/skiff-containers/skiff/build/snap"
	"github.com/skiff-containers/skiff/storage/disk"
)

// fetched is a download or a clone, made once in a build.
type fetched struct {
	once   sync.Once
	err    error
	path   string // of the file, or of the clone
	name   string // of a file
	sum    string // of a file
	at     time.Time
	commit string
	subdir string
}

// fetch finds what was fetched for a source, fetching it the first time.
func (e *Env) fetch(op *pb.SourceOp, get func(*fetched) error) (*fetched, error) {
	key := op.Identifier + "\x00" + fmt.Sprint(op.Attrs)
	found, _ := e.gotten.LoadOrStore(key, &fetched{})
	f, ok := found.(*fetched)
	if !ok {
		return nil, errors.New("cannot remember what was fetched")
	}
	f.once.Do(func() { f.err = get(f) })
	return f, f.err
}

// download gets a file by http(s) into the scratch directory and checks its digest.
func (e *Env) download(ctx context.Context, op *pb.SourceOp) (*fetched, error) {
	return e.fetch(op, func(f *fetched) error {
		if err := e.get(ctx, op, f); err != nil {
			return fmt.Errorf("cannot download %s: %w", op.Identifier, err)
		}
		return nil
	})
}

func (e *Env) get(ctx context.Context, op *pb.SourceOp, f *fetched) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, op.Identifier, nil)
	if err != nil {
		return err
	}
	for k, v := range op.Attrs {
		if name, ok := strings.CutPrefix(k, pb.AttrHTTPHeaderPrefix); ok {
			req.Header.Set(name, v)
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // only read from
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answers %s", res.Status)
	}
	out, err := os.CreateTemp(e.Images.Scratch(), "download-")
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), res.Body)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	f.path, f.sum, f.name = out.Name(), "sha256:"+hex.EncodeToString(h.Sum(nil)), fileName(op, res)
	if want := op.Attrs[pb.AttrHTTPChecksum]; want != "" && want != f.sum {
		return fmt.Errorf("its digest is %s, not %s as asked", f.sum, want)
	}
	f.at = time.Unix(0, 0)
	if t, err := http.ParseTime(res.Header.Get("Last-Modified")); err == nil {
		f.at = t
	}
	return nil
}

// fileName is what a download is called: as asked, as the server says, or as its URL ends.
func fileName(op *pb.SourceOp, res *http.Response) string {
	name := op.Attrs[pb.AttrHTTPFilename]
	if name == "" {
		if _, params, err := mime.ParseMediaType(res.Header.Get("Content-Disposition")); err == nil {
			name = params["filename"]
		}
	}
	if name == "" {
		if u, err := url.Parse(op.Identifier); err == nil {
			name = u.Path
		}
	}
	name = path.Base(path.Clean("/" + name))
	if name == "/" || name == "." || name == ".." {
		return "download"
	}
	return name
}

// downloaded makes a tree of a download.
func (e *Env) downloaded(ctx context.Context, op *pb.SourceOp, name string) (*Ref, error) {
	f, err := e.download(ctx, op)
	if err != nil {
		return nil, err
	}
	d, err := e.Snap.New(ctx, nil)
	if err != nil {
		return nil, err
	}
	perm := uint32(0o600)
	if p, err := strconv.ParseUint(op.Attrs[pb.AttrHTTPPerm], 0, 32); err == nil {
		perm = uint32(p)
	}
	owner := files.Owner{}
	for attr, to := range map[string]*uint32{pb.AttrHTTPUID: &owner.UID, pb.AttrHTTPGID: &owner.GID} {
		if n, err := strconv.ParseUint(op.Attrs[attr], 10, 32); err == nil {
			*to = uint32(n)
		}
	}
	dir, err := os.Open(filepath.Dir(f.path))
	if err == nil {
		pick := files.Pick{Path: filepath.Base(f.path)}
		err = files.Copy(ctx, files.Source{Root: dir}, d.Root(), "/"+f.name, files.CopyOptions{Pick: pick, Owner: &owner, Mode: &perm, Time: &f.at})
		_ = dir.Close()
	}
	return e.keep(d, name, err)
}

// keep makes a step of a draft, or throws it away after an error.
func (e *Env) keep(d *snap.Draft, name string, err error) (*Ref, error) {
	if err != nil {
		return nil, errors.Join(err, d.Discard())
	}
	tree, err := d.Commit(name)
	if err != nil {
		return nil, err
	}
	return &Ref{Key: tree.ID(), Tree: tree}, nil
}

// clone fetches a commit of a repository.
func (e *Env) clone(ctx context.Context, op *pb.SourceOp) (*fetched, error) {
	return e.fetch(op, func(f *fetched) error {
		remote := op.Attrs[pb.AttrFullRemoteURL]
		_, fragment, _ := strings.Cut(op.Identifier, "#")
		ref, subdir, _ := strings.Cut(fragment, ":")
		if remote == "" {
			remote, _, _ = strings.Cut(op.Identifier, "#")
		}
		f.subdir = subdir
		if err := e.checkout(ctx, op, f, remote, ref); err != nil {
			return fmt.Errorf("cannot clone %s: %w", remote, err)
		}
		return nil
	})
}

func (e *Env) checkout(ctx context.Context, op *pb.SourceOp, f *fetched, remote, ref string) error {
	if strings.HasPrefix(ref, "-") || strings.HasPrefix(remote, "-") {
		return fmt.Errorf("%q is no reference", ref)
	}
	var err error
	if f.path, err = os.MkdirTemp(e.Images.Scratch(), "clone-"); err != nil {
		return err
	}
	if ref == "" {
		ref = "HEAD"
	}
	if _, err := git(ctx, f.path, "init", "-q"); err != nil {
		return err
	}
	if _, err := git(ctx, f.path, "fetch", "-q", "--depth=1", "--", remote, ref); err != nil {
		// Not every server gives a commit by its digest.
		if _, all := git(ctx, f.path, "fetch", "-q", "--tags", "--", remote, "+refs/heads/*:refs/remotes/origin/*"); all != nil {
			return err
		}
		if _, none := git(ctx, f.path, "rev-parse", "-q", "--verify", ref+"^{commit}"); none != nil {
			return fmt.Errorf("it has no branch, tag or commit %s", ref)
		}
		if _, err := git(ctx, f.path, "checkout", "-q", "--detach", ref); err != nil {
			return err
		}
	} else if _, err := git(ctx, f.path, "checkout", "-q", "--detach", "FETCH_HEAD"); err != nil {
		return err
	}
	commit, err := git(ctx, f.path, "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	f.commit = strings.TrimSpace(commit)
	if want := op.Attrs[pb.AttrGitChecksum]; want != "" && !strings.HasPrefix(f.commit, want) {
		return fmt.Errorf("its commit is %s, not %s as asked", f.commit, want)
	}
	if _, err := os.Stat(filepath.Join(f.path, ".gitmodules")); err == nil && op.Attrs[pb.AttrGitSkipSubmodules] != "true" {
		if _, err := git(ctx, f.path, "submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"); err != nil {
			return err
		}
	}
	return nil
}

// git runs the git program without anything of the user's configuration that could run something else, or ask.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{
		"-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", "-c", "protocol.file.allow=never", "-c", "core.fsmonitor=false", "-c", "advice.detachedHead=false",
	}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "GIT_ASKPASS=/bin/false", "GIT_DIR="+filepath.Join(dir, ".git"))
	if len(args) > 0 && args[0] == "submodule" {
		cmd.Env = cmd.Env[:len(cmd.Env)-1]
	}
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return "", errors.New("git is not installed (apt-get install git)")
		}
		lines := strings.Split(strings.TrimSpace(problem.String()), "\n")
		return "", fmt.Errorf("git %s: %s", args[0], lines[len(lines)-1])
	}
	return out.String(), nil
}

// cloned makes a tree of a clone, or of a directory in it. The directory is looked up inside the clone: its links lead nowhere else.
func (e *Env) cloned(ctx context.Context, op *pb.SourceOp, name string) (*Ref, error) {
	f, err := e.clone(ctx, op)
	if err != nil {
		return nil, err
	}
	d, err := e.Snap.New(ctx, nil)
	if err != nil {
		return nil, err
	}
	root, err := os.Open(f.path)
	if err == nil {
		var sub *os.File
		sub, err = disk.OpenBeneath(root, f.subdir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err == nil {
			pick := files.Pick{Path: "/"}
			if op.Attrs[pb.AttrKeepGitDir] != "true" {
				pick.Exclude = []string{".git"}
			}
			err = files.Copy(ctx, files.Source{Root: sub, Flat: &files.Owner{}}, d.Root(), "/", files.CopyOptions{Pick: pick, Contents: true})
			_ = sub.Close()
		}
		_ = root.Close()
	}
	return e.keep(d, name, err)
}

// Commit is the commit that a git source was, or is, fetched at.
func (e *Env) Commit(ctx context.Context, op *pb.SourceOp) (string, error) {
	f, err := e.clone(ctx, op)
	if err != nil {
		return "", err
	}
	return f.commit, nil
}

// Checksum is the digest of a file that was, or is, fetched by http(s).
func (e *Env) Checksum(ctx context.Context, op *pb.SourceOp) (string, error) {
	f, err := e.download(ctx, op)
	if err != nil {
		return "", err
	}
	return f.sum, nil
}
