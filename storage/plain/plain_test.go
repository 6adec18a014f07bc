package plain_test

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/skiff-containers/skiff/run/stage"
	"github.com/skiff-containers/skiff/storage/image"
	"github.com/skiff-containers/skiff/storage/plain"
	"github.com/skiff-containers/skiff/storage/record"
)

// targets are the types that the project reads and writes with this package, and one with the odd cases.
var targets = []any{record.Container{}, record.Event{}, record.Started{}, record.Exit{}, image.Image{}, stage.Request{}, stage.Reply{}, odd{}}

type odd struct {
	A       int `json:"a,omitempty"`
	B       *bool
	C       map[string][]string `json:"c"`
	D       []byte
	E       any `json:"e,omitempty"`
	F       float64
	G       [2]int
	H       map[int]string
	private int
	Skipped string `json:"-"`
	inner
	I *odd      `json:"i,omitempty"`
	J time.Time `json:"j,omitzero"`
	K []*inner
	L json.RawMessage `json:"l,omitempty"`
}

type inner struct {
	M uint8 `json:"m"`
	N string
}

var texts = []string{"", "plain", "a \"quoted\" \\ one", "<&>", "ü€\u2028", "\x00\n\t", "bad \xff utf-8"}

// fill puts random values everywhere, down to depth.
func fill(r *rand.Rand, v reflect.Value, depth int) {
	if depth == 0 || r.IntN(4) == 0 {
		return
	}
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(r.Int64N(1<<33), r.Int64N(1e9)).UTC()))
		return
	case json.RawMessage:
		v.Set(reflect.ValueOf(json.RawMessage(`{"x":[1,2]}`)))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString(texts[r.IntN(len(texts))])
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(r.Int64() >> (64 - v.Type().Bits()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64() >> (64 - v.Type().Bits()))
	case reflect.Float64:
		v.SetFloat(r.Float64())
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(r, v.Elem(), depth-1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), r.IntN(3), 3))
		for i := range v.Len() {
			fill(r, v.Index(i), depth-1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range r.IntN(3) {
			k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(r, k, depth-1)
			fill(r, e, depth-1)
			v.SetMapIndex(k, e)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() || v.Type().Field(i).Anonymous {
				if v.Field(i).CanSet() {
					fill(r, v.Field(i), depth-1)
				}
			}
		}
	}
}

func TestAsEncodingJSON(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, target := range targets {
		typ := reflect.TypeOf(target)
		t.Run(typ.String(), func(t *testing.T) {
			full := 0
			for range 300 {
				v := reflect.New(typ)
				fill(r, v.Elem(), 6)
				want, err := json.Marshal(v.Interface())
				if err != nil {
					t.Fatal(err)
				}
				got, err := plain.Marshal(v.Interface())
				if err != nil || string(got) != string(want) {
					t.Fatalf("Marshal gives %v\n%s\nwant\n%s", err, got, want)
				}
				full += len(got)
				a, b := reflect.New(typ), reflect.New(typ)
				if err := json.Unmarshal(want, a.Interface()); err != nil {
					t.Fatal(err)
				}
				if err := plain.Unmarshal(want, b.Interface()); err != nil {
					t.Fatalf("Unmarshal of %s: %v", want, err)
				}
				if !reflect.DeepEqual(a.Interface(), b.Interface()) {
					t.Fatalf("Unmarshal of\n%s\ngives\n%#v\nwant\n%#v", want, b.Elem(), a.Elem())
				}
			}
			if full < 300*10 {
				t.Errorf("the values were all but empty: %d bytes", full)
			}
		})
	}
}

func TestBadInput(t *testing.T) {
	for _, text := range []string{
		``, ` `, `{`, `{}x`, `[]`, `{"a":1,}`, `{"a":01}`, `{"a":-}`, `{"a":1.5}`, `{"a":"x"}`, `{"a" 1}`, `{"c":{"x":[1]}}`, `{"c":[]}`, `{"b":tru}`, `{"zz":[1,}`, `{"N":"` + "\n" + `"}`,
		`{"N":"\q"}`, `nul`, `{"m":256}`, `{"m":-1}`, `{"F":"x"}`, `{"zz":nope}`, `{"zz":{"a":}}`, `{'a':1}`, `{"a":1]`, `{"l":}`, `{"zz":"`, strings.Repeat(`{"i":`, 300),
	} {
		if json.Unmarshal([]byte(text), &odd{}) == nil {
			t.Errorf("encoding/json takes %q", text)
		}
		if err := plain.Unmarshal([]byte(text), &odd{}); err == nil {
			t.Errorf("Unmarshal takes %q", text)
		}
	}
	if plain.Unmarshal([]byte(`{}`), odd{}) == nil {
		t.Error("Unmarshal takes a value that is no pointer")
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, s := range []string{`{"a":1,"c":{"x":["y"]},"i":{"N":"\u00e9"},"K":[{"m":2},null]}`, `null`, `{"A":2,"zz":[{"x":1e5}]}`, `{"e":{"x":1},"j":"2020-01-01T00:00:00Z"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var a, b odd
		wantErr, gotErr := json.Unmarshal(data, &a), plain.Unmarshal(data, &b)
		if (wantErr == nil) != (gotErr == nil) {
			if strings.Count(string(data), "{")+strings.Count(string(data), "[") > 190 {
				return // the depth limit
			}
			t.Fatalf("%q: %v, want %v", data, gotErr, wantErr)
		}
		if wantErr == nil && !reflect.DeepEqual(a, b) {
			t.Fatalf("%q:\n%#v\nwant\n%#v", data, b, a)
		}
	})
}

func BenchmarkFirstUse(b *testing.B) {
	for b.Loop() {
		var c record.Container
		if err := plain.Unmarshal([]byte(`{"version":1,"id":"ab","name":"x","config":{"image":"busybox","env":["A=1"]}}`), &c); err != nil {
			b.Fatal(err)
		}
	}
}
