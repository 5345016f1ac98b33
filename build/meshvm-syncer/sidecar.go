package main

import (
	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/syncer/source"
)

// sidecarFlags are the flags of Istio's Sidecars.
type sidecarFlags struct{ scope bool }

func (f *sidecarFlags) declare(flags *pflag.FlagSet) {
	flags.BoolVar(&f.scope, "sidecar-scope", false, "show a VM only the services that the egress hosts of its Istio Sidecar import; by default it sees all that is exported to it")
}

// sidecars are where Sidecars are kept, nil where nobody goes by them.
func (f *sidecarFlags) sidecars() *source.Sidecars {
	if !f.scope {
		return nil
	}
	return source.NewSidecars()
}
