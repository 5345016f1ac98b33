package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// every calls f with every command, and its words on the command line.
func every(commands []command, above []string, f func(words []string, c command)) {
	for _, c := range commands {
		words := append(append([]string{}, above...), c.name)
		f(words, c)
		every(c.commands, words, f)
	}
}

// TestDeclaredFlags holds that what shells complete is what a command takes: each flag is in the help that the command
// prints, and each in its help is declared.
func TestDeclaredFlags(t *testing.T) {
	every(commands(), nil, func(words []string, c command) {
		if c.declare == nil {
			return
		}
		t.Run(strings.Join(words, " "), func(t *testing.T) {
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			c.declare(flags)
			code, stdout, stderr := meshvmctl(t, append(words, "--help")...)
			if want := "Flags:\n" + flags.FlagUsagesWrapped(100); code != exitDone || stderr != "" || !strings.HasSuffix(stdout, want) {
				t.Errorf("exit %d, stderr %q, stdout %q; want exit 0 and at the end %q", code, stderr, stdout, want)
			}
		})
	})
}

func TestUnknownCommands(t *testing.T) {
	tests := map[string]struct {
		args []string
		want string
	}{
		"a slip":             {[]string{"lokup"}, `meshvmctl: unknown command "lokup": did you mean lookup? (see meshvmctl help)`},
		"a slip below":       {[]string{"redirect", "aply"}, `unknown command "aply": did you mean apply? (see meshvmctl redirect --help)`},
		"nothing below":      {[]string{"redirect"}, "want a command: plan, apply, revert, status"},
		"nothing like it":    {[]string{"redirect", "dig"}, `unknown command "dig" (see meshvmctl redirect --help)`},
		"no shell":           {[]string{"completion"}, "want one of bash, zsh, fish"},
		"an unknown shell":   {[]string{"completion", "tcsh"}, `unknown shell "tcsh": want bash, zsh, fish`},
		"a flag of no group": {[]string{"redirect", "--now"}, `unknown command "--now"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := meshvmctl(t, test.args...)
			if code != exitUsage || !strings.Contains(stderr, test.want) || strings.Count(stderr, "\n") != 1 || stdout != "" {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit 2 and one line with %q", code, stdout, stderr, test.want)
			}
		})
	}
}

// TestComplete asks what shells ask.
func TestComplete(t *testing.T) {
	tests := map[string]struct {
		args []string
		want []string
	}{
		"commands":            {[]string{"to"}, []string{"token\trenew the token of a VM, or say how long one is good", ":4"}},
		"commands below":      {[]string{"redirect", "re"}, []string{"recover\tundo what an earlier boot left behind", "revert\tgive name resolution back", ":4"}},
		"record types":        {[]string{"lookup", "--type", ""}, []string{"A", "AAAA", "CNAME", "PTR", "SRV", ":4"}},
		"formats":             {[]string{"status", "-o", ""}, []string{"text", "json", ":4"}},
		"states":              {[]string{"vips", "--state", ""}, []string{"assigned", "pending", "quarantine", "conflict", "several", "exhausted", ":4"}},
		"shells":              {[]string{"completion", ""}, []string{"bash", "zsh", "fish", ":4"}},
		"one shell":           {[]string{"completion", "bash", ""}, []string{":4"}},
		"flags, in words":     {[]string{"lookup", "--names"}, []string{"--namespace\tNAMESPACE of the VM that asks; with --syncer, a certificate that names one wins", ":4"}},
		"names of the mesh":   {[]string{"lookup", ""}, []string{":4"}},
		"files of a flag":     {[]string{"lookup", "--token-file", ""}, []string{":0"}},
		"directories":         {[]string{"bootstrap", "--out", ""}, []string{":16"}},
		"names for a flag":    {[]string{"bootstrap", "--namespace", ""}, []string{":4"}},
		"files as an operand": {[]string{"token", "inspect", ""}, []string{":0"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			code, stdout, _ := meshvmctl(t, append([]string{"__complete"}, test.args...)...)
			if want := strings.Join(test.want, "\n") + "\n"; code != exitDone || stdout != want {
				t.Errorf("exit %d, got %q, want exit 0 and %q", code, stdout, want)
			}
		})
	}
}

// TestBashCompletes runs the script in a bash, with the program in its PATH.
func TestBashCompletes(t *testing.T) {
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin+"/meshvmctl", ".").CombinedOutput(); err != nil {
		t.Fatalf("build meshvmctl: %v\n%s", err, out)
	}
	_, script, _ := meshvmctl(t, "completion", "bash")
	for line, want := range map[string]string{
		"meshvmctl redirect st":        "status",
		"meshvmctl lookup --type AA":   "AAAA",
		"meshvmctl completion f":       "fish",
		"meshvmctl token inspect --wi": "--within",
	} {
		t.Run(line, func(t *testing.T) {
			words := strings.Fields(line)
			bash := exec.Command("bash", "--norc", "--noprofile")
			bash.Env = []string{"PATH=" + bin + ":/usr/bin:/bin"}
			// What bash-completion's _get_comp_words_by_ref does; the script uses it where it is there.
			bash.Stdin = strings.NewReader(`
_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=${COMP_WORDS[COMP_CWORD]}; prev=${COMP_WORDS[COMP_CWORD-1]}; }
__ltrim_colon_completions() { :; }
compopt() { :; }
` + script + `
COMP_WORDS=(` + line + `) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE='` + line + `' COMP_POINT=${#COMP_LINE} COMP_TYPE=9
__start_meshvmctl meshvmctl ` + words[len(words)-1] + `
printf '%s\n' "${COMPREPLY[@]}"
`)
			var stderr bytes.Buffer
			bash.Stderr = &stderr
			got, err := bash.Output()
			if err != nil || strings.TrimSpace(string(got)) != want {
				t.Errorf("got %q, %v, %s; want %q", got, err, &stderr, want)
			}
		})
	}
}
