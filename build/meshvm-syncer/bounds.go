package main

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/meshvm/meshvm/syncer/server"
)

// boundFlags are the flags of what VMs may take of the syncer.
type boundFlags struct {
	connections, perAddress, perIdentity int
	fullSyncs, queue                     int
	age                                  time.Duration
}

func (b *boundFlags) declare(flags *pflag.FlagSet) {
	flags.IntVar(&b.connections, "max-connections", 20_000, "`NUMBER` of connections of VMs that may be open; others are closed at once")
	flags.IntVar(&b.perAddress, "max-connections-per-address", 0, "`NUMBER` of them from one IPv4 address or IPv6 /64; 0 is half of --max-connections. Behind a load balancer that hides its clients all VMs are one address")
	flags.IntVar(&b.perIdentity, "max-streams-per-identity", 0, "`NUMBER` of watch streams of one SPIFFE ID, or of one certificate without; 0 is half of --max-connections")
	flags.DurationVar(&b.age, "max-connection-age", time.Hour, "`DURATION` after which a VM is asked to connect anew, so that replicas are balanced again after a failover")
	flags.IntVar(&b.fullSyncs, "full-syncs", 16, "`NUMBER` of VMs that are sent a whole registry, or compared with it, at once")
	flags.IntVar(&b.queue, "full-sync-queue", 10_000, "`NUMBER` of VMs that may wait for that; others are told when to come again")
}

// leastConnectionAge keeps VMs from doing little else than connecting.
const leastConnectionAge = 10 * time.Second

// apply checks the flags and puts them into the server's options.
func (b *boundFlags) apply(options *server.Options) error {
	for _, number := range []struct {
		flag         string
		value, least int
	}{
		{"--max-connections", b.connections, 1},
		{"--max-connections-per-address", b.perAddress, 0},
		{"--max-streams-per-identity", b.perIdentity, 0},
		{"--full-syncs", b.fullSyncs, 1},
		{"--full-sync-queue", b.queue, 1},
	} {
		if number.value < number.least {
			return fmt.Errorf("%s %d: want at least %d", number.flag, number.value, number.least)
		}
	}
	if b.age < leastConnectionAge {
		return fmt.Errorf("--max-connection-age %s: want at least %s", b.age, leastConnectionAge)
	}
	options.MaxConnections, options.MaxConnectionsPerAddress, options.MaxStreamsPerIdentity = b.connections, b.perAddress, b.perIdentity
	options.FullSyncs, options.FullSyncQueue, options.MaxConnectionAge = b.fullSyncs, b.queue, b.age
	return nil
}
