package commands

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"
	"text/template"
)

// column is one column of a listing's table: what its header says and which field of the row is in it.
type column struct{ header, field string }

// listing is what a listing verb shows: rows of one struct type, whose exported fields are the fields of --format.
type listing[T any] struct {
	columns []column          // of the plain table
	headers map[string]string // of fields that are not plain columns, for "table" templates
	quiet   string            // the field that -q shows
	cells   func(T) []string  // the plain table's cells; no reflection on the way that everybody goes
}

// print writes rows as format asks: "" or "table" the plain table, "table TEMPLATE", "json" or a template per row.
func (l listing[T]) print(w io.Writer, format string, rows []T) error {
	tmpl, table := strings.CutPrefix(format, "table")
	switch {
	case format == "" || table && strings.TrimSpace(tmpl) == "":
		return l.plain(w, rows)
	case format == "json":
		return jsonLines(w, rows)
	case table && (tmpl[0] == ' ' || tmpl[0] == '\t'):
		return l.table(w, strings.TrimSpace(tmpl), rows)
	}
	t, err := parseFormat(format)
	if err != nil {
		return err
	}
	return executeLines(w, t, rows)
}

// newTable aligns columns as Docker does.
func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 10, 1, 3, ' ', 0) }

func (l listing[T]) plain(w io.Writer, rows []T) error {
	tw := newTable(w)
	for i, c := range l.columns {
		if i > 0 {
			fmt.Fprint(tw, "\t")
		}
		fmt.Fprint(tw, c.header)
	}
	fmt.Fprintln(tw)
	for _, r := range rows {
		fmt.Fprintln(tw, strings.Join(l.cells(r), "\t"))
	}
	return tw.Flush()
}

// table runs a template for the headers, on a map of them, and for each row.
func (l listing[T]) table(w io.Writer, text string, rows []T) error {
	t, err := parseFormat(text)
	if err != nil {
		return err
	}
	head := headers{}
	for _, name := range fieldNames(reflect.TypeFor[T]()) {
		head[name] = strings.ToUpper(name)
	}
	for _, c := range l.columns {
		head[c.field] = c.header
	}
	for k, v := range l.headers {
		head[k] = v
	}
	tw := newTable(w)
	if err := executeLines(tw, t, []headers{head}); err != nil {
		return err
	}
	if err := executeLines(tw, t, rows); err != nil {
		return err
	}
	return tw.Flush()
}

// headers stands in for a row in the first line of a table template.
type headers map[string]string

// Label is the header of {{.Label "name"}}.
func (headers) Label(name string) string {
	parts := strings.Split(name, ".")
	return strings.ToUpper(strings.NewReplacer("-", " ", "_", " ").Replace(parts[len(parts)-1]))
}

// jsonLines writes one JSON object per line.
func jsonLines[T any](w io.Writer, rows []T) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// parseFormat reads the template of --format. A backslash-t or -n in it is what a shell's quotes kept from becoming one.
func parseFormat(text string) (*template.Template, error) {
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	t, err := template.New("").Funcs(formatFuncs()).Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("cannot read the template %q of --format: %s", text, strings.TrimPrefix(err.Error(), "template: :1: "))
	}
	return t, nil
}

// executeLines runs a template for each row, each on its own line.
func executeLines[T any](w io.Writer, t *template.Template, rows []T) error {
	var buf bytes.Buffer
	for _, r := range rows {
		buf.Reset()
		if reflect.ValueOf(r).Kind() == reflect.Struct { // its maps are users': labels, attributes. A name that is not there is <no value>, as with Docker
			t.Option("missingkey=default")
		}
		if err := t.Execute(&buf, r); err != nil {
			return formatError(err, r)
		}
		buf.WriteByte('\n')
		if _, err := w.Write(buf.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// formatError names the field that a template asked for in vain, and those there are.
func formatError(err error, row any) error {
	text := err.Error()
	for _, marker := range []string{"can't evaluate field ", "map has no entry for key "} {
		_, after, ok := strings.Cut(text, marker)
		if !ok {
			continue
		}
		field, _, _ := strings.Cut(after, " ")
		bad := fmt.Errorf("cannot format with --format: there is no field %s", strings.Trim(field, `"`))
		if t := reflect.TypeOf(row); t != nil && t.Kind() == reflect.Struct {
			return hinted{bad, "the fields are " + strings.Join(fieldNames(t), ", ")}
		}
		return hinted{bad, "'--format json' shows all there are"}
	}
	var exec template.ExecError
	if errors.As(err, &exec) {
		err = exec.Err
	}
	return fmt.Errorf("cannot format with --format: %s", strings.TrimPrefix(err.Error(), "template: :"))
}

// fieldNames lists what a template can use of a struct.
func fieldNames(t reflect.Type) (names []string) {
	for _, f := range reflect.VisibleFields(t) {
		if f.IsExported() {
			names = append(names, f.Name)
		}
	}
	return names
}

// formatFuncs are the functions Docker's templates have.
func formatFuncs() template.FuncMap {
	return template.FuncMap{
		"json": func(v any) (string, error) {
			var buf bytes.Buffer
			enc := json.NewEncoder(&buf)
			enc.SetEscapeHTML(false)
			err := enc.Encode(v)
			return strings.TrimSpace(buf.String()), err
		},
		"split":    strings.Split,
		"join":     joinAny,
		"title":    func(s string) string { return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):] },
		"lower":    strings.ToLower,
		"upper":    strings.ToUpper,
		"println":  fmt.Sprintln,
		"pad":      pad,
		"truncate": truncate,
	}
}

// joinAny is strings.Join for lists of a typed row and of decoded JSON alike.
func joinAny(v any, sep string) (string, error) {
	list := reflect.ValueOf(v)
	if !list.IsValid() {
		return "", nil
	}
	if list.Kind() != reflect.Slice {
		return "", fmt.Errorf("join: %T is no list", v)
	}
	words := make([]string, list.Len())
	for i := range words {
		words[i] = fmt.Sprint(list.Index(i).Interface())
	}
	return strings.Join(words, sep), nil
}

func pad(s string, before, after int) string {
	if s == "" {
		return s
	}
	return strings.Repeat(" ", max(before, 0)) + s + strings.Repeat(" ", max(after, 0))
}

func truncate(s string, n int) string {
	if r := []rune(s); n >= 0 && len(r) > n {
		return string(r[:n])
	}
	return s
}
