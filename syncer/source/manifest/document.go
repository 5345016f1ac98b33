package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"sort"
	"strings"
)

// fault is what is wrong in a file, and where.
type fault struct {
	line       int
	what, want string
}

// document is one document of a file, as JSON whose lines are known in the file.
type document struct {
	json []byte
	// starts are the offsets at which lines of json start, and lines says where in the file each
	// one stands.
	starts, lines []int
}

// line is the file's line of an offset into the document's JSON.
func (d document) line(offset int) int {
	i := sort.SearchInts(d.starts, offset+1) - 1
	return d.lines[max(i, 0)]
}

// value is one value within a document.
type value struct {
	document document
	json     []byte
	offset   int
}

func (v value) line() int { return v.document.line(v.offset) }

// lineAfter is the line of an offset into the value.
func (v value) lineAfter(offset int) int { return v.document.line(v.offset + offset) }

func (v value) isObject() bool { return len(v.json) > 0 && v.json[0] == '{' }

// within is the part of the value that ends at an offset into it.
func (v value) within(raw json.RawMessage, end int64) value {
	return value{v.document, raw, v.offset + int(end) - len(raw)}
}

// members calls yield for every member of an object until that returns false.
func (v value) members(yield func(key string, member value) bool) {
	decoder := json.NewDecoder(bytes.NewReader(v.json))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return
	}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return
		}
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return
		}
		if name, ok := key.(string); !ok || !yield(name, v.within(raw, decoder.InputOffset())) {
			return
		}
	}
}

// member is an object's member by name.
func (v value) member(name string) (found value, ok bool) {
	v.members(func(key string, member value) bool {
		if key == name {
			found, ok = member, true
		}
		return !ok
	})
	return found, ok
}

// elements calls yield for every element of an array until that returns false.
func (v value) elements(yield func(index int, element value) bool) {
	decoder := json.NewDecoder(bytes.NewReader(v.json))
	if start, err := decoder.Token(); err != nil || start != json.Delim('[') {
		return
	}
	for i := 0; decoder.More(); i++ {
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil || !yield(i, v.within(raw, decoder.InputOffset())) {
			return
		}
	}
}

// lineOfPath is the line of a field named as in `spec.ports[0].name`, or of the innermost value
// around it that is there.
func (v value) lineOfPath(path string) int {
	inner, rest, found := value{}, "", false
	switch {
	case path == "":
	case path[0] == '[':
		end := strings.IndexByte(path, ']')
		v.elements(func(index int, element value) bool {
			if end > 0 && path[1:end] == itoa(index) {
				inner, rest, found = element, path[end+1:], true
			}
			return !found
		})
	default:
		name := strings.TrimPrefix(path, ".")
		longest := -1
		v.members(func(key string, member value) bool {
			// A key may hold dots itself: the longest that fits is meant.
			after, fits := strings.CutPrefix(name, key)
			if fits && len(key) > longest && (after == "" || after[0] == '.' || after[0] == '[') {
				inner, rest, found, longest = member, after, true, len(key)
			}
			return true
		})
	}
	if !found {
		return v.line()
	}
	return inner.lineOfPath(rest)
}

// readJSON splits a file of JSON values.
func readJSON(content []byte) ([]value, *fault) {
	all := document{json: content, starts: []int{0}, lines: []int{1}}
	for i, c := range content {
		if c == '\n' {
			all.starts = append(all.starts, i+1)
			all.lines = append(all.lines, len(all.starts))
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	var values []value
	for {
		var raw json.RawMessage
		err := decoder.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			at := len(content)
			if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
				at = int(syntax.Offset) - 1
			}
			return nil, &fault{all.line(at), "not valid JSON: " + err.Error(), "JSON"}
		}
		values = append(values, value{all, raw, int(decoder.InputOffset()) - len(raw)})
	}
}
