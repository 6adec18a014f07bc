package plain

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// field is what the tag of a struct's field says.
type field struct {
	name                         string
	hidden, embedded             bool
	omitEmpty, omitZero, foreign bool
}

func describe(sf reflect.StructField) field {
	tag := sf.Tag.Get("json")
	name, options, _ := strings.Cut(tag, ",")
	f := field{name: name, hidden: tag == "-" || !sf.IsExported()}
	f.embedded = sf.Anonymous && name == "" && sf.Type.Kind() == reflect.Struct
	if name == "" {
		f.name = sf.Name
	}
	for option := range strings.SplitSeq(options, ",") {
		f.omitEmpty = f.omitEmpty || option == "omitempty"
		f.omitZero = f.omitZero || option == "omitzero"
		f.foreign = f.foreign || option == "string"
	}
	return f
}

// Marshal is json.Marshal for plain data.
func Marshal(v any) ([]byte, error) {
	return appendValue(make([]byte, 0, 512), reflect.ValueOf(v))
}

func appendValue(b []byte, v reflect.Value) ([]byte, error) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		v = v.Elem()
	}
	if !v.IsValid() {
		return append(b, "null"...), nil
	}
	if v.Type().PkgPath() != "" {
		receiver := v
		if v.CanAddr() {
			receiver = v.Addr()
		}
		switch receiver.Interface().(type) {
		case json.Marshaler, encoding.TextMarshaler:
			return appendOther(b, receiver)
		}
	}
	switch k := v.Kind(); {
	case k == reflect.Bool:
		return strconv.AppendBool(b, v.Bool()), nil
	case k == reflect.String:
		return appendText(b, v.String())
	case v.CanInt():
		return strconv.AppendInt(b, v.Int(), 10), nil
	case v.CanUint():
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case k == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		return appendList(b, v)
	case k == reflect.Map && v.Type().Key() == reflect.TypeFor[string]():
		return appendDictionary(b, v)
	case k == reflect.Struct && plainFields(v.Type()):
		object, _, err := appendFields(append(b, '{'), v, false)
		return append(object, '}'), err
	}
	return appendOther(b, v)
}

// plainFields says whether a struct has no field that is written in a way of encoding/json's own.
func plainFields(t reflect.Type) bool {
	for i := range t.NumField() {
		if strings.Contains(string(t.Field(i).Tag), ",string") {
			return false
		}
	}
	return true
}

// appendOther leaves a value to encoding/json.
func appendOther(b []byte, v reflect.Value) ([]byte, error) {
	data, err := json.Marshal(v.Interface())
	return append(b, data...), err
}

func appendText(b []byte, s string) ([]byte, error) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			data, err := json.Marshal(s)
			return append(b, data...), err
		}
	}
	return append(append(append(b, '"'), s...), '"'), nil
}

func appendList(b []byte, v reflect.Value) (_ []byte, err error) {
	if v.IsNil() {
		return append(b, "null"...), nil
	}
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendValue(b, v.Index(i)); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

func appendDictionary(b []byte, v reflect.Value) (_ []byte, err error) {
	if v.IsNil() {
		return append(b, "null"...), nil
	}
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	b = append(b, '{')
	for i, key := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendText(b, key.String()); err != nil {
			return b, err
		}
		if b, err = appendValue(append(b, ':'), v.MapIndex(key)); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

// appendFields writes the members of a struct, those of embedded ones among them; some says whether any was written before, and then after.
func appendFields(b []byte, v reflect.Value, some bool) (_ []byte, _ bool, err error) {
	t := v.Type()
	for i := range t.NumField() {
		e := v.Field(i)
		f := describe(t.Field(i))
		if f.embedded {
			if b, some, err = appendFields(b, e, some); err != nil {
				return b, some, err
			}
			continue
		}
		if f.hidden || f.omitEmpty && empty(e) || f.omitZero && zero(e) {
			continue
		}
		if some {
			b = append(b, ',')
		}
		some = true
		if b, err = appendText(b, f.name); err != nil {
			return b, some, err
		}
		if b, err = appendValue(append(b, ':'), e); err != nil {
			return b, some, err
		}
	}
	return b, some, nil
}

// empty is omitempty's rule.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// zero is omitzero's rule.
func zero(v reflect.Value) bool {
	if v.Type().PkgPath() != "" {
		if z, ok := v.Interface().(interface{ IsZero() bool }); ok && (v.Kind() != reflect.Pointer || !v.IsNil()) {
			return z.IsZero()
		}
	}
	return v.IsZero()
}
