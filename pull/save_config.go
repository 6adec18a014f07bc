package pull

// This file keeps an image's configuration as it is in an OCI archive: the library writes it anew from the fields that OCI names, and HEALTHCHECK, ONBUILD and
// SHELL of Docker's are lost, and with them the image's id.

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/disk"
)

// keepConfig gives an image of the layout dir, whose manifest is raw, the configuration that it has in the store.
func keepConfig(s *storage.Store, dir, id string, raw []byte) error {
	var fields map[string]json.RawMessage
	var config ocispecs.Descriptor
	err := json.Unmarshal(raw, &fields)
	if err == nil {
		err = json.Unmarshal(fields["config"], &config)
	}
	if err != nil {
		return fmt.Errorf("cannot read the manifest that was written: %w", err)
	}
	written := config.Digest
	if config.Digest = digest.NewDigestFromEncoded(digest.SHA256, id); config.Digest == written || config.MediaType != ocispecs.MediaTypeImageConfig {
		return nil
	}
	text, err := s.Library().ImageBigData(id, config.Digest.String())
	if err != nil {
		return fmt.Errorf("cannot read the image's configuration: %w", err)
	}
	config.Size = int64(len(text))
	if fields["config"], err = json.Marshal(config); err != nil {
		return err
	}
	manifest, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	blob := func(d digest.Digest) string {
		return filepath.Join(dir, ocispecs.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
	}
	old, now := digest.FromBytes(raw), digest.FromBytes(manifest)
	return errors.Join(
		disk.WriteFile(blob(config.Digest), text, 0o644, disk.Volatile),
		disk.WriteFile(blob(now), manifest, 0o644, disk.Volatile),
		renameInIndex(filepath.Join(dir, ocispecs.ImageIndexFile), old, now, int64(len(manifest))),
		os.Remove(blob(written)), os.Remove(blob(old)),
	)
}

// renameInIndex makes the lines of an index that name one manifest name another.
func renameInIndex(path string, old, now digest.Digest, size int64) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var index ocispecs.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return fmt.Errorf("cannot read the index that was written: %w", err)
	}
	for i := range index.Manifests {
		if m := &index.Manifests[i]; m.Digest == old {
			m.Digest, m.Size = now, size
		}
	}
	if data, err = json.Marshal(index); err != nil {
		return err
	}
	return disk.WriteFile(path, data, 0o644, disk.Volatile)
}
