package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// page is the Markdown of a command's page.
func (h help) page(words []string, summary string) string {
	var page strings.Builder
	fmt.Fprintf(&page, "# NAME\n\n%s - %s\n\n# SYNOPSIS\n\n", strings.Join(words, "-"), escape(summary))
	for _, u := range h.usage {
		name := strings.Join(words, " ")
		if rest, ok := strings.CutPrefix(u.name, name); ok {
			fmt.Fprintf(&page, "**%s**%s", name, escape(rest))
		} else {
			page.WriteString(escape(u.name))
		}
		if u.text != "" {
			fmt.Fprintf(&page, " (%s)", escape(u.text))
		}
		page.WriteString("\n\n")
	}
	page.WriteString("# DESCRIPTION\n\n")
	for _, part := range h.rest {
		page.WriteString(paragraph(part))
	}
	see := []string{}
	if len(h.commands) > 0 {
		page.WriteString("# COMMANDS\n\n")
		for _, c := range h.commands {
			fmt.Fprintf(&page, "**%s**\n: %s\n\n", c.name, escape(c.text))
			if c.name != "help" {
				see = append(see, "**"+strings.Join(words, "-")+"-"+c.name+"**(1)")
			}
		}
	}
	if len(h.flags) > 0 {
		page.WriteString("# OPTIONS\n\n")
		for _, f := range h.flags {
			fmt.Fprintf(&page, "%s\n: %s\n\n", f.name, escape(f.text))
		}
	}
	if h.exits != "" {
		fmt.Fprintf(&page, "# EXIT STATUS\n\n%s\n\n", escape(h.exits))
	}
	if above := words[:len(words)-1]; len(above) > 0 {
		see = append(see, "**"+strings.Join(above, "-")+"**(1)")
	}
	see = append(see, "**meshvm**(5)", "**coredns-meshvm**(8)")
	fmt.Fprintf(&page, "# SEE ALSO\n\n%s\n", strings.Join(see, ", "))
	return page.String()
}

// paragraph is one of a help: lines that are indented stay as they are.
func paragraph(part string) string {
	var page, text strings.Builder
	var kept []string
	flush := func() {
		if text.Len() > 0 {
			page.WriteString(escape(unwrap(text.String())) + "\n\n")
			text.Reset()
		}
		if len(kept) > 0 {
			page.WriteString("```\n" + strings.Join(kept, "\n") + "\n```\n\n")
			kept = nil
		}
	}
	for line := range strings.SplitSeq(part, "\n") {
		indented := strings.HasPrefix(line, "  ")
		if indented && text.Len() > 0 || !indented && len(kept) > 0 {
			flush()
		}
		if indented {
			kept = append(kept, strings.TrimPrefix(line, "  "))
		} else {
			text.WriteString(line + "\n")
		}
	}
	flush()
	return page.String()
}

var (
	heading = regexp.MustCompile(`(?m)^## (.*)$`)
	// relative are links that lead nowhere from a manual page.
	relative = regexp.MustCompile(`\[([^\]]+)\]\((?:[^):]*|[^)]*\.md[^)]*)\)`)
)

// ofPlugin is the Markdown of the page of a plugin, of its README as those of CoreDNS are written.
func ofPlugin(readme string) (string, error) {
	title, text, ok := strings.Cut(readme, "\n## Name\n")
	if !ok || !strings.HasPrefix(strings.TrimSpace(title), "# ") {
		return "", errors.New("want it to begin with # and the plugin's name, then ## Name")
	}
	text = relative.ReplaceAllString("## Name\n"+text, "$1")
	text = heading.ReplaceAllStringFunc(text, func(line string) string { return "# " + strings.ToUpper(strings.TrimPrefix(line, "## ")) })
	text = defineTables(strings.ReplaceAll(text, "\n### ", "\n## "))
	const also = "\n# SEE ALSO\n"
	if !strings.Contains(text, also) {
		return "", errors.New("want ## See Also in it")
	}
	return strings.Replace(text, also, also+"\n**coredns-meshvm**(8), **meshvmctl**(1)\n", 1), nil
}

// defineTables makes terms and definitions of tables, which terminals have not the width for: the first column is the term.
func defineTables(text string) string {
	var lines []string
	within, heads := false, 0
	for line := range strings.SplitSeq(text, "\n") {
		row := strings.HasPrefix(line, "|")
		switch {
		case !row:
			within, heads = false, 0
			lines = append(lines, line)
		case !within:
			within = true
			heads++ // the titles of the columns
		case heads == 1:
			heads++ // and the line below them
		default:
			cells := strings.Split(strings.Trim(line, "| "), " | ")
			lines = append(lines, cells[0], ": "+strings.Join(cells[1:], "; "), "")
		}
	}
	return strings.Join(lines, "\n")
}
