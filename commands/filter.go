package commands

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// filters are the values of --filter: by key, any of the values must match; all keys must.
type filters map[string][]string

// parseFilters reads key=value words and refuses keys the verb does not know.
func parseFilters(words []string, known ...string) (filters, error) {
	f := filters{}
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		switch {
		case !ok:
			return nil, fmt.Errorf("invalid filter %q: it has the form key=value", w)
		case !slices.Contains(known, key):
			return nil, hinted{fmt.Errorf("invalid filter %q: there is no key %s", w, key), "the keys are " + strings.Join(known, ", ")}
		}
		f[key] = append(f[key], strings.TrimSpace(value))
	}
	return f, nil
}

// match says whether a key is absent from the filters or one of its values satisfies the predicate.
func (f filters) match(key string, is func(value string) bool) bool {
	values, ok := f[key]
	return !ok || slices.ContainsFunc(values, is)
}

// pattern is match for names and ids: a value may be a regular expression, such as ^web$, and matches anywhere in one of the texts.
func (f filters) pattern(key string, texts ...string) bool {
	return f.match(key, func(value string) bool {
		if slices.Contains(texts, value) {
			return true
		}
		expression, err := regexp.Compile(value)
		return err == nil && slices.ContainsFunc(texts, expression.MatchString)
	})
}

// until is the moment before which things must have been made, zero without such a filter.
func (f filters) until() (until time.Time, err error) {
	for _, v := range f["until"] {
		if until, err = parseWhen("filter until", v, time.Now()); err != nil {
			return until, err
		}
	}
	return until, nil
}

// labels says whether all label filters, name or name=value, hold.
func (f filters) labels(labels map[string]string) bool {
	has := func(word string) bool {
		name, value, valued := strings.Cut(word, "=")
		got, ok := labels[name]
		return ok && (!valued || got == value)
	}
	for _, w := range f["label"] {
		if !has(w) {
			return false
		}
	}
	return !slices.ContainsFunc(f["label!"], has)
}

// truth reads the last value of a key as a boolean; def when the key is absent.
func (f filters) truth(key string, def bool) (bool, error) {
	values := f[key]
	if len(values) == 0 {
		return def, nil
	}
	switch v := values[len(values)-1]; v {
	case "1", "true", "t":
		return true, nil
	case "0", "false", "f":
		return false, nil
	default:
		return false, fmt.Errorf("invalid filter '%s=%s': it is true or false", key, v)
	}
}
