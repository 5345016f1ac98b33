package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestPages makes all pages of the program as it is, twice.
func TestPages(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "meshvmctl")
	if out, err := exec.Command("go", "build", "-o", program, "../meshvmctl").CombinedOutput(); err != nil {
		t.Fatalf("build meshvmctl: %v\n%s", err, out)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "86400")
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	for _, out := range []string{first, second} {
		if err := write(t.Context(), program, "../../plugin/README.md", out); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(first)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		one, err := os.ReadFile(filepath.Join(first, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		other, err := os.ReadFile(filepath.Join(second, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(one, other) {
			t.Errorf("%s: got other bytes the second time, want the same", e.Name())
		}
		for _, want := range []string{`"1970-01-02"`, ".SH NAME", ".SH DESCRIPTION", ".SH SEE ALSO"} {
			if !bytes.Contains(one, []byte(want)) {
				t.Errorf("%s: got no %s in it", e.Name(), want)
			}
		}
		if bytes.Contains(one, []byte(".TS")) {
			t.Errorf("%s: got a table, which is wider than a terminal", e.Name())
		}
	}
	for _, want := range []string{"coredns-meshvm.8", "meshvm.5", "meshvmctl.1", "meshvmctl-join.1", "meshvmctl-redirect.1", "meshvmctl-redirect-plan.1", "meshvmctl-token-inspect.1"} {
		if !slices.Contains(names, want) {
			t.Errorf("got pages %q, want %s among them", names, want)
		}
	}
}

func TestParse(t *testing.T) {
	h, err := parse(`meshvmctl do does * things.

Usage:
  meshvmctl do NAME [flags]    for one

It is done.
Exit codes: 0 done,
1 not done.

Flags:
  -o, --output FORMAT   FORMAT of
                        the answer
      --all[=true|false]   everything
`)
	if err != nil {
		t.Fatal(err)
	}
	page := h.page([]string{"meshvmctl", "do"}, "do it")
	for _, want := range []string{
		"meshvmctl-do - do it", "**meshvmctl do** NAME \\[flags\\] (for one)", "meshvmctl do does \\* things.", "It is done.",
		"**-o**, **--output** *FORMAT*\n: FORMAT of the answer", "**--all**\n: everything",
		"# EXIT STATUS\n\n0 done, 1 not done.", "**meshvmctl**(1)",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("got\n%s\nwant %q in it", page, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"nothing":           {"", "want a description and Usage:"},
		"no usage":          {"It does.\n", "want a description and Usage:"},
		"a line of no flag": {"It does.\n\nUsage:\n  it\n\nFlags:\nnonsense\n", "no flag in the line nonsense"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(test.text); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestPlugin(t *testing.T) {
	page, err := ofPlugin("# meshvm\n\n## Name\n\n*meshvm* - answers.\n\n## More\n\nSee [there](../README.md#there).\n\n| a | b | c |\n|---|---|---|\n| x | y | z |\n\n## See Also\n\nothers\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# NAME\n", "# MORE\n", "See there.", "x\n: y; z\n", "# SEE ALSO\n\n**coredns-meshvm**(8)"} {
		if !strings.Contains(page, want) {
			t.Errorf("got\n%s\nwant %q in it", page, want)
		}
	}
	if _, err := ofPlugin("Name\n"); err == nil {
		t.Error("got no error for a text that is no README of a plugin, want one")
	}
}

func TestToday(t *testing.T) {
	if _, err := today("tomorrow"); err == nil || !strings.Contains(err.Error(), `SOURCE_DATE_EPOCH "tomorrow"`) {
		t.Errorf("got %v, want an error that says what is wrong", err)
	}
}
