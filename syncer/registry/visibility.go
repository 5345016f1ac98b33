package registry

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// namespaceName is RFC 1123's label, which every Kubernetes namespace is.
var namespaceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// Visibility says which namespaces see a resource. The zero value is nobody. It is immutable.
type Visibility struct {
	public     bool
	namespaces []string
}

// Public is visible to every namespace.
func Public() Visibility { return Visibility{public: true} }

// Nobody is visible to no namespace.
func Nobody() Visibility { return Visibility{} }

// VisibleTo is visible to the given namespaces only.
func VisibleTo(namespaces ...string) Visibility {
	sorted := slices.Clone(namespaces)
	slices.Sort(sorted)
	return Visibility{namespaces: slices.Compact(sorted)}
}

// ParseExportTo reads Istio's exportTo of an object that lives in the namespace own: `*` is
// everyone, `.` the object's own namespace, `~` nobody, anything else the name of a namespace. `*`
// beside other values is everyone; `~` beside other values is an error, as Istio's validation has
// it. No values at all are an error: the caller knows the default.
func ParseExportTo(values []string, own string) (Visibility, error) {
	var namespaces []string
	public, nobody := false, false
	for _, value := range values {
		switch value = strings.TrimSpace(value); value {
		case "*":
			public = true
		case "~":
			nobody = true
		case ".":
			namespaces = append(namespaces, own)
		default:
			if !namespaceName.MatchString(value) {
				return Visibility{}, fmt.Errorf("exportTo %q: want *, ., ~ or the name of a namespace", value)
			}
			namespaces = append(namespaces, value)
		}
	}
	switch {
	case len(values) == 0:
		return Visibility{}, errors.New("exportTo is empty: want *, ., ~ or names of namespaces")
	case nobody && len(values) > 1:
		return Visibility{}, fmt.Errorf("exportTo %q: ~ stands alone", strings.Join(values, ","))
	case nobody:
		return Nobody(), nil
	case public:
		return Public(), nil
	}
	return VisibleTo(namespaces...), nil
}

// In reports whether a watcher in the namespace sees the resource.
func (v Visibility) In(namespace string) bool {
	if v.public {
		return true
	}
	_, found := slices.BinarySearch(v.namespaces, namespace)
	return found
}

// Everyone reports whether every namespace sees the resource.
func (v Visibility) Everyone() bool { return v.public }

// Equal reports whether both are visible to the same namespaces.
func (v Visibility) Equal(other Visibility) bool {
	return v.public == other.public && slices.Equal(v.namespaces, other.namespaces)
}

// String is the exportTo that says the same: `*`, `~` or names joined by commas.
func (v Visibility) String() string {
	switch {
	case v.public:
		return "*"
	case len(v.namespaces) == 0:
		return "~"
	}
	return strings.Join(v.namespaces, ",")
}
