package commands

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

type fruit struct {
	Name, Colour string
	labels       map[string]string
}

func (f fruit) Label(name string) string { return f.labels[name] }

func TestListing(t *testing.T) {
	l := listing[fruit]{
		columns: []column{{"NAME OF IT", "Name"}, {"COLOUR", "Colour"}},
		cells:   func(f fruit) []string { return []string{f.Name, f.Colour} },
	}
	rows := []fruit{{"pear", "green", map[string]string{"a.size": "big"}}, {"plum with a long name", "blue", nil}}
	tests := []struct{ name, format, want, err string }{
		{name: "plain", want: "NAME OF IT              COLOUR\npear                    green\nplum with a long name   blue\n"},
		{name: "table", format: "table", want: "NAME OF IT              COLOUR\npear                    green\nplum with a long name   blue\n"},
		{name: "table template", format: `table {{.Colour}}\t{{.Label "a.size"}}`, want: "COLOUR    SIZE\ngreen     big\nblue      \n"},
		{name: "json", format: "json", want: "{\"Name\":\"pear\",\"Colour\":\"green\"}\n{\"Name\":\"plum with a long name\",\"Colour\":\"blue\"}\n"},
		{name: "template", format: "{{upper .Name}}/{{truncate .Colour 2}}", want: "PEAR/gr\nPLUM WITH A LONG NAME/bl\n"},
		{name: "functions", format: `{{json .Name}}{{pad .Colour 1 1}}{{join (split .Name "e") "-"}}{{title .Name}}`, want: "\"pear\" green p-arPear\n\"plum with a long name\" blue plum with a long nam-Plum with a long name\n"},
		{name: "unknown field", format: "{{.Weight}}", err: "there is no field Weight"},
		{name: "unknown field of a table", format: "table {{.Weight}}", err: "there is no field Weight"},
		{name: "bad template", format: "{{.Name", err: `cannot read the template "{{.Name" of --format: unclosed action`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			err := l.print(&out, tt.format, rows)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || out.String() != tt.want {
				t.Errorf("%v\ngot  %q\nwant %q", err, out.String(), tt.want)
			}
		})
	}
}

func TestInspectedTree(t *testing.T) {
	tree, err := asTree(struct {
		ID    string `json:"Id"`
		Count int64
		Share float64
		Words []string
	}{"abc", 1 << 40, 0.5, []string{"x", "y"}})
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := parseFormat(`{{.Id}} {{.ID}} {{.Count}} {{.Share}} {{join .Words ","}} {{index .Words 1}}`)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := executeLines(&out, tmpl, []any{tree}); err != nil || out.String() != "abc abc 1099511627776 0.5 x,y y\n" {
		t.Errorf("%v %q", err, out.String())
	}
}

func TestHuman(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "Less than a second", time.Second: "1 second", 59 * time.Second: "59 seconds", 61 * time.Second: "About a minute",
		5 * time.Minute: "5 minutes", 61 * time.Minute: "About an hour", 47 * time.Hour: "47 hours", 72 * time.Hour: "3 days",
		24 * 20 * time.Hour: "2 weeks", 24 * 90 * time.Hour: "3 months", 24 * 800 * time.Hour: "2 years",
	} {
		if got := humanDuration(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0B", 999: "999B", 1000: "1kB", 116_600_000: "117MB", 4_260_000: "4.26MB", 1_500_000_000: "1.5GB"} {
		if got := humanSize(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}

func TestParseWhen(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for s, want := range map[string]time.Time{
		"42m": now.Add(-42 * time.Minute), "1136073845": time.Unix(1136073845, 0), "1136073845.000000001": time.Unix(1136073845, 1),
		"2006-01-02": time.Date(2006, 1, 2, 0, 0, 0, 0, time.UTC), "2006-01-02T15:04:05": time.Date(2006, 1, 2, 15, 4, 5, 0, time.UTC),
		"2006-01-02T15:04:05Z": time.Date(2006, 1, 2, 15, 4, 5, 0, time.UTC),
	} {
		if got, err := parseWhen("since", s, now); err != nil || !got.Equal(want) {
			t.Errorf("%s is %v (%v), want %v", s, got, err, want)
		}
	}
	if _, err := parseWhen("since", "yesterday", now); err == nil {
		t.Error("yesterday was understood")
	}
}
