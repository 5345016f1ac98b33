package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// describe is the table of all values that have a description, in their order. A value without one is an error, unless all
// that is in it has.
func describe(content []byte) (string, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(content, &document); err != nil {
		return "", err
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return "", errors.New("want a mapping")
	}
	var table strings.Builder
	table.WriteString("| value | default | what it does |\n|---|---|---|\n")
	err := rows(&table, document.Content[0], "")
	return table.String(), err
}

// rows adds the values of a mapping, whose path ends in a dot or is empty.
func rows(table *strings.Builder, mapping *yaml.Node, path string) error {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		name := path + key.Value
		said := description(key.HeadComment)
		switch {
		case said != "":
			literal, err := inline(value)
			if err != nil {
				return fmt.Errorf("line %d: %s: %w", value.Line, name, err)
			}
			fmt.Fprintf(table, "| `%s` | %s | %s |\n", name, literal, strings.ReplaceAll(said, "|", `\|`))
		case value.Kind == yaml.MappingNode && len(value.Content) > 0:
			if err := rows(table, value, name+"."); err != nil {
				return err
			}
		default:
			return fmt.Errorf("line %d: %s has no description that begins with # --", key.Line, name)
		}
	}
	return nil
}

// description is what a comment says from "# --" on, on one line.
func description(comment string) string {
	_, said, found := strings.Cut(comment, "# -- ")
	if !found {
		return ""
	}
	return strings.Join(strings.Fields(strings.ReplaceAll(said, "\n#", "\n")), " ")
}

// inline is a value as JSON, which is how --set-json takes it.
func inline(node *yaml.Node) (string, error) {
	var value any
	if err := node.Decode(&value); err != nil {
		return "", err
	}
	var literal bytes.Buffer
	encoder := json.NewEncoder(&literal)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "", err
	}
	return "`" + strings.TrimSpace(literal.String()) + "`", nil
}
