package join

import (
	"errors"
	"fmt"
	"strings"
)

// line is one of a Corefile that says something.
type line struct {
	number int
	words  []string
}

// option is a line, and what it is in: depth 0 for the addresses of a server block, 1 for a plugin, 2 for an option of the
// plugin named in.
type option struct {
	line
	depth int
	in    string
}

// parse splits a Corefile as CoreDNS does: words, quoted ones too, comments, and blocks in braces.
func parse(text string) ([]option, error) {
	lines, err := split(text)
	if err != nil {
		return nil, err
	}
	var options []option
	var open []line
	for _, l := range lines {
		if l.words[0] == "}" {
			if len(open) == 0 {
				return nil, fmt.Errorf("line %d: there is no block that } could end", l.number)
			}
			open = open[:len(open)-1]
			continue
		}
		o := option{line: l, depth: len(open)}
		if len(open) > 1 {
			o.in = open[1].words[0]
		}
		if last := len(l.words) - 1; l.words[last] == "{" {
			o.words = l.words[:last]
			if last == 0 {
				return nil, fmt.Errorf("line %d: a block has no name", l.number)
			}
			open = append(open, l)
		}
		options = append(options, o)
	}
	if len(open) > 0 {
		return nil, fmt.Errorf("line %d: the block %s has no end", open[len(open)-1].number, open[len(open)-1].words[0])
	}
	if len(options) == 0 {
		return nil, errors.New("there is nothing in it")
	}
	return options, nil
}

// split splits a text into lines of words.
func split(text string) ([]line, error) {
	var lines []line
	current := line{number: 1}
	number, quoted, started := 1, false, false
	var word strings.Builder
	endWord := func() {
		if started {
			if len(current.words) == 0 {
				current.number = number
			}
			current.words = append(current.words, word.String())
		}
		word.Reset()
		started = false
	}
	endLine := func() {
		endWord()
		if len(current.words) > 0 {
			lines = append(lines, current)
		}
		current = line{}
	}
	comment, escaped := false, false
	for _, r := range text {
		switch {
		case comment && r != '\n':
		case quoted && escaped:
			if r != '"' {
				word.WriteByte('\\')
			}
			word.WriteRune(r)
			escaped = false
		case quoted && r == '\\':
			escaped = true
		case quoted && r == '"':
			quoted = false
			endWord()
		case quoted:
			word.WriteRune(r)
		case r == '\n':
			endLine()
			comment = false
		case r == ' ' || r == '\t' || r == '\r':
			endWord()
		case r == '#' && !started:
			comment = true
		case r == '"' && !started:
			quoted, started = true, true
		default:
			word.WriteRune(r)
			started = true
		}
		if r == '\n' {
			number++
		}
	}
	if quoted {
		return nil, errors.New("a quotation has no end")
	}
	endLine()
	return lines, nil
}
