package service

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/plugin/pkg/transport"
)

// Caddy hands sockets from an instance to the one that a reload puts in its place, by the address of each server. So what an
// earlier process left becomes an instance first, of servers that hold sockets and never read from them, and CoreDNS is its reload.

// holderType is the type of servers that hold sockets.
const holderType = "meshvm-held-sockets"

// start starts CoreDNS on the sockets of an earlier process, as far as the Corefile has servers for them, and closes the rest.
func start(corefile caddy.Input, sockets []inherited) (*caddy.Instance, error) {
	if len(sockets) == 0 {
		return caddy.Start(corefile)
	}
	servers, err := holders(sockets)
	if err != nil {
		return nil, err
	}
	caddy.RegisterServerType(holderType, caddy.ServerType{
		Directives:   func() []string { return nil },
		DefaultInput: func() caddy.Input { return holderInput },
		NewContext:   func(*caddy.Instance) caddy.Context { return holding(servers) },
	})
	holder, err := caddy.Start(holderInput)
	if err != nil {
		return nil, fmt.Errorf("hold the sockets of the process before: %w", err)
	}
	instance, err := holder.Restart(corefile)
	if err != nil {
		return nil, errors.Join(err, holder.Stop())
	}
	return instance, nil
}

var holderInput = caddy.CaddyfileInput{Filepath: "sockets of the process before", Contents: []byte("sockets"), ServerTypeName: holderType}

// holding is the caddy.Context of servers that are there already.
type holding []caddy.Server

// InspectServerBlocks implements caddy.Context.
func (h holding) InspectServerBlocks(string, []caddyfile.ServerBlock) ([]caddyfile.ServerBlock, error) {
	return nil, nil
}

// MakeServers implements caddy.Context.
func (h holding) MakeServers() ([]caddy.Server, error) { return h, nil }

// holder is a server that holds the sockets of one of CoreDNS's servers.
type holder struct {
	address string
	tcp     net.Listener
	udp     net.PacketConn
	stop    sync.Once
	stopped chan struct{}
}

// holders makes a server of each UDP socket, of each TCP listener or, where both have one address, of the two.
func holders(sockets []inherited) ([]caddy.Server, error) {
	type pair struct{ udp, tcp []inherited }
	byAddress := map[netip.AddrPort]*pair{}
	var order []netip.AddrPort
	for _, s := range sockets {
		p := byAddress[s.address]
		if p == nil {
			p = new(pair)
			byAddress[s.address] = p
			order = append(order, s.address)
		}
		if s.network == "udp" {
			p.udp = append(p.udp, s)
		} else {
			p.tcp = append(p.tcp, s)
		}
	}
	var servers []caddy.Server
	for _, address := range order {
		p := byAddress[address]
		for i := range max(len(p.udp), len(p.tcp)) {
			for _, name := range serverNames(address) {
				h := &holder{address: name, stopped: make(chan struct{})}
				var err error
				if i < len(p.udp) {
					h.udp, err = net.FilePacketConn(p.udp[i].file)
				}
				if i < len(p.tcp) && err == nil {
					h.tcp, err = net.FileListener(p.tcp[i].file)
				}
				if err != nil {
					return nil, fmt.Errorf("take over the socket at %s: %w", address, err)
				}
				servers = append(servers, h)
			}
		}
	}
	for _, s := range sockets {
		if err := s.file.Close(); err != nil {
			return nil, fmt.Errorf("close what the sockets were taken from: %w", err)
		}
	}
	return servers, nil
}

// serverNames are the names that CoreDNS may have for a server at an address: as a socket, 0.0.0.0 is :: where both are meant.
func serverNames(address netip.AddrPort) []string {
	_, port, _ := strings.Cut(netip.AddrPortFrom(netip.IPv4Unspecified(), address.Port()).String(), ":")
	if !address.Addr().IsUnspecified() {
		return []string{transport.DNS + "://" + address.String()}
	}
	return []string{transport.DNS + "://:" + port, transport.DNS + "://" + net.JoinHostPort(address.Addr().String(), port)}
}

// Address implements caddy.GracefulServer.
func (h *holder) Address() string { return h.address }

// WrapListener implements caddy.GracefulServer.
func (h *holder) WrapListener(l net.Listener) net.Listener { return l }

// Listen implements caddy.TCPServer.
func (h *holder) Listen() (net.Listener, error) { return h.tcp, nil }

// ListenPacket implements caddy.UDPServer.
func (h *holder) ListenPacket() (net.PacketConn, error) { return h.udp, nil }

// Serve implements caddy.TCPServer: whoever connects waits for CoreDNS.
func (h *holder) Serve(net.Listener) error { <-h.stopped; return nil }

// ServePacket implements caddy.UDPServer: queries wait for CoreDNS.
func (h *holder) ServePacket(net.PacketConn) error { <-h.stopped; return nil }

// Stop implements caddy.Stopper. The sockets go on where CoreDNS has taken them.
func (h *holder) Stop() error {
	var errs []error
	h.stop.Do(func() {
		close(h.stopped)
		if h.udp != nil {
			errs = append(errs, h.udp.Close())
		}
		if h.tcp != nil {
			errs = append(errs, h.tcp.Close())
		}
	})
	return errors.Join(errs...)
}
