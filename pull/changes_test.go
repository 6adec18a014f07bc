package pull

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestApply(t *testing.T) {
	for name, c := range map[string]struct {
		changes []string
		want    string // the configuration as JSON
		fails   string
	}{
		"exec form":            {changes: []string{`CMD ["a", "b c"]`}, want: `{"Cmd":["a","b c"]}`},
		"shell form":           {changes: []string{`ENTRYPOINT a "b c"`}, want: `{"Entrypoint":["/bin/sh","-c","a \"b c\""]}`},
		"shell form, shell":    {changes: []string{`SHELL ["bash","-c"]`, `CMD x`}, want: `{"Cmd":["bash","-c","x"],"Shell":["bash","-c"]}`},
		"lower case":           {changes: []string{`user me`}, want: `{"User":"me"}`},
		"Podman's spelling":    {changes: []string{`CMD=["a"]`, `USER=me`}, want: `{"User":"me","Cmd":["a"]}`},
		"variables":            {changes: []string{`ENV A=1 B="x y" C=a\ b`, `ENV A=2`}, want: `{"Env":["A=2","B=x y","C=a b"]}`},
		"old variable":         {changes: []string{`ENV A some words`}, want: `{"Env":["A=some words"]}`},
		"labels":               {changes: []string{`LABEL a=1 'b c'=2`}, want: `{"Labels":{"a":"1","b c":"2"}}`},
		"ports":                {changes: []string{`EXPOSE 80 53/UDP 8000-8001`}, want: `{"ExposedPorts":{"53/udp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{}}}`},
		"volumes":              {changes: []string{`VOLUME /a /b`, `VOLUME ["/c d"]`}, want: `{"Volumes":{"/a":{},"/b":{},"/c d":{}}}`},
		"working directories":  {changes: []string{`WORKDIR /a`, `WORKDIR b`}, want: `{"WorkingDir":"/a/b"}`},
		"stop signal, onbuild": {changes: []string{`STOPSIGNAL SIGINT`, `ONBUILD RUN x`}, want: `{"StopSignal":"SIGINT","OnBuild":["RUN x"]}`},
		"health": {
			changes: []string{`HEALTHCHECK --interval=5s --retries=3 CMD ["true"]`},
			want:    `{"Healthcheck":{"Test":["CMD","true"],"Interval":5000000000,"Retries":3}}`,
		},
		"health, shell":   {changes: []string{`HEALTHCHECK CMD a b`}, want: `{"Healthcheck":{"Test":["CMD-SHELL","a b"]}}`},
		"health, none":    {changes: []string{`HEALTHCHECK NONE`}, want: `{"Healthcheck":{"Test":["NONE"]}}`},
		"RUN":             {changes: []string{`RUN x`}, fails: "RUN is no instruction"},
		"nothing":         {changes: []string{``}, fails: "no value"},
		"no value":        {changes: []string{`CMD`}, fails: "no value"},
		"bad port":        {changes: []string{`EXPOSE 70000`}, fails: "no port"},
		"bad protocol":    {changes: []string{`EXPOSE 1/icmp`}, fails: "protocol"},
		"port range":      {changes: []string{`EXPOSE 9-8`}, fails: "no port"},
		"open quotation":  {changes: []string{`ENV A="x`}, fails: "not closed"},
		"not a pair":      {changes: []string{`LABEL a=1 b`}, fails: "NAME=VALUE"},
		"health, no CMD":  {changes: []string{`HEALTHCHECK --interval=1s`}, fails: "HEALTHCHECK"},
		"health, unknown": {changes: []string{`HEALTHCHECK --x=1 CMD y`}, fails: "unknown option"},
	} {
		t.Run(name, func(t *testing.T) {
			var config containerConfig
			var err error
			for _, change := range c.changes {
				if err == nil {
					err = config.apply(change)
				}
			}
			if (err != nil) != (c.fails != "") || err != nil && !strings.Contains(err.Error(), c.fails) {
				t.Fatalf("got error %v, want %q", err, c.fails)
			}
			if got, _ := json.Marshal(config); err == nil && string(got) != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func FuzzApply(f *testing.F) {
	for _, s := range []string{`CMD ["a"]`, `ENV A="b" C=\x`, `EXPOSE 1-2/udp`, `HEALTHCHECK --interval=1s CMD x`, `LABEL 'a'=`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, change string) {
		var config containerConfig
		if config.apply(change) == nil {
			for _, e := range config.Env {
				if !strings.Contains(e, "=") {
					t.Errorf("%q makes the variable %q", change, e)
				}
			}
		}
	})
}

func TestWords(t *testing.T) {
	for in, want := range map[string][]string{
		`a  b`: {"a", "b"}, `"a b" c`: {"a b", "c"}, `a'b c'd`: {"ab cd"}, `a\ b`: {"a b"}, `''`: {""}, `'a\b'`: {`a\b`},
	} {
		if got, err := words(in); err != nil || !slices.Equal(got, want) {
			t.Errorf("words(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}
