package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	yamlv2 "go.yaml.in/yaml/v2"
	"go.yaml.in/yaml/v3"
)

const (
	// maxDepth bounds nesting. No manifest comes near; an alias within itself has no bound.
	maxDepth = 100
	// maxExpansion bounds the bytes that aliases add to a document.
	maxExpansion = 4 << 20
)

func itoa(i int) string { return strconv.Itoa(i) }

// readYAML splits a file of YAML documents.
func readYAML(content []byte) ([]value, *fault) {
	if at := invalidUTF8(content); at >= 0 {
		return nil, &fault{1 + bytes.Count(content[:at], []byte("\n")), "not valid UTF-8", "YAML in UTF-8"}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var values []value
	for {
		var node yaml.Node
		err := decoder.Decode(&node)
		if errors.Is(err, io.EOF) {
			return values, nil
		}
		if err != nil {
			line, message := explainYAML(content, err)
			return nil, &fault{line, "not valid YAML: " + message, "YAML"}
		}
		encoder := yamlEncoder{}
		encoder.newLine(node.Content[0].Line)
		if fault := encoder.encode(&node, 0); fault != nil {
			return nil, fault
		}
		// The line break that newLine wrote is no part of the value.
		values = append(values, value{document{encoder.out, encoder.starts, encoder.lines}, encoder.out[1:], 1})
	}
}

func invalidUTF8(content []byte) int {
	for at := 0; at < len(content); {
		r, size := utf8.DecodeRune(content[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return -1
}

var yamlErrorLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

// explainYAML finds the line of a syntax error. The parser's third version names the line at which
// the enclosing block starts, the second the one at which it failed, and both count a grammar's
// errors, unlike a scanner's, from zero.
func explainYAML(content []byte, err error) (int, string) {
	decoder := yamlv2.NewDecoder(bytes.NewReader(content))
	var second error
	for second == nil {
		second = decoder.Decode(&yamlSyntaxOnly{})
	}
	if !errors.Is(second, io.EOF) {
		err = second
	}
	parts := yamlErrorLine.FindStringSubmatch(err.Error())
	if parts == nil {
		return 1, err.Error()
	}
	line, message := 1, parts[2]
	if number, err := strconv.Atoi(parts[1]); err == nil {
		line = number
		if strings.HasPrefix(message, "did not find expected") {
			line++
		}
	}
	return min(line, 1+bytes.Count(content, []byte("\n"))), message
}

// yamlSyntaxOnly has a document parsed and nothing decoded.
type yamlSyntaxOnly struct{}

func (*yamlSyntaxOnly) UnmarshalYAML(func(any) error) error { return nil }

// yamlEncoder writes a YAML document as JSON, each key and each element on a line of its own, and
// notes which line of the file that is.
type yamlEncoder struct {
	out           []byte
	starts, lines []int
	// aliases is how deep in aliases the encoder is, and expanded what they have added so far.
	aliases, expanded int
}

func (e *yamlEncoder) newLine(line int) {
	e.out = append(e.out, '\n')
	e.starts = append(e.starts, len(e.out))
	e.lines = append(e.lines, max(line, 1))
}

func (e *yamlEncoder) encode(node *yaml.Node, depth int) *fault {
	if depth > maxDepth {
		return &fault{node.Line, fmt.Sprintf("nested deeper than %d levels", maxDepth), "less nesting, and no alias within itself"}
	}
	if fault := e.expand(node); fault != nil {
		return fault
	}
	switch node.Kind {
	case yaml.DocumentNode:
		return e.encode(node.Content[0], depth+1)
	case yaml.AliasNode:
		e.aliases++
		defer func() { e.aliases-- }()
		return e.encode(node.Alias, depth+1)
	case yaml.MappingNode:
		return e.encodeMapping(node, depth)
	case yaml.SequenceNode:
		e.out = append(e.out, '[')
		for i, element := range node.Content {
			if i > 0 {
				e.out = append(e.out, ',')
			}
			e.newLine(element.Line)
			if fault := e.encode(element, depth+1); fault != nil {
				return fault
			}
		}
		e.out = append(e.out, ']')
		return nil
	default:
		return e.encodeScalar(node)
	}
}

// expand counts a node that is there because of an alias.
func (e *yamlEncoder) expand(node *yaml.Node) *fault {
	if e.aliases > 0 {
		e.expanded += len(node.Value) + len("\n,")
	}
	if e.expanded > maxExpansion {
		return &fault{node.Line, fmt.Sprintf("aliases expand the document by more than %d bytes", maxExpansion), "fewer aliases"}
	}
	return nil
}

func (e *yamlEncoder) encodeMapping(node *yaml.Node, depth int) *fault {
	mapping := yamlMapping{encoder: e, seen: map[string]bool{}}
	if fault := mapping.read(node, depth); fault != nil {
		return fault
	}
	e.out = append(e.out, '{')
	for i, pair := range mapping.pairs {
		if i > 0 {
			e.out = append(e.out, ',')
		}
		if fault := e.expand(pair.key); fault != nil {
			return fault
		}
		e.newLine(pair.key.Line)
		e.string(pair.key.Value)
		e.out = append(e.out, ':')
		if fault := e.encode(pair.value, depth+1); fault != nil {
			return fault
		}
	}
	e.out = append(e.out, '}')
	return nil
}

func (e *yamlEncoder) encodeScalar(node *yaml.Node) *fault {
	switch node.ShortTag() {
	case "!!null":
		e.out = append(e.out, "null"...)
	case "!!bool", "!!int", "!!float":
		var decoded any
		err := node.Decode(&decoded)
		if float, ok := decoded.(float64); ok && (math.IsNaN(float) || math.IsInf(float, 0)) {
			err = errors.New("not a finite number")
		}
		var encoded []byte
		if err == nil {
			encoded, err = json.Marshal(decoded)
		}
		if err != nil {
			return &fault{node.Line, fmt.Sprintf("%q: %v", node.Value, err), "a string, a finite number, true or false"}
		}
		e.out = append(e.out, encoded...)
	default: // Timestamps and binaries too: JSON has neither, and Kubernetes reads the text.
		e.string(node.Value)
	}
	return nil
}

func (e *yamlEncoder) string(text string) {
	encoded, err := json.Marshal(text)
	if err != nil { // Not possible: any string can be encoded.
		panic(err)
	}
	e.out = append(e.out, encoded...)
}

// yamlMapping is a mapping with what `<<` merges into it.
type yamlMapping struct {
	encoder *yamlEncoder
	pairs   []yamlPair
	seen    map[string]bool
}

type yamlPair struct{ key, value *yaml.Node }

func (m *yamlMapping) read(node *yaml.Node, depth int) *fault {
	var merges []*yaml.Node
	own := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = &yaml.Node{Kind: key.Alias.Kind, Tag: key.Alias.Tag, Value: key.Alias.Value, Line: key.Line}
		}
		if key.Kind != yaml.ScalarNode {
			return &fault{key.Line, "a key that is a list or a mapping", "a string as key"}
		}
		if key.ShortTag() == "!!merge" {
			merges = append(merges, value)
			continue
		}
		if first, twice := own[key.Value]; twice {
			return &fault{key.Line, fmt.Sprintf("key %q is there twice, first in line %d", key.Value, first), "each key once"}
		}
		own[key.Value] = key.Line
		m.add(yamlPair{key, value})
	}
	for _, merge := range merges {
		if fault := m.merge(merge, depth+1); fault != nil {
			return fault
		}
	}
	return nil
}

// add takes a pair unless a stronger one has the same key: a mapping's own are stronger than those
// that it merges, and those merged first are stronger than later ones.
func (m *yamlMapping) add(pair yamlPair) {
	if !m.seen[pair.key.Value] {
		m.seen[pair.key.Value] = true
		m.pairs = append(m.pairs, pair)
	}
}

func (m *yamlMapping) merge(node *yaml.Node, depth int) *fault {
	if depth > maxDepth {
		return &fault{node.Line, fmt.Sprintf("merged deeper than %d levels", maxDepth), "less nesting, and no alias within itself"}
	}
	// Merges of merges can be many even where little comes of them.
	m.encoder.aliases++
	defer func() { m.encoder.aliases-- }()
	if fault := m.encoder.expand(node); fault != nil {
		return fault
	}
	switch node.Kind {
	case yaml.AliasNode:
		return m.merge(node.Alias, depth+1)
	case yaml.MappingNode:
		return m.read(node, depth)
	case yaml.SequenceNode:
		for _, element := range node.Content {
			if fault := m.merge(element, depth+1); fault != nil {
				return fault
			}
		}
		return nil
	}
	return &fault{node.Line, "<< merges a single value", "a mapping, or a list of mappings, after <<"}
}
