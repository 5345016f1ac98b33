package main

import (
	"errors"
	"regexp"
	"strings"
)

// entry is a name with what is said of it.
type entry struct{ name, text string }

// help is what a command says of itself.
type help struct {
	usage    []entry // a command line, and what it is for
	commands []entry
	flags    []entry
	exits    string
	// rest is everything else, in order: paragraphs, and lists with a title.
	rest []string
}

var (
	// columns are what parts a name and its text.
	columns = regexp.MustCompile(`\s{2,}`)
	// flagLine is the first line of a flag: -o, --output FORMAT   text.
	flagLine = regexp.MustCompile(`^ {2}(-\w, |    )(--[\w-]+)(?:(?:\[=[^\]]*\])|(?: (\S+)))?(?:\s{2,}(.*))?$`)
)

// parse takes a help apart.
func parse(text string) (help, error) {
	var h help
	for part := range strings.SplitSeq(strings.Trim(text, "\n"), "\n\n") {
		lines := strings.Split(part, "\n")
		switch {
		case lines[0] == "Usage:":
			h.usage = list(lines[1:])
		case lines[0] == "Commands:":
			h.commands = list(lines[1:])
		case lines[0] == "Flags:":
			flags, err := parseFlags(lines[1:])
			if err != nil {
				return help{}, err
			}
			h.flags = flags
		case strings.Contains(part, "Exit codes:"):
			before, exits, _ := strings.Cut(part, "Exit codes:")
			if before = strings.TrimSpace(before); before != "" {
				h.rest = append(h.rest, before)
			}
			h.exits = unwrap(exits)
		default:
			h.rest = append(h.rest, part)
		}
	}
	if len(h.usage) == 0 || len(h.rest) == 0 {
		return help{}, errors.New("want a description and Usage: in it")
	}
	return h, nil
}

// list is lines of a name and a text, in columns.
func list(lines []string) []entry {
	var entries []entry
	for _, line := range lines {
		columns := columns.Split(strings.TrimSpace(line), 2)
		e := entry{name: columns[0]}
		if len(columns) > 1 {
			e.text = columns[1]
		}
		entries = append(entries, e)
	}
	return entries
}

func parseFlags(lines []string) ([]entry, error) {
	var flags []entry
	for _, line := range lines {
		if found := flagLine.FindStringSubmatch(line); found != nil {
			name := "**" + found[2] + "**"
			if short := strings.Trim(found[1], " ,"); short != "" {
				name = "**" + short + "**, " + name
			}
			if found[3] != "" {
				name += " *" + escape(found[3]) + "*"
			}
			flags = append(flags, entry{name, found[4]})
			continue
		}
		if len(flags) == 0 || !strings.HasPrefix(line, "   ") {
			return nil, errors.New("no flag in the line " + line)
		}
		flags[len(flags)-1].text += " " + strings.TrimSpace(line)
	}
	return flags, nil
}

// unwrap makes one line of several.
func unwrap(text string) string { return strings.Join(strings.Fields(text), " ") }

var special = regexp.MustCompile("[\\\\`*_{}\\[\\]<>#|~]")

// escape is text that Markdown leaves as it is.
func escape(text string) string { return special.ReplaceAllString(text, `\$0`) }
