package source

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	mesh "istio.io/api/mesh/v1alpha1"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"
)

// What Istio takes where its mesh configuration does not say.
const (
	// DefaultRootNamespace is the namespace of what holds for all others.
	DefaultRootNamespace = "istio-system"
	defaultTrustDomain   = "cluster.local"
)

// Mesh is what is taken of Istio's mesh configuration.
type Mesh struct {
	// Exports say who sees which objects. What is empty is not in the configuration.
	Exports Exports
	// TrustDomain is that of the mesh's identities, and TrustDomainAliases count as the same. Empty: it is not
	// known, as there is no configuration.
	TrustDomain        string
	TrustDomainAliases []string
	// RootNamespace is the namespace of what holds for all others. Empty: there is none.
	RootNamespace string
}

// NoMesh is what holds without a mesh configuration.
func NoMesh() Mesh { return Mesh{RootNamespace: DefaultRootNamespace} }

// TrustDomains are the trust domains of the mesh's identities. None: it is not known.
func (m Mesh) TrustDomains() []string {
	if m.TrustDomain == "" {
		return nil
	}
	return append([]string{m.TrustDomain}, m.TrustDomainAliases...)
}

// Equal reports whether both say the same.
func (m Mesh) Equal(other Mesh) bool {
	return m.Exports.equal(other.Exports) && slices.Equal(m.TrustDomains(), other.TrustDomains()) && m.RootNamespace == other.RootNamespace
}

// entriesExportTo is a field that Istio's API does not know.
const entriesExportTo = "defaultServiceEntryExportTo"

// members are those of a JSON object.
type members map[string]json.RawMessage

// said reports whether a field is there, under one of its names. Null is as good as nothing.
func (m members) said(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return m[name] != nil && string(m[name]) != "null" })
}

// ParseMesh reads Istio's MeshConfig in YAML or JSON, as Istio does: fields that are not known are passed
// over. Istio has one default for Services and ServiceEntries, defaultServiceExportTo; where there is a
// defaultServiceEntryExportTo too, that is the default of ServiceEntries. An error says what is wrong, and
// then nothing of it may be used.
func ParseMesh(text []byte) (Mesh, error) {
	encoded, err := yaml.YAMLToJSON(text)
	if err != nil {
		return Mesh{}, err
	}
	if string(encoded) == "null" { // It is empty, which says that all defaults hold.
		encoded = []byte("{}")
	}
	var config mesh.MeshConfig
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(encoded, &config); err != nil {
		return Mesh{}, errors.New(plain(err))
	}
	var fields members
	if err := json.Unmarshal(encoded, &fields); err != nil {
		return Mesh{}, err
	}
	var entries []string
	if fields.said(entriesExportTo) {
		if err := json.Unmarshal(fields[entriesExportTo], &entries); err != nil {
			return Mesh{}, fmt.Errorf("%s: %w", entriesExportTo, err)
		}
	}
	reach, err := newReach(config.GetServiceEntryVisibility())
	if err != nil {
		return Mesh{}, err
	}
	m := Mesh{
		Exports:            Exports{Service: config.GetDefaultServiceExportTo(), ServiceEntry: entries, Reach: reach},
		TrustDomain:        config.GetTrustDomain(),
		TrustDomainAliases: slices.Clone(config.GetTrustDomainAliases()),
		RootNamespace:      config.GetRootNamespace(),
	}
	if len(m.Exports.ServiceEntry) == 0 {
		m.Exports.ServiceEntry = m.Exports.Service
	}
	if !fields.said("trustDomain", "trust_domain") {
		m.TrustDomain = defaultTrustDomain
	}
	if !fields.said("rootNamespace", "root_namespace") {
		m.RootNamespace = DefaultRootNamespace
	}
	slices.Sort(m.TrustDomainAliases)
	m.TrustDomainAliases = slices.Compact(m.TrustDomainAliases)
	return m, m.validate()
}

// plain is an error of protojson, which puts a no-break space wherever it likes, for people.
func plain(err error) string {
	return strings.ReplaceAll(strings.TrimPrefix(err.Error(), "proto:"), "\u00a0", " ")
}

func (m Mesh) validate() error {
	if err := m.Exports.Validate(); err != nil {
		return err
	}
	for _, domain := range append([]string{m.TrustDomain}, m.TrustDomainAliases...) {
		if err := checkTrustDomain(domain); err != nil {
			return fmt.Errorf("trust domain %q: %w", domain, err)
		}
	}
	if faults := validation.IsDNS1123Label(m.RootNamespace); m.RootNamespace != "" && len(faults) > 0 {
		return fmt.Errorf("rootNamespace %q: want the name of a namespace", m.RootNamespace)
	}
	return nil
}

// checkTrustDomain checks a trust domain's form (SPIFFE ID, section 2.1). Istio takes capitals too.
func checkTrustDomain(domain string) error {
	for _, r := range domain {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_", r) {
			return fmt.Errorf("it contains %q: want letters, digits, dots, hyphens and underscores", r)
		}
	}
	if domain == "" || len(domain) > maxNameLength {
		return fmt.Errorf("it has %d characters: want 1 to %d", len(domain), maxNameLength)
	}
	return nil
}
