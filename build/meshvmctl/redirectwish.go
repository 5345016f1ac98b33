package main

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
	"github.com/meshvm/meshvm/plugin/status"
)

// redirectWish is what the operator wants of a redirect, and where CoreDNS says what the mesh wants.
type redirectWish struct {
	mode                  string
	allNames, transparent bool
	socket                string
}

func (w *redirectWish) declare(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringVar(&w.mode, "mode", "", "the way to take over: one of "+strings.Join(redirectModes(), ", ")+"; the best for this machine unless named (`MODE`)")
	flags.BoolVar(&w.allNames, "all-names", false, "send every name to CoreDNS, also where only the mesh's domains would go there")
	flags.BoolVar(&w.transparent, "transparent", false, "send questions of programs with a resolver of their own to CoreDNS, too, by nftables")
	flags.StringVar(&w.socket, "socket", status.DefaultSocket, "the `SOCKET` of CoreDNS with meshvm on this machine, as the Corefile's option status names it")
}

func redirectModes() []string {
	var names []string
	for _, mode := range []redirect.Mode{
		redirect.Delegate, redirect.Resolved, redirect.NetworkManager, redirect.Resolvconf, redirect.Openresolv, redirect.Direct, redirect.None,
	} {
		names = append(names, string(mode))
	}
	return names
}

// check reports what is wrong with the command line, by flag.
func (w *redirectWish) check(args []string) error {
	switch {
	case len(args) > 0:
		return fmt.Errorf("unexpected argument %q", args[0])
	case w.mode != "" && !slices.Contains(redirectModes(), w.mode):
		return fmt.Errorf("--mode %q: want one of %s", w.mode, strings.Join(redirectModes(), ", "))
	case w.socket == "":
		return fmt.Errorf("--socket is empty")
	}
	return nil
}

// ask asks CoreDNS where it listens, and which names are the mesh's.
func (w *redirectWish) ask(ctx context.Context) (redirect.Wish, error) {
	report, err := status.Ask(ctx, w.socket)
	if err != nil {
		return redirect.Wish{}, err
	}
	wish := redirect.Wish{Mode: redirect.Mode(w.mode), AllNames: w.allNames, Transparent: w.transparent}
	for _, mirror := range report.Mirrors {
		wish.Namespace = cmp.Or(wish.Namespace, mirror.View, mirror.Namespace)
		for _, zone := range mirror.Zones {
			if zone = strings.Trim(zone, "."); zone != "" && !slices.Contains(wish.Zones, zone) {
				wish.Zones = append(wish.Zones, zone)
			}
		}
	}
	if wish.Hosts, err = status.Hosts(ctx, w.socket); err != nil {
		return redirect.Wish{}, err
	}
	if wish.Server, err = listeningServer(report.Servers); err != nil {
		return redirect.Wish{}, fmt.Errorf("%s: %w", w.socket, err)
	}
	wish.Server6 = listeningServer6(report.Servers)
	return wish, nil
}

// listeningServer6 is the loopback address of IPv6 at port 53, where CoreDNS listens there.
func listeningServer6(listeners []status.Listener) netip.AddrPort {
	server := netip.AddrPortFrom(netip.IPv6Loopback(), 53)
	for _, listener := range listeners {
		if at, err := netip.ParseAddrPort(listener.Address); err == nil && (at == server || at == netip.AddrPortFrom(netip.IPv6Unspecified(), 53)) {
			return server
		}
	}
	return netip.AddrPort{}
}

// listeningServer is where this machine asks CoreDNS: at a loopback address rather than another, since others could be taken away, and
// at port 53 rather than another, since a resolv.conf has no place for one.
func listeningServer(listeners []status.Listener) (netip.AddrPort, error) {
	var servers []netip.AddrPort
	for _, listener := range listeners {
		server, err := netip.ParseAddrPort(listener.Address)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("CoreDNS says that it listens at %q: %w", listener.Address, err)
		}
		if server.Addr().IsUnspecified() {
			server = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), server.Port())
		}
		servers = append(servers, server)
	}
	if len(servers) == 0 {
		return netip.AddrPort{}, fmt.Errorf("CoreDNS does not say where it listens")
	}
	rank := func(server netip.AddrPort) int {
		rank := 0
		if !server.Addr().IsLoopback() {
			rank += 2
		}
		if server.Port() != 53 {
			rank++
		}
		return rank
	}
	return slices.MinFunc(servers, func(a, b netip.AddrPort) int { return cmp.Compare(rank(a), rank(b)) }), nil
}
