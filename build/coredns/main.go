// Command coredns is CoreDNS as a VM of a service mesh needs it: with the meshvm
// plugin, without what the VM does not need. Flags, signals and Corefile are
// CoreDNS's own, because operators know them.
package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	"github.com/meshvm/meshvm/deploy/vm/service"
)

func main() {
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "coredns:", err)
		os.Exit(1)
	}
	if err := service.Run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// prepare makes of CoreDNS this build of it.
func prepare() error {
	info, _ := debug.ReadBuildInfo()
	caddy.AppVersion = versionString(info)
	coremain.GitCommit = commit(info)
	caddy.RegisterCaddyfileLoader("meshvm", caddy.LoaderFunc(requireCorefile))
	if err := dnsserver.SetDirectives(directives); err != nil {
		return fmt.Errorf("set the order of plugins: %w", err)
	}
	return nil
}
