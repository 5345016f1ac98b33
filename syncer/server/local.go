package server

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// checkLocal refuses a request that does not come straight from a program on this machine. Behind a proxy
// on this machine everybody seems to be: a service mesh's passes on what comes from elsewhere with a loopback
// address of its own. But it passes it on to an address that is none, or leaves its traces in the header.
// Browsers are refused what another site's page has them ask.
func checkLocal(r *http.Request) error {
	if !loopback(r.RemoteAddr) {
		return fmt.Errorf("%s is not a loopback address: ask from the machine that the syncer runs on, such as through kubectl port-forward", r.RemoteAddr)
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); !ok || !loopback(local.String()) {
		return fmt.Errorf("%v is not a loopback address: ask 127.0.0.1 or ::1", local)
	}
	for name := range r.Header {
		if name == "Forwarded" || name == "Via" || strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "X-Envoy-") {
			return fmt.Errorf("the request came through a proxy (header %s): ask without one", name)
		}
	}
	// A page can also give its own name a loopback address.
	if host, _, err := net.SplitHostPort(r.Host); err != nil || host != "localhost" && !loopback(r.Host) {
		return fmt.Errorf("host %q: ask for localhost, 127.0.0.1 or [::1] and the port", r.Host)
	}
	return http.NewCrossOriginProtection().Check(r)
}

func loopback(address string) bool {
	peer, err := netip.ParseAddrPort(address)
	return err == nil && peer.Addr().Unmap().IsLoopback()
}
