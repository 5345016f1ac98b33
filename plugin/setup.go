package meshvm

import (
	"context"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
)

func init() { plugin.Register(pluginName, setup) }

func setup(c *caddy.Controller) error {
	config, err := parse(c)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	m := newMeshvm(config)
	current := currentRun(c)

	server := dnsserver.GetConfig(c)
	m.listenHosts, m.server, m.blockKeys = server.ListenHosts, server, c.ServerBlockKeys
	// First, so that a second copy of the process stops before it touches the snapshot.
	c.OnStartup(func() error {
		if err := reserveAddresses(c.ServerBlockKeys, server.ListenHosts); err != nil {
			return plugin.Error(pluginName, err)
		}
		return nil
	})
	c.OnStartup(func() error {
		// Before the port is bound, so the first query is answered from the snapshot.
		if m.follower, err = process.claim(config, current); err != nil {
			return plugin.Error(pluginName, err)
		}
		process.blocks.enter(m, current)
		return nil
	})
	// After OnShutdown queries still come in: listeners close later.
	c.OnShutdown(func() error {
		m.transfers.stop()
		process.blocks.leave(m)
		process.release(config, current)
		return nil
	})
	c.OnRestartFailed(func() error {
		process.reclaim(config, current)
		process.blocks.reclaim(m, current)
		return nil
	})

	server.AddPlugin(func(next plugin.Handler) plugin.Handler {
		m.Next, m.recursive = next, next != nil
		if next == nil {
			m.Next = plugin.HandlerFunc(refuse)
		}
		return m
	})
	return nil
}

type runKey struct{}

// currentRun is the run that the controller's server block belongs to.
func currentRun(c *caddy.Controller) *run {
	if current, ok := c.Get(runKey{}).(*run); ok {
		return current
	}
	current := new(run)
	c.Set(runKey{}, current)
	return current
}

// refuse ends a chain in which nothing stands below meshvm. REFUSED is what CoreDNS answers for a zone it
// does not serve, and what sends a stub resolver to its next server. SERVFAIL, which NextOrFailure gives,
// would also log an error for every name that is not the mesh's.
func refuse(context.Context, dns.ResponseWriter, *dns.Msg) (int, error) {
	return dns.RcodeRefused, nil
}
