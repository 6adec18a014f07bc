//go:build !front

package commands

// This file reads --attest, --provenance and --sbom.

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/build"
)

// attestations reads all three. Unlike buildx there is no attestation that nobody asked for: the store has no room for one.
func attestations(c *cli.Context) (*build.Provenance, error) {
	texts := [][2]string{}
	for _, text := range listOf(c, "attest") {
		texts = append(texts, [2]string{"attest", text})
	}
	for _, kind := range []string{"provenance", "sbom"} {
		if c.IsSet(kind) {
			texts = append(texts, [2]string{kind, c.String(kind)})
		}
	}
	var p *build.Provenance
	for _, t := range texts {
		fields, err := attestFields(t[0], t[1])
		var kind string
		var off bool
		if err == nil {
			kind, off = fields["type"], fields["disabled"] == "true" || fields["mode"] == "disabled"
			switch {
			case kind == "sbom" && !off:
				err = errors.New("no bill of materials is made: it needs a scanner that knows the package managers of all images, and there is none in this version; " +
					"a tool such as syft reads the archives of -o type=oci")
			case kind == "provenance" && off:
				p = nil
			case kind == "provenance":
				p, err = parseProvenance(fields)
			case kind != "sbom":
				err = fmt.Errorf("type %q is not provenance or sbom", kind)
			}
		}
		if err != nil {
			return nil, misused{fmt.Errorf("cannot use --%s %s: %w", t[0], t[1], err)}
		}
	}
	return p, nil
}

// attestFields takes KEY=VALUE[,...] apart; --provenance and --sbom may be a truth value as well.
func attestFields(flag, text string) (map[string]string, error) {
	fields := map[string]string{}
	if flag != "attest" {
		fields["type"] = flag
		if on, err := strconv.ParseBool(text); err == nil {
			fields["disabled"] = strconv.FormatBool(!on)
			return fields, nil
		}
	}
	for _, field := range strings.Split(text, ",") {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not KEY=VALUE", field)
		}
		fields[key] = value
	}
	if fields["type"] == "" {
		return nil, errors.New("it has no type=")
	}
	return fields, nil
}

func parseProvenance(fields map[string]string) (*build.Provenance, error) {
	p := &build.Provenance{}
	for key, value := range fields {
		var err error
		switch key {
		case "type", "disabled":
		case "mode":
			p.Max = value == "max" || value == "full"
			if !p.Max && value != "min" {
				err = fmt.Errorf("mode %q is not min or max", value)
			}
		case "version":
			if p.Version = value; value != "v1" && value != "v0.2" {
				err = fmt.Errorf("version %q is not v1 or v0.2", value)
			}
		case "builder-id":
			p.Builder = value
		case "reproducible":
			if p.Reproducible, err = strconv.ParseBool(value); err != nil {
				err = fmt.Errorf("reproducible=%s is neither true nor false", value)
			}
		default:
			err = fmt.Errorf("%q is not known in this version; there are type, mode, version, builder-id, reproducible and disabled", key)
		}
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}
