package source

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

const (
	maxNameLength  = registryv1.MaxName
	maxLabelLength = registryv1.MaxLabel
)

const (
	wantLabel     = "a label of a-z, 0-9 and -, at most 63 long"
	wantSubdomain = "labels of a-z, 0-9 and -, joined by dots"
	wantHost      = "a DNS name, or one below *."
)

// canonicalHost is a host in lower case and without its final dot. It may start with `*.`.
func canonicalHost(host string) (string, error) {
	rest, wildcard := strings.CutPrefix(host, registryv1.WildcardPrefix)
	name, err := canonicalName(rest)
	switch {
	case host == "*":
		return "", errors.New("it stands for every name there is")
	case err != nil:
		return "", err
	case 1+strings.Count(host, ".") > registryv1.MaxLabels:
		return "", fmt.Errorf("it has more than %d labels", registryv1.MaxLabels)
	case wildcard && len(name) > maxNameLength-len(registryv1.WildcardPrefix):
		return "", fmt.Errorf("it is longer than %d", maxNameLength)
	case wildcard:
		return registryv1.WildcardPrefix + name, nil
	}
	return name, nil
}

// canonicalName is a name in lower case and without its final dot. Underscores are welcome:
// Kubernetes has none, but the world outside has.
func canonicalName(name string) (string, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" {
		return "", errors.New("it is empty")
	}
	if len(name) > maxNameLength {
		return "", fmt.Errorf("it is longer than %d", maxNameLength)
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", errors.New("it is an IP address")
	}
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(label); err != nil {
			return "", err
		}
	}
	return name, nil
}

func checkLabel(label string) error {
	switch {
	case label == "":
		return errors.New("it has an empty label")
	case len(label) > maxLabelLength:
		return fmt.Errorf("its label %q is longer than %d", label, maxLabelLength)
	case strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-"):
		return fmt.Errorf("its label %q starts or ends with a hyphen", label)
	}
	for _, r := range label {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' {
			return fmt.Errorf("its label %q contains %q", label, r)
		}
	}
	return nil
}
