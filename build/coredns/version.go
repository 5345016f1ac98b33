package main

import (
	"runtime/debug"

	"github.com/coredns/coredns/coremain"
)

// version is meshvm's version. A release sets it:
//
//	go build -ldflags "-X main.version=v1.2.3" ./build/coredns
var version string

// versionString is what -version says after "CoreDNS-": the version of CoreDNS,
// then what was added to it, as semantic versioning's build metadata.
func versionString(info *debug.BuildInfo) string {
	v := version
	if v == "" && info != nil {
		v = info.Main.Version
	}
	if v == "" {
		v = "(devel)"
	}
	return coremain.CoreVersion + "+meshvm-" + v
}

// commit is the revision the binary was built from, as go build recorded it.
func commit(info *debug.BuildInfo) string {
	revision, modified := "", ""
	if info != nil {
		for _, setting := range info.Settings {
			switch setting.Key {
			case "vcs.revision":
				revision = setting.Value
			case "vcs.modified":
				if setting.Value == "true" {
					modified = "-dirty"
				}
			}
		}
	}
	if revision == "" {
		return "unknown commit"
	}
	return revision + modified
}
