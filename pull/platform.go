package pull

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"
)

// Platform is what an image is made for. The zero value is this machine's.
type Platform struct{ OS, Architecture, Variant string }

// ParsePlatform reads OS[/ARCH[/VARIANT]] and the common other spellings of architectures.
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(strings.ToLower(s), "/")
	if s == "" {
		return Platform{}, nil
	}
	if len(parts) > 3 || slices.Contains(parts, "") {
		return Platform{}, fmt.Errorf("cannot understand platform %q: it is OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64", s)
	}
	p := Platform{OS: parts[0]}
	if len(parts) == 1 && parts[0] != "linux" {
		p = Platform{OS: "linux", Architecture: parts[0]} // an architecture alone
	}
	if len(parts) > 1 {
		p.Architecture = parts[1]
	}
	if len(parts) > 2 {
		p.Variant = parts[2]
	}
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	case "i386", "i686":
		p.Architecture = "386"
	}
	if len(parts) == 1 && p.Architecture != "" && !slices.Contains(architectures(), p.Architecture) {
		return Platform{}, fmt.Errorf("cannot understand platform %q: it is no architecture; there are %s", s, strings.Join(architectures(), ", "))
	}
	return p, nil
}

// architectures are those that stand for a platform alone, by Go's names for them, which images have.
func architectures() []string {
	return []string{"386", "amd64", "arm", "arm64", "loong64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x"}
}

func (p Platform) String() string {
	s := p.OS
	for _, part := range []string{p.Architecture, p.Variant} {
		if part != "" {
			s += "/" + part
		}
	}
	return s
}

// Matches says whether an image's platform is the one asked for; what was not asked for matches everything.
func (p Platform) Matches(os, architecture, variant string) bool {
	same := func(asked, have string) bool { return asked == "" || asked == have }
	return same(p.OS, os) && same(p.Architecture, architecture) && (variant == "" || same(p.Variant, variant))
}

// choose tells the library which image of several to take.
func (p Platform) choose(sys *types.SystemContext) {
	sys.OSChoice, sys.ArchitectureChoice, sys.VariantChoice = p.OS, p.Architecture, p.Variant
	if sys.OSChoice == "" {
		sys.OSChoice = "linux"
	}
}

// checkPlatform refuses an image that is not made for the platform that was asked for, and names those there are. Only an explicit
// choice is checked beforehand: it costs a request or two.
func checkPlatform(ctx context.Context, ref types.ImageReference, sys *types.SystemContext, asked Platform) error {
	src, err := ref.NewImageSource(ctx, sys)
	if err != nil {
		return err
	}
	defer src.Close() //nolint:errcheck // only read from
	have, matches, err := platforms(ctx, src, sys)
	if err != nil {
		return err
	}
	if matches(asked) {
		return nil
	}
	return noPlatform(ref, asked, have)
}

// noPlatform is the error of a missing platform.
func noPlatform(ref types.ImageReference, asked Platform, have []string) error {
	name := ref.StringWithinTransport()
	if named := ref.DockerReference(); named != nil {
		name = reference.FamiliarString(named)
	}
	if asked == (Platform{}) {
		asked = host()
	}
	return &Error{
		What: fmt.Sprintf("image %s is not made for %s, only for %s", name, asked, strings.Join(have, ", ")),
		Help: "choose one of them with --platform",
		Err:  ErrNoPlatform,
	}
}

// platforms lists what an image, or an index of several, is made for.
func platforms(ctx context.Context, src types.ImageSource, sys *types.SystemContext) ([]string, func(Platform) bool, error) {
	raw, kind, err := src.GetManifest(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	if !manifest.MIMETypeIsMultiImage(kind) {
		img, imageErr := image.FromUnparsedImage(ctx, sys, image.UnparsedInstance(src, nil))
		if imageErr != nil {
			return nil, nil, imageErr
		}
		config, configErr := img.OCIConfig(ctx)
		if configErr != nil {
			return nil, nil, configErr
		}
		have := Platform{config.OS, config.Architecture, config.Variant}
		return []string{have.String()}, func(p Platform) bool { return p.Matches(have.OS, have.Architecture, have.Variant) }, nil
	}
	list, err := manifest.ListFromBlob(raw, kind)
	if err != nil {
		return nil, nil, err
	}
	var have []string
	for _, d := range list.Instances() {
		one, err := list.Instance(d)
		if err != nil {
			continue
		}
		if p := one.ReadOnly.Platform; p != nil && p.OS != "unknown" && p.OS != "" {
			have = append(have, Platform{p.OS, p.Architecture, p.Variant}.String())
		}
	}
	slices.Sort(have)
	return slices.Compact(have), func(Platform) bool {
		_, err := list.ChooseInstance(sys)
		return err == nil
	}, nil
}
