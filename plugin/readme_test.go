package meshvm

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin/metadata"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// section is what the manual says below a heading.
func section(t *testing.T, heading string) string {
	t.Helper()
	manual, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(manual), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("README.md has no section %s", heading)
	}
	text, _, _ := strings.Cut(after, "\n## ")
	return text
}

// checkSame reports what is in only one of two sets.
func checkSame(t *testing.T, what string, documented, there []string) {
	t.Helper()
	for _, name := range there {
		if !slices.Contains(documented, name) {
			t.Errorf("%s: README.md lacks %q", what, name)
		}
	}
	for _, name := range documented {
		if !slices.Contains(there, name) {
			t.Errorf("%s: README.md has %q, which is not there", what, name)
		}
	}
	if len(there) == 0 {
		t.Errorf("%s: got none, want some", what)
	}
}

// matches is the first group of every match.
func matches(pattern, text string) []string {
	var found []string
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found = append(found, match[1])
	}
	return found
}

// TestReadmeOptions holds the manual to the options that there are: each has a line in the syntax, and
// an explanation in the same order.
func TestReadmeOptions(t *testing.T) {
	text := section(t, "Syntax")
	lines := matches(`(?m)^    (\S.*)$`, text[:strings.Index(text, "\n}")])
	var there []string
	for name, option := range options {
		there = append(there, option.usage(name))
	}
	checkSame(t, "Syntax", lines, there)

	var names []string
	for _, line := range lines {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	if got := matches("(?m)^\\* `(\\w+)`", text); !slices.Equal(got, names) {
		t.Errorf("Explanations: got %q, want %q", got, names)
	}
}

// TestReadmeMetadata holds the manual to the labels and words of the metadata.
func TestReadmeMetadata(t *testing.T) {
	text := section(t, "Metadata")
	m := serving(t, defaultConfig(), mesh())
	ctx := m.Metadata(metadata.ContextWithMetadata(t.Context()), question("reviews.prod.svc.cluster.local.", dns.TypeA))
	checkSame(t, "Labels", matches("`(meshvm/\\w+)`", text), metadata.Labels(ctx))

	words := append(slices.Collect(maps.Values(sources)), slices.Collect(maps.Values(addressKinds))...)
	words = append(words, kindHeadless, kindExternalName, kindNone, isStale(), notStale())
	documented := slices.DeleteFunc(matches("`([\\w-]+)`", text), func(word string) bool { return word == "max_stale" })
	checkSame(t, "Words", documented, words)
}

// TestReadmeMetrics holds the manual to the metrics that there are, and their labels.
func TestReadmeMetrics(t *testing.T) {
	registry := prometheus.DefaultRegisterer.(*prometheus.Registry)
	descs := make(chan *prometheus.Desc)
	go func() {
		registry.Describe(descs)
		close(descs)
	}()
	pattern := regexp.MustCompile(`fqName: "(coredns_meshvm_\w+)",.*variableLabels: \{(.*?)\}`)
	var there []string
	for desc := range descs {
		if match := pattern.FindStringSubmatch(desc.String()); match != nil {
			there = append(there, match[1]+"{"+strings.ReplaceAll(match[2], ",", ", ")+"}")
		}
	}
	text := section(t, "Metrics")
	checkSame(t, "Metrics", matches("`(coredns_meshvm_\\w+\\{.*?\\})`", text), there)

	families, err := registry.Gather()
	if err != nil {
		t.Fatalf("Gather: %v", err)
	}
	counted := 0
	for _, family := range families {
		if family.GetName() != "coredns_meshvm_requests_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			counted++
			for _, label := range metric.GetLabel() {
				if !strings.Contains(text, "`"+label.GetValue()+"`") {
					t.Errorf("%s: README.md lacks %q", label.GetName(), label.GetValue())
				}
			}
		}
	}
	for _, mode := range redirectModes {
		if !strings.Contains(text, "`"+mode+"`") {
			t.Errorf("Modes of redirect_mode: README.md lacks %q", mode)
		}
	}
	if want := len(requests) * len(requests[0]); counted != want {
		t.Errorf("Outcomes and types: got %d, want %d", counted, want)
	}
}
