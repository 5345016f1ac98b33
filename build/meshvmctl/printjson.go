package main

import (
	"encoding/json"
	"io"
)

// printJSON writes a value as `--output json` shows it: indented, and as it is, since nobody puts it into a page of HTML.
func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}
