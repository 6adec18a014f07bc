package pull

import (
	"context"
	"slices"
	"strings"

	"go.podman.io/image/v5/docker"

	"github.com/skiff-containers/skiff/storage"
)

// Found is a repository that Search found.
type Found struct {
	Name, Description   string
	Stars               int
	Official, Automated bool
}

// Search asks a registry for repositories whose name has a word in it: docker.io's index, or another one's catalogue when the word begins with its address
// (localhost:5000/web). The catalogue tells names only.
func Search(ctx context.Context, s *storage.Store, term string, limit int, a Access) ([]Found, error) {
	registry, word := "docker.io", term
	if first, rest, _ := strings.Cut(term, "/"); first == "localhost" || strings.ContainsAny(first, ".:") {
		registry, word = first, rest
	}
	named, err := parseNamed(registry + "/any")
	if err != nil {
		return nil, &Error{What: "cannot search for " + term + ": " + registry + " is no address of a registry", Err: err}
	}
	sys, err := a.system(ctx, s, named)
	if err != nil {
		return nil, err
	}
	results, err := docker.SearchRegistry(ctx, sys, registry, word, limit)
	if err != nil {
		return nil, explain(ctx, "search", registry, registry, err)
	}
	var list []Found
	for _, r := range results[:min(len(results), limit)] {
		f := Found{Name: r.Name, Description: strings.Join(strings.Fields(r.Description), " "), Stars: r.StarCount, Official: r.IsOfficial, Automated: r.IsAutomated}
		if registry != "docker.io" {
			f.Name = registry + "/" + r.Name
		}
		list = append(list, f)
	}
	slices.SortStableFunc(list, func(a, b Found) int { return b.Stars - a.Stars })
	return list, nil
}
