package main

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/CycloneDX/cyclonedx-go"

	"github.com/meshvm/meshvm/build/dependency"
)

// specification is the version that is written. Most scanners read it.
const specification = cyclonedx.SpecVersion1_6

// standard is the name that vulnerability databases have for Go's own library.
const standard = "stdlib"

// bill makes the bill of materials of a program of a version.
func (p *program) bill(version string) (*cyclonedx.BOM, error) {
	self := reference(p.info.Main.Path, version) + "#" + strings.TrimPrefix(p.info.Path, p.info.Main.Path+"/")
	goVersion := strings.TrimPrefix(p.info.GoVersion, "go")
	components := []cyclonedx.Component{{
		BOMRef: reference(standard, goVersion), Type: cyclonedx.ComponentTypeLibrary,
		Name: standard, Version: goVersion, PackageURL: reference(standard, goVersion),
		Licenses: &cyclonedx.Licenses{{License: &cyclonedx.License{ID: "BSD-3-Clause"}}},
	}}
	graph := []cyclonedx.Dependency{{Ref: self, Dependencies: &[]string{components[0].BOMRef}}, {Ref: components[0].BOMRef}}
	sums := map[string]*debug.Module{}
	for _, linked := range p.info.Deps {
		sums[linked.Path] = linked
	}
	references := map[string]string{}
	for _, module := range p.modules {
		references[module.Path] = reference(module.Path, module.Version)
	}
	for _, path := range p.direct {
		*graph[0].Dependencies = append(*graph[0].Dependencies, references[path])
	}
	for _, module := range p.modules {
		component, err := componentOf(module, sums[module.Path])
		if err != nil {
			return nil, err
		}
		components = append(components, component)
		needed := make([]string, len(module.Requires))
		for i, path := range module.Requires {
			needed[i] = references[path]
		}
		graph = append(graph, cyclonedx.Dependency{Ref: component.BOMRef, Dependencies: &needed})
	}
	bill := cyclonedx.NewBOM()
	bill.Metadata = &cyclonedx.Metadata{
		Component: &cyclonedx.Component{
			BOMRef: self, Type: cyclonedx.ComponentTypeApplication, Name: p.name, Version: version, PackageURL: self,
			Licenses:   &cyclonedx.Licenses{{License: &cyclonedx.License{ID: "Apache-2.0"}}},
			Properties: &[]cyclonedx.Property{},
		},
	}
	for _, setting := range p.info.Settings {
		switch setting.Key {
		case "-tags", "CGO_ENABLED", "GOARCH", "GOOS":
			*bill.Metadata.Component.Properties = append(*bill.Metadata.Component.Properties, cyclonedx.Property{Name: "go:" + setting.Key, Value: setting.Value})
		}
	}
	bill.Components, bill.Dependencies = &components, &graph
	return bill, nil
}

// componentOf is a module as it was linked.
func componentOf(module dependency.Module, linked *debug.Module) (cyclonedx.Component, error) {
	sum, err := sumOf(linked)
	if err != nil {
		return cyclonedx.Component{}, err
	}
	hash, err := base64.StdEncoding.DecodeString(sum)
	if err != nil {
		return cyclonedx.Component{}, fmt.Errorf("module %s: sum %q: %w", module, sum, err)
	}
	files, err := module.Licenses()
	if err != nil {
		return cyclonedx.Component{}, err
	}
	licenses := cyclonedx.Licenses{}
	for _, id := range dependency.IDs(files) {
		licenses = append(licenses, cyclonedx.LicenseChoice{License: &cyclonedx.License{ID: id}})
	}
	name := reference(module.Path, module.Version)
	return cyclonedx.Component{
		BOMRef: name, Type: cyclonedx.ComponentTypeLibrary, Name: module.Path, Version: module.Version, PackageURL: name,
		// The SHA-256 of the list of the module's files and their SHA-256, as in go.sum (golang.org/x/mod/sumdb/dirhash).
		Hashes:   &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(hash)}},
		Licenses: &licenses,
	}, nil
}

// reference is the package URL of a module (purl-spec, type golang).
func reference(path, version string) string {
	return "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
}

// save writes a bill in the place of what was there.
func save(bill *cyclonedx.BOM, file string) error {
	var text strings.Builder
	if err := cyclonedx.NewBOMEncoder(&text, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bill, specification); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return os.WriteFile(file, []byte(text.String()), 0o600)
}
