package registry

import (
	"fmt"
	"regexp"
	"strings"
)

// anyNamespace stands for every namespace in an EgressHost.
const anyNamespace = "*"

// EgressHost is one entry of the hosts of an Istio Sidecar's egress listener.
type EgressHost struct {
	// Namespace of the services, `*` for any.
	Namespace string
	// Host in lower case: `*`, a name, or `*.` and a suffix.
	Host string
	// Exclude takes out what the other hosts of the listener import.
	Exclude bool
}

// String is the entry as it is written, `.` replaced.
func (h EgressHost) String() string {
	exclude := ""
	if h.Exclude {
		exclude = "~"
	}
	return exclude + h.Namespace + "/" + h.Host
}

// egressName is a DNS name of two labels or more, of which the first may be `*`.
var egressName = regexp.MustCompile(`^(\*|[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)(\.[a-z0-9_]([-a-z0-9_]*[a-z0-9_])?)+$`)

// ParseEgressHost reads `namespace/dnsName` as a Sidecar has it: the namespace is `*` for any, `.` for own, or a
// name; the DNS name is `*`, `*.` and a suffix, or the name of a service in full. A namespace after `~` takes
// out instead: `~prod/*`, and `~/*` is `~*/*`, so that alone it imports nothing. The rules are those of
// Istio's validation.
func ParseEgressHost(text, own string) (EgressHost, error) {
	namespace, host, found := strings.Cut(text, "/")
	if !found || strings.Contains(host, "/") {
		return EgressHost{}, fmt.Errorf("%q: want namespace/dnsName", text)
	}
	parsed := EgressHost{Host: strings.ToLower(host)}
	parsed.Namespace, parsed.Exclude = strings.CutPrefix(namespace, "~")
	switch {
	case parsed.Namespace == "" && parsed.Exclude:
		parsed.Namespace = anyNamespace
	case parsed.Namespace == ".":
		parsed.Namespace = own
	case parsed.Namespace == anyNamespace:
	case !namespaceName.MatchString(parsed.Namespace):
		return EgressHost{}, fmt.Errorf("%q: namespace %q: want *, ., ~ or the name of a namespace", text, namespace)
	}
	if parsed.Host != "*" && (len(parsed.Host) > 255 || !egressName.MatchString(parsed.Host)) {
		return EgressHost{}, fmt.Errorf("%q: host %q: want *, *.suffix or the full name of a service", text, host)
	}
	return parsed, nil
}

// hostSet are hosts, exact ones and suffixes.
type hostSet struct {
	exact map[string]bool
	// suffixes are wildcards without their `*`, so the one that everything matches is empty.
	suffixes []string
}

func (s *hostSet) add(host string) {
	if suffix, wild := strings.CutPrefix(host, "*"); wild {
		s.suffixes = append(s.suffixes, suffix)
		return
	}
	if s.exact == nil {
		s.exact = map[string]bool{}
	}
	s.exact[host] = true
}

// covers reports whether all that a host stands for is in the set. A wildcard is covered by a wildcard that is
// no narrower, and never by names.
func (s *hostSet) covers(host string) bool {
	if s.exact[host] {
		return true
	}
	for _, suffix := range s.suffixes {
		if strings.HasSuffix(strings.TrimPrefix(host, "*"), suffix) {
			return true
		}
	}
	return false
}
