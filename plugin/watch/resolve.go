package watch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

// resolver connects to a name by any of its addresses. They are tried in a random order, so that VMs are
// spread over the syncers behind one name, and each is given its share of the patience at most, so that one
// that swallows packets does not hide the others.
type resolver struct {
	lookUp   func(ctx context.Context, network, host string) ([]netip.Addr, error)
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	patience time.Duration
}

// connect is a dialFunc.
func (r resolver) connect(ctx context.Context, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return r.dial(ctx, "tcp", address)
	}
	found, err := r.lookUp(ctx, "ip", host)
	if err != nil {
		return nil, err // it names the host
	}
	rand.Shuffle(len(found), func(i, j int) { found[i], found[j] = found[j], found[i] })
	var failed error
	for _, ip := range found {
		conn, err := r.try(ctx, net.JoinHostPort(ip.Unmap().String(), port), r.patience/time.Duration(len(found)))
		if err == nil {
			return conn, nil
		}
		failed = errors.Join(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	if failed == nil {
		return nil, fmt.Errorf("%s has no address", host)
	}
	return nil, failed
}

func (r resolver) try(ctx context.Context, address string, patience time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return r.dial(ctx, "tcp", address)
}
