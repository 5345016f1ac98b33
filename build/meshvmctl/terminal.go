package main

import (
	"io"
	"unicode"
	"unicode/utf8"
)

// terminal writes text without what a terminal would act on but for ends of lines and tabs: names, notes and errors
// come from objects and peers, and anybody may read what meshvmctl prints. It is not safe for concurrent use.
type terminal struct {
	to io.Writer
	// colours: whoever reads sees them.
	colours bool
	// part is the beginning of a character whose end has not been written yet.
	part []byte
}

// Write implements io.Writer.
func (t *terminal) Write(text []byte) (int, error) {
	written := len(text)
	text = append(t.part, text...)
	t.part = nil
	safe := make([]byte, 0, len(text))
	for len(text) > 0 {
		if !utf8.FullRune(text) {
			t.part = text
			break
		}
		r, size := utf8.DecodeRune(text)
		text = text[size:]
		if r == utf8.RuneError || r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			r = '?'
		}
		safe = utf8.AppendRune(safe, r)
	}
	if _, err := t.to.Write(safe); err != nil {
		return 0, err
	}
	return written, nil
}

// command writes what the terminal shall act on. Only this program's own words may go this way.
func (t *terminal) command(sequence string) {
	// Where nothing can be written, the text that follows says so.
	_, _ = io.WriteString(t.to, sequence)
}
