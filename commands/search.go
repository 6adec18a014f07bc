//go:build !front

package commands

import (
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/skiff-containers/skiff/pull"
	"github.com/skiff-containers/skiff/storage"
	"github.com/skiff-containers/skiff/storage/record"
)

func searchCommand(cmd *cli.Command) {
	cmd.Flags = append([]cli.Flag{
		option{"filter", "f", "filter", "Filter output based on conditions provided (stars=N, is-official=true)", ""},
		option{"format", "", "string", formatUsage, ""},
		option{"limit", "", "int", "Max number of search results", "25"},
		option{"no-trunc", "", "", "Don't truncate output", ""},
	}, accessFlags()...)
	cmd.Before = operands(cmd, 1, 1)
	cmd.Action = func(c *cli.Context) error {
		limit, err := strconv.Atoi(c.String("limit"))
		if err != nil || limit < 1 || limit > 100 {
			return fmt.Errorf("invalid argument %q for --limit: it is 1 to 100", c.String("limit"))
		}
		keep, err := searchFilter(listOf(c, "filter"))
		if err != nil {
			return err
		}
		return withStore(c, func(s *storage.Store, _ *record.Store) error {
			found, err := pull.Search(c.Context, s, c.Args().First(), limit, accessOf(c))
			if err != nil {
				return err
			}
			var rows []searchRow
			for _, f := range found {
				if keep(f) {
					rows = append(rows, searchRowOf(f, c.Bool("no-trunc")))
				}
			}
			l := listing[searchRow]{
				columns: []column{{"NAME", "Name"}, {"DESCRIPTION", "Description"}, {"STARS", "StarCount"}, {"OFFICIAL", "IsOfficial"}},
				cells:   func(r searchRow) []string { return []string{r.Name, r.Description, r.StarCount, r.IsOfficial} },
			}
			return l.print(c.App.Writer, c.String("format"), rows)
		})
	}
}

// searchRow is a line of search: the fields of its --format.
type searchRow struct{ Description, IsAutomated, IsOfficial, Name, StarCount string }

// descriptionWidth is how much of a description a line shows.
const descriptionWidth = 45

func searchRowOf(f pull.Found, whole bool) searchRow {
	mark := func(is bool) string {
		if is {
			return "[OK]"
		}
		return ""
	}
	text := []rune(f.Description)
	if !whole && len(text) > descriptionWidth {
		text = append(text[:descriptionWidth-1], '…')
	}
	return searchRow{
		Description: string(text), IsAutomated: mark(f.Automated), IsOfficial: mark(f.Official), Name: f.Name, StarCount: strconv.Itoa(f.Stars),
	}
}

// searchFilter makes the predicate of --filter.
func searchFilter(words []string) (func(pull.Found) bool, error) {
	f, err := parseFilters(words, "is-automated", "is-official", "stars")
	if err != nil {
		return nil, err
	}
	stars := 0
	for _, v := range f["stars"] {
		if stars, err = strconv.Atoi(v); err != nil {
			return nil, fmt.Errorf("invalid filter 'stars=%s': it is a number", v)
		}
	}
	official, err := f.truth("is-official", false)
	if err != nil {
		return nil, err
	}
	automated, err := f.truth("is-automated", false)
	if err != nil {
		return nil, err
	}
	return func(r pull.Found) bool {
		return r.Stars >= stars && (len(f["is-official"]) == 0 || r.Official == official) && (len(f["is-automated"]) == 0 || r.Automated == automated)
	}, nil
}
