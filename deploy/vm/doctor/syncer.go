package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

// smallest is what every path carries (RFC 8200, section 5).
const smallest = 1280

// syncers looks how far the VM gets with each syncer: its name, a connection, TLS.
func syncers(ctx context.Context, e *examination) []Finding {
	if e.reportErr != nil {
		return []Finding{bad(Unknown, "see the check status socket", "CoreDNS does not say which syncers it follows")}
	}
	var addresses []string
	for _, mirror := range e.report.Mirrors {
		addresses = append(addresses, mirror.Syncers...)
	}
	found := make([][]Finding, len(addresses))
	var group sync.WaitGroup
	for i, address := range addresses {
		group.Go(func() { found[i] = e.syncer(ctx, address) })
	}
	group.Wait()
	var findings []Finding
	for _, f := range found {
		findings = append(findings, f...)
	}
	return findings
}

func (e *examination) syncer(ctx context.Context, address string) []Finding {
	ctx, cancel := context.WithTimeout(ctx, patience/2)
	defer cancel()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return []Finding{bad(Problem, "write HOST:PORT in the Corefile", "%v", err)}
	}
	if _, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host); err != nil {
		return []Finding{bad(Problem, "see that the resolvers in /run/meshvm-redirect/resolv.conf know it, or write its address in the Corefile", "the syncer %s: its name does not resolve: %v", address, err)}
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return []Finding{bad(Problem, "see that the syncer runs, and that no firewall is between", "the syncer %s: no connection: %v", address, err)}
	}
	defer conn.Close()
	findings := packets(conn, address)
	// Whether CoreDNS trusts the certificate its status says; here it is only looked at.
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}) // #nosec G402 -- nothing is sent or believed
	plaintext := tls.RecordHeaderError{}
	switch err := secure.HandshakeContext(ctx); {
	case errors.As(err, &plaintext) && loopback(conn):
		return append(findings, fine("the syncer %s: reached, without TLS, on this machine", address))
	case err != nil:
		return append(findings, bad(Problem, "see that it is a syncer that listens there, and that nothing between cuts large packets (MTU)", "the syncer %s: connected, and the TLS handshake fails: %v", address, err))
	}
	certificate := secure.ConnectionState().PeerCertificates[0]
	switch now := e.now(); {
	case now.Before(certificate.NotBefore):
		findings = append(findings, behind(now, certificate.NotBefore, "the certificate of the syncer "+address))
	case now.After(certificate.NotAfter):
		findings = append(findings, bad(Problem, "renew it; if it is good elsewhere, set the clock", "the certificate of the syncer %s ended at %s", address, certificate.NotAfter.UTC().Format(time.RFC3339)))
	}
	return orFine(findings, "the syncer %s: name, connection and TLS are well", address)
}

func loopback(conn net.Conn) bool {
	remote, ok := conn.RemoteAddr().(*net.TCPAddr)
	return ok && remote.IP.IsLoopback()
}

// path judges how many bytes a packet to a syncer can have.
func path(mtu uint32, address string) []Finding {
	if mtu >= smallest {
		return nil
	}
	return []Finding{bad(Warning, "raise the MTU of the interface or tunnel, or let ICMP \"fragmentation needed\" through", "the path to the syncer %s carries packets of %d bytes, less than %d", address, mtu, smallest)}
}
