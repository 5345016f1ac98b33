package bootstrap

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/meshvm/meshvm/corefile"
)

// Files of an Istio VM, which its agent renews.
const (
	istioCertificate = "/etc/certs/cert-chain.pem"
	istioKey         = "/etc/certs/key.pem"
	istioAuthority   = "/etc/certs/root-cert.pem"
)

// Corefile is the configuration of the VM's coredns: the sample corefile/vm with the lines that are a VM's own. What
// Check finds is its error.
func (m Machine) Corefile() (string, error) {
	if err := m.Check(); err != nil {
		return "", err
	}
	if len(m.Syncers) == 0 {
		return "", errors.New("no syncer for the VM to follow")
	}
	s := sample{lines: strings.Split(corefile.VM(), "\n")}
	s.head(m.head())
	s.replace("meshvm", "meshvm "+m.ClusterDomain+" {")
	s.replace("syncer", "syncer "+strings.Join(m.Syncers, " "))
	s.replaceWithComment("tls", m.credentials()...)
	own := []string{"namespace " + m.Account.Namespace}
	if m.Node != "" {
		own = append(own, "node "+m.Node)
	}
	s.replace("namespace", own...)
	// Without any it stays the file of the VM's own resolvers that meshvmctl redirect writes, and keeps up to date.
	if len(m.Upstreams) > 0 {
		s.replace("forward", "forward . "+strings.Join(m.Upstreams, " ")+" {")
	}
	if s.err != nil {
		return "", fmt.Errorf("make a Corefile of the sample corefile/vm: %w", s.err)
	}
	return strings.Join(s.lines, "\n"), nil
}

// head is the comment at the top.
func (m Machine) head() []string {
	lines := []string{
		"# The local resolver of a VM: every name of the mesh from the VM's own copy of the",
		"# registry, every other name from the resolvers the VM had before.",
		"#",
		"# Written by meshvmctl bootstrap for ServiceAccount " + m.Account.String() + ".",
		"#",
		"# On a VM with the package, meshvmctl join does all that is to be done. Without it,",
		"# before the first start",
	}
	if len(m.Upstreams) == 0 {
		lines = append(lines,
			"#   - meshvmctl redirect upstreams, as root: it writes the VM's own resolvers to the",
			"#     file that forward names, and never this server, which would ask itself")
	}
	if file := m.TokenFile(); file != "" {
		lines = append(lines,
			"#   - let the user that coredns runs as read "+file+", and nobody else")
	}
	return append(lines,
		"#   - make /var/lib/meshvm, which that user may write",
		"# Then meshvmctl redirect apply has the VM ask this server.",
		"")
}

// credentials are the lines of the meshvm block that say whom to trust and as whom to come.
func (m Machine) credentials() []string {
	authority := m.file(authorityName)
	if m.IstioAuthority {
		authority = istioAuthority
	}
	lines := []string{"# Whom the syncer's certificate must come from.", "tls " + authority}
	if m.IstioCertificates {
		lines = []string{
			"# The VM's Istio certificate. The agent renews it; meshvm notices.",
			fmt.Sprintf("tls %s %s %s", istioCertificate, istioKey, authority),
		}
	}
	if m.ServerName != "" {
		lines = append(lines, "tls_servername "+m.ServerName)
	}
	if file := m.TokenFile(); file != "" {
		lines = append(lines,
			"# Who this VM is. It has an end: renew it with meshvmctl token, and put it here",
			"# whole, by a rename. meshvm notices.",
			"token "+file)
	}
	return lines
}

// sample is a sample Corefile that becomes a VM's, line by line. err is the first line that it does not have: a sample
// that has changed must not make a Corefile in which something is missing.
type sample struct {
	lines []string
	err   error
}

// head puts lines in place of the comment at the top.
func (s *sample) head(lines []string) {
	end := slices.IndexFunc(s.lines, func(line string) bool { return line != "" && !strings.HasPrefix(line, "#") })
	if end < 0 {
		s.fail("no server block")
		return
	}
	s.lines = slices.Concat(lines, s.lines[end:])
}

// replace puts lines, indented alike, in place of the only one with a directive.
func (s *sample) replace(directive string, lines ...string) { s.put(directive, false, lines) }

// replaceWithComment is replace, and takes away the comment before the directive too.
func (s *sample) replaceWithComment(directive string, lines ...string) { s.put(directive, true, lines) }

func (s *sample) put(directive string, comment bool, lines []string) {
	is := func(line string) bool {
		fields := strings.Fields(line)
		return len(fields) > 0 && fields[0] == directive
	}
	at := slices.IndexFunc(s.lines, is)
	if at < 0 || slices.ContainsFunc(s.lines[at+1:], is) {
		s.fail("want one line " + directive)
		return
	}
	first := at
	for comment && first > 0 && strings.HasPrefix(strings.TrimSpace(s.lines[first-1]), "#") {
		first--
	}
	indent := s.lines[at][:strings.Index(s.lines[at], directive)]
	indented := make([]string, len(lines))
	for i, line := range lines {
		indented[i] = indent + line
	}
	s.lines = slices.Concat(s.lines[:first], indented, s.lines[at+1:])
}

func (s *sample) fail(problem string) {
	if s.err == nil {
		s.err = fmt.Errorf("%s in it", problem)
	}
}
