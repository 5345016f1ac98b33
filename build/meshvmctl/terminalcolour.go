package main

import (
	"io"
	"os"
	"strings"
)

// style is how a terminal shows a line: parameters of Select Graphic Rendition (ECMA-48, section 8.3.117).
type style string

const (
	plainly    style = ""
	bold       style = "1"
	faint      style = "2"
	red        style = "31"
	green      style = "32"
	yellow     style = "33"
	endOfStyle       = "\x1b[0m"
)

// styleOf is the style of a row by what its first cell says.
func styleOf(cell string) style {
	switch name := strings.TrimSpace(cell); {
	case name == "fault", name == "problem":
		return red
	case name == "remedy", name == "try":
		return yellow
	case strings.HasPrefix(cell, "  + "):
		return green
	case strings.HasPrefix(cell, "  - "):
		return faint
	}
	return plainly
}

// coloured reports whether who reads a stream sees colours: a terminal that is not dumb, and nobody who wants none
// (https://no-color.org, and CLICOLOR=0 of https://bixense.com/clicolors).
func coloured(w io.Writer) bool {
	file, is := w.(*os.File)
	if !is || os.Getenv("NO_COLOR") != "" || os.Getenv("CLICOLOR") == "0" || os.Getenv("TERM") == "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// styled has a text written in a style, and everything before it in its own.
func (p *printer) styled(s style, write func()) {
	to, is := p.to.(*terminal)
	if !is || !to.colours || s == plainly {
		write()
		return
	}
	// An error stays with p.w, whose Flush tells it in the end.
	_ = p.w.Flush()
	to.command("\x1b[" + string(s) + "m")
	write()
	_ = p.w.Flush()
	to.command(endOfStyle)
}
