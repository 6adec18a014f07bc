package pull

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"go.podman.io/image/v5/pkg/compression"

	"github.com/skiff-containers/skiff/storage"
)

// ImportOptions of Import.
type ImportOptions struct {
	Changes  []string // Dockerfile instructions for the configuration
	Message  string
	Platform Platform
}

// Import makes an image of one layer out of a root file system's archive, plain or compressed: a file, "-" for in, or an http(s) URL. It
// returns the image's id.
func Import(ctx context.Context, s *storage.Store, source string, in io.Reader, name string, o ImportOptions) (string, error) {
	var names []string
	if name != "" {
		if _, err := parseNamed(name); err != nil {
			return "", err
		}
		names = []string{name}
	}
	config := imageConfig{Config: containerConfig{}}
	for _, change := range o.Changes {
		if err := config.Config.apply(change); err != nil {
			return "", err
		}
	}
	unlock, err := s.Writing()
	if err != nil {
		return "", err
	}
	defer unlock() //nolint:errcheck // closes a descriptor
	body, err := openSource(ctx, source, in)
	if err != nil {
		return "", explain(ctx, "import", source, hostOf(source), err)
	}
	defer body.Close() //nolint:errcheck // only read from
	archive, err := checkArchive(body)
	if err != nil {
		return "", explain(ctx, "import", source, "", err)
	}
	layer, err := s.PutLayer("", reader{ctx, archive})
	if err != nil {
		return "", explain(ctx, "import", source, "", err)
	}
	id, err := s.PutImage([]storage.Layer{layer}, config.encode(layer.DiffID, o), names...)
	if err != nil {
		return "", explain(ctx, "import", source, "", err) // the layer may be another's by now; it is swept if not
	}
	return id, nil
}

// checkArchive refuses what cannot be an archive by its first block. Nothing at all is one: an image without files.
func checkArchive(in io.Reader) (io.Reader, error) {
	stream := bufio.NewReaderSize(in, 64<<10)
	head, err := stream.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	_, decompress, _, err := compression.DetectCompressionFormat(bytes.NewReader(head))
	if err != nil || decompress != nil || len(head) == 0 {
		return stream, err
	}
	_, err = tar.NewReader(bytes.NewReader(head)).Next()
	if errors.Is(err, tar.ErrHeader) || len(head) < 512 {
		return nil, tar.ErrHeader
	}
	return stream, nil
}

// hostOf is the host of a URL, "" for a file.
func hostOf(source string) string {
	u, err := url.Parse(source)
	if err != nil {
		return ""
	}
	return u.Host
}

// openSource opens what is imported.
func openSource(ctx context.Context, source string, in io.Reader) (io.ReadCloser, error) {
	switch {
	case source == "-":
		return io.NopCloser(in), nil
	case strings.HasPrefix(source, "http://"), strings.HasPrefix(source, "https://"):
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
		if err != nil {
			return nil, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return nil, err
		}
		if response.StatusCode != http.StatusOK {
			response.Body.Close() //nolint:errcheck // nothing was read
			return nil, fmt.Errorf("the server answers %s", response.Status)
		}
		return response.Body, nil
	}
	f, err := os.Open(source)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err == nil && st.IsDir() {
		f.Close()
		return nil, errors.New("it is a directory, not an archive")
	}
	return f, nil
}

// encode writes the configuration in Docker's format.
func (c imageConfig) encode(diffID string, o ImportOptions) []byte {
	platform := o.Platform
	if platform.OS == "" {
		platform.OS = "linux"
	}
	if platform.Architecture == "" {
		platform.Architecture = host().Architecture
	}
	now := time.Now().UTC()
	c.Architecture, c.OS, c.Variant, c.Created = platform.Architecture, platform.OS, platform.Variant, now
	message := o.Message
	if message == "" {
		message = "Imported from -"
	}
	c.RootFS.Type, c.RootFS.DiffIDs = "layers", []string{diffID}
	c.History = []history{{Created: now, Comment: message}}
	data, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings, numbers and times
	}
	return data
}
