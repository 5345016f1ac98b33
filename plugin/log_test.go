package meshvm

import (
	"bytes"
	"errors"
	golog "log"
	"log/slog"
	"strings"
	"testing"
	"unicode"
)

// TestLogTakesNoLinesFromOthers: whatever a peer or an object says, a record is one line, and a terminal only shows
// it.
func TestLogTakesNoLinesFromOthers(t *testing.T) {
	var written bytes.Buffer
	defer golog.SetOutput(golog.Writer())
	defer golog.SetFlags(golog.Flags())
	golog.SetOutput(&written)
	golog.SetFlags(0)

	const evil = "a\n[ERROR] plugin/meshvm: forged\r\x1b[2J\u009b2J\u202e\xff\x00 b=c"
	logger := newLogger()
	tests := map[string]func(){
		"an error":             func() { logger.Error("cannot follow syncer", "error", errors.New(evil)) },
		"a text":               func() { logger.Warn("lost syncer", "address", evil) },
		"bytes":                func() { logger.Info("x", "bytes", []byte(evil)) },
		"a list":               func() { logger.Info("x", "list", []string{evil}) },
		"a structure":          func() { logger.Info("x", "structure", struct{ A string }{evil}) },
		"a group":              func() { logger.Info("x", slog.Group("g", "text", evil)) },
		"what all records say": func() { logger.With("node", evil).Info("x") },
		"a message":            func() { logger.Error(evil) },
		"the name of a text":   func() { logger.Error("x", evil, "value") },
	}
	for name, write := range tests {
		t.Run(name, func(t *testing.T) {
			written.Reset()
			write()
			got := written.String()
			if lines := strings.Count(got, "\n"); lines != 1 || !strings.HasSuffix(got, "\n") {
				t.Errorf("Lines: got %d in %q, want one", lines, got)
			}
			if i := strings.IndexFunc(strings.TrimSuffix(got, "\n"), func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }); i >= 0 {
				t.Errorf("Line: got %q, want what can be printed", got)
			}
		})
	}
}
