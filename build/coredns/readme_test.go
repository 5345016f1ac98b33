package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/meshvm/meshvm/test/programs"
)

// TestReadme holds the plugin's manual to the form of CoreDNS's, and starts every
// Corefile in it.
func TestReadme(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("..", "..", "plugin", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var headings []string
	for _, match := range regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(string(content), -1) {
		headings = append(headings, match[1])
	}
	if want := []string{"Name", "Description", "Syntax", "Credentials", "Hardening", "Examples", "Metrics", "Ready", "Status", "Metadata", "Bugs", "See Also"}; !slices.Equal(headings, want) {
		t.Errorf("Got headings %q, want %q", headings, want)
	}
	if want := "# meshvm\n\n## Name\n\n*meshvm* - "; !strings.HasPrefix(string(content), want) {
		t.Errorf("Got beginning %.60q, want %q", content, want)
	}

	examples := regexp.MustCompile(`(?ms)^~~~ corefile\n(.*?)^~~~$`).FindAllSubmatchIndex(content, -1)
	if len(examples) == 0 {
		t.Error("Got no examples, want some")
	}
	machine := strings.NewReplacer(
		// Only there, whatever the example says.
		"    bind 127.0.0.1 ::1\n", "",
		". {\n", ". {\n    bind 127.0.0.1\n",
		"/etc/certs/cert-chain.pem", "cert.pem",
		"/etc/certs/key.pem", "key.pem",
		"/etc/certs/root-cert.pem", "ca.pem",
		"/etc/certs/token", "token",
		// Never the snapshot of the machine that runs the test.
		"        syncer ", "        snapshot registry.snapshot\n        syncer ",
	)
	for _, example := range examples {
		line := 1 + strings.Count(string(content[:example[2]]), "\n")
		text := strings.Replace(string(content[example[2]:example[3]]), "snapshot off", "", 1)
		t.Run(fmt.Sprintf("line %d", line), func(t *testing.T) {
			file := programs.Corefile(t, machine.Replace(text))
			p := programs.StartIn(t, programs.Credentials(t), programs.CoreDNS, "-conf", file, "-p", programs.FreePort(t))
			p.WaitForStart(t)
		})
	}
}
