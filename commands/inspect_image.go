package commands

import (
	"time"

	"github.com/skiff-containers/skiff/run"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/ref"
	"github.com/skiff-containers/skiff/storage/volume"
)

// inspectedImage is the JSON of an image, in the shape of Docker's API.
type inspectedImage struct {
	ID            string `json:"Id"`
	RepoTags      []string
	RepoDigests   []string
	Parent        string
	Comment       string
	Created       string
	DockerVersion string
	Author        string
	Config        inspectedImageConfig
	Architecture  string
	Variant       string `json:",omitempty"`
	Os            string
	OsVersion     string `json:",omitempty"`
	Size          int64
	VirtualSize   int64
	GraphDriver   inspectedDriver
	RootFS        inspectedRootFS
	Metadata      struct{ LastTagTime string }
}

type inspectedImageConfig struct {
	image.Defaults
	Healthcheck *inspectedHealth `json:",omitempty"`
	Shell       []string         `json:",omitempty"`
	OnBuild     []string         `json:",omitempty"`
}

type inspectedHealth struct {
	Test                                          []string      `json:",omitempty"`
	Interval, Timeout, StartPeriod, StartInterval time.Duration `json:",omitempty"`
	Retries                                       int           `json:",omitempty"`
}

type inspectedDriver struct {
	Name string
	Data map[string]string
}

type inspectedRootFS struct {
	Type   string
	Layers []string
}

func inspectImage(h *run.Host, img *image.Image) (inspectedImage, error) {
	names, err := h.Images.Names()
	if err != nil {
		return inspectedImage{}, err
	}
	c := img.Config
	v := inspectedImage{
		ID: "sha256:" + img.ID, RepoTags: familiar(names[img.ID]), RepoDigests: familiar(img.RepoDigests),
		Created: stamp(img.Created), Author: c.Author, Architecture: c.Architecture, Variant: c.Variant, Os: c.OS, OsVersion: c.OSVersion,
		Config: inspectedImageConfig{Defaults: c.Config, Shell: img.Shell, OnBuild: img.OnBuild},
		Size:   img.Size, VirtualSize: img.Size,
		GraphDriver: inspectedDriver{Name: "overlay", Data: map[string]string{}},
		RootFS:      inspectedRootFS{Type: c.RootFS.Type},
	}
	if n := len(c.History); n > 0 {
		v.Comment = c.History[n-1].Comment
	}
	v.RootFS.Layers = append(v.RootFS.Layers, c.RootFS.DiffIDs...)
	for i, dir := range img.Layers {
		key := "LowerDir"
		if i == 0 {
			key = "UpperDir"
		}
		if v.GraphDriver.Data[key] != "" {
			dir = v.GraphDriver.Data[key] + ":" + dir
		}
		v.GraphDriver.Data[key] = dir
	}
	v.Config.Healthcheck = inspectHealth(img)
	return v, nil
}

// inspectHealth is an image's health check; nil without one.
func inspectHealth(img *image.Image) *inspectedHealth {
	e := img.Health
	if e == nil {
		return nil
	}
	return &inspectedHealth{
		Test: e.Test, Interval: e.Interval, Timeout: e.Timeout, StartPeriod: e.StartPeriod, StartInterval: e.StartInterval, Retries: e.Retries,
	}
}

// familiar shows stored names as Docker does.
func familiar(names []string) []string {
	out := []string{}
	for _, n := range names {
		if r, err := ref.Parse(n); err == nil {
			n = r.Familiar()
		}
		out = append(out, n)
	}
	return out
}

// inspectedVolume is the JSON of a volume, in the shape of Docker's API.
type inspectedVolume struct {
	CreatedAt  string
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
}

func inspectVolume(v *volume.Volume) inspectedVolume {
	return inspectedVolume{
		CreatedAt: v.Created.Format(time.RFC3339), Driver: first(v.Driver, "local"), Labels: v.Labels,
		Mountpoint: v.Mountpoint, Name: v.Name, Options: v.Options, Scope: "local",
	}
}
