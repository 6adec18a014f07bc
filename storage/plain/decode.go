// Package plain reads and writes JSON of plain data as encoding/json does, without the table that encoding/json makes of every type it meets: for a value that
// is read once in a process's life, as a container's record is, making the table takes ten times longer than reading. Whatever is not plain (types with
// methods of their own, floats, byte slices) is left to encoding/json.
package plain

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// maxDepth is how deep values may be nested.
const maxDepth = 200

// decoder reads one JSON text.
type decoder struct {
	data  []byte
	at    int
	depth int
}

var errSyntax = errors.New("it is not valid JSON")

// Unmarshal is json.Unmarshal for plain data.
func Unmarshal(data []byte, v any) error {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return fmt.Errorf("cannot decode into a %T: it is no pointer", v)
	}
	d := &decoder{data: data}
	if err := d.value(p.Elem()); err != nil {
		return fmt.Errorf("%w (at byte %d)", err, d.at)
	}
	if d.space(); d.at != len(data) {
		return fmt.Errorf("%w (at byte %d)", errSyntax, d.at)
	}
	return nil
}

// space passes over white space and returns the next byte, 0 at the end.
func (d *decoder) space() byte {
	for ; d.at < len(d.data); d.at++ {
		switch d.data[d.at] {
		case ' ', '\t', '\n', '\r':
		default:
			return d.data[d.at]
		}
	}
	return 0
}

// value reads the next value into v.
func (d *decoder) value(v reflect.Value) error {
	c := d.space()
	if c == 'n' && d.word("null") {
		switch v.Kind() {
		case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
			v.SetZero()
		}
		return nil
	}
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	if v.Type().PkgPath() != "" {
		switch v.Addr().Interface().(type) {
		case json.Unmarshaler, encoding.TextUnmarshaler:
			return d.other(v)
		}
	}
	switch k := v.Kind(); {
	case k == reflect.Bool && (c == 't' || c == 'f'):
		v.SetBool(c == 't')
		if !d.word("true") && !d.word("false") {
			return errSyntax
		}
		return nil
	case k == reflect.String && c == '"':
		s, err := d.text()
		v.SetString(s)
		return err
	case v.CanInt():
		n, err := strconv.ParseInt(d.number(), 10, v.Type().Bits())
		v.SetInt(n)
		return err
	case v.CanUint():
		n, err := strconv.ParseUint(d.number(), 10, v.Type().Bits())
		v.SetUint(n)
		return err
	case k == reflect.Slice && c == '[' && v.Type().Elem().Kind() != reflect.Uint8:
		return d.list(v)
	case k == reflect.Map && c == '{' && v.Type().Key() == reflect.TypeFor[string]():
		return d.dictionary(v)
	case k == reflect.Struct && c == '{':
		return d.object(v)
	}
	return d.other(v)
}

// other leaves the next value to encoding/json.
func (d *decoder) other(v reflect.Value) error {
	from := d.at
	if err := d.skip(); err != nil {
		return err
	}
	return json.Unmarshal(d.data[from:d.at], v.Addr().Interface())
}

// word passes over w if it is next.
func (d *decoder) word(w string) bool {
	if len(d.data)-d.at < len(w) || string(d.data[d.at:d.at+len(w)]) != w {
		return false
	}
	d.at += len(w)
	return true
}

// number is the next integer's text; what JSON does not allow comes back as something that is none.
func (d *decoder) number() string {
	from := d.at
	for d.at < len(d.data) && (d.data[d.at] >= '0' && d.data[d.at] <= '9' || d.data[d.at] == '-') {
		d.at++
	}
	s := string(d.data[from:d.at])
	if digits := strings.TrimPrefix(s, "-"); len(digits) > 1 && digits[0] == '0' {
		return "0" + s + "?" // a leading zero
	}
	return s
}

// text reads a string.
func (d *decoder) text() (string, error) {
	if d.space() != '"' {
		return "", errSyntax
	}
	from := d.at
	simple := true
	for d.at++; d.at < len(d.data); d.at++ {
		switch c := d.data[d.at]; {
		case c == '"':
			d.at++
			if simple {
				return string(d.data[from+1 : d.at-1]), nil
			}
			var s string
			err := json.Unmarshal(d.data[from:d.at], &s)
			return s, err
		case c == '\\':
			simple = false
			d.at++
		case c < ' ':
			return "", errSyntax
		case c >= 0x80:
			simple = false
		}
	}
	return "", errSyntax
}

// items calls each for every element between the opening byte, which is next, and the closing one.
func (d *decoder) items(closing byte, each func() error) error {
	if d.depth++; d.depth > maxDepth {
		return errors.New("it is nested too deeply")
	}
	defer func() { d.depth-- }()
	d.at++
	if d.space() == closing {
		d.at++
		return nil
	}
	for {
		if err := each(); err != nil {
			return err
		}
		switch d.space() {
		case ',':
			d.at++
		case closing:
			d.at++
			return nil
		default:
			return errSyntax
		}
	}
}

// key reads a member's name and the colon.
func (d *decoder) key() (string, error) {
	name, err := d.text()
	if err == nil && d.space() != ':' {
		err = errSyntax
	}
	d.at++
	return name, err
}

func (d *decoder) list(v reflect.Value) error {
	n := 0
	err := d.items(']', func() error {
		if n == v.Len() {
			if n == v.Cap() {
				v.Grow(1)
			}
			v.SetLen(n + 1)
		}
		e := v.Index(n)
		e.SetZero()
		n++
		return d.value(e)
	})
	if n == 0 && v.IsNil() || v.Len() > 0 && n == 0 {
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	}
	v.SetLen(n)
	return err
}

func (d *decoder) dictionary(v reflect.Value) error {
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	return d.items('}', func() error {
		name, err := d.key()
		if err != nil {
			return err
		}
		e := reflect.New(v.Type().Elem()).Elem()
		if err := d.value(e); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(name), e)
		return nil
	})
}

// object reads into a struct. Members mostly come in the order of the fields, so the search goes on where it stopped.
func (d *decoder) object(v reflect.Value) error {
	next := 0
	return d.items('}', func() error {
		name, err := d.key()
		if err != nil {
			return err
		}
		field, i := find(v, name, next, func(a, b string) bool { return a == b })
		if i < 0 {
			if field, i = find(v, name, 0, strings.EqualFold); i < 0 {
				return d.skip()
			}
		}
		next = i + 1
		return d.value(field)
	})
}

// find is the field for a member, looked for from field number from on, around the end.
func find(v reflect.Value, name string, from int, same func(a, b string) bool) (reflect.Value, int) {
	t := v.Type()
	n := t.NumField()
	for j := range n {
		i := (from + j) % n
		f := describe(t.Field(i))
		switch {
		case f.embedded:
			if inner, k := find(v.Field(i), name, 0, same); k >= 0 {
				return inner, i
			}
		case !f.hidden && same(f.name, name):
			return v.Field(i), i
		}
	}
	return reflect.Value{}, -1
}

// skip passes over the next value.
func (d *decoder) skip() error {
	switch c := d.space(); c {
	case '{':
		return d.items('}', func() error {
			if _, err := d.key(); err != nil {
				return err
			}
			return d.skip()
		})
	case '[':
		return d.items(']', d.skip)
	case '"':
		_, err := d.text()
		return err
	}
	from := d.at
	for d.at < len(d.data) && !strings.ContainsRune(" \t\r\n,]}:", rune(d.data[d.at])) {
		d.at++
	}
	if !json.Valid(d.data[from:d.at]) {
		return errSyntax
	}
	return nil
}
