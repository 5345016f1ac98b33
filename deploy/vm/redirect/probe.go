package redirect

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// askTimeout is how long one question may take. CoreDNS answers for the mesh from memory.
	askTimeout = 2 * time.Second
	// outsideTimeout is how long one may take that goes to somebody else. It is short, since until then a machine is without the names of
	// the mesh whose resolvers do not answer; where CoreDNS finds one only after longer, Await asks again.
	outsideTimeout = time.Second
	// outsideAsked is how many of the upstreams are asked whether they answer.
	outsideAsked = 3
	// awaitPause is between two probes.
	awaitPause = 250 * time.Millisecond
)

// probeServer asks CoreDNS, over UDP and over TCP, for a name of each zone that is the mesh's, and, where allNames come to it, for a name of
// outside. The error says what it did not answer. Nobody is asked longer than a few seconds.
//
// A failure outside is none where the upstreams do not answer either, or none is known: the machine loses nothing by the redirect then,
// and has at least the names of the mesh.
func probeServer(ctx context.Context, server netip.AddrPort, zones []string, allNames bool, upstreams []netip.AddrPort) error {
	if len(zones) == 0 && !allNames {
		return errors.New("CoreDNS serves no zone of the mesh, so there is nothing to ask it for")
	}
	for _, zone := range zones {
		for _, network := range []string{"udp", "tcp"} {
			if err := askMesh(ctx, network, server, zone); err != nil {
				return fmt.Errorf("CoreDNS at %s does not answer: %w", server, err)
			}
		}
	}
	if !allNames {
		return nil
	}
	failure := askOutside(ctx, server)
	if failure == nil {
		return nil
	}
	if better := answeringOutside(ctx, server, upstreams); better.IsValid() {
		return fmt.Errorf("CoreDNS at %s does not answer for names outside the mesh, while %s does: %w", server, better, failure)
	}
	var refused *refusal
	if errors.As(failure, &refused) && refused.code == dns.RcodeRefused {
		return fmt.Errorf("CoreDNS at %s refuses names outside the mesh, so it has to forward them first: %w", server, failure)
	}
	return nil
}

// answeringOutside is one of the upstreams that answers. All are asked at once, since they may fail together. Not valid: none does.
func answeringOutside(ctx context.Context, server netip.AddrPort, upstreams []netip.AddrPort) netip.AddrPort {
	asked := upstreams[:min(len(upstreams), outsideAsked)]
	answers := make([]bool, len(asked))
	var asking sync.WaitGroup
	for i, upstream := range asked {
		if upstream != server {
			asking.Go(func() { answers[i] = askOutside(ctx, upstream) == nil })
		}
	}
	asking.Wait()
	if i := slices.Index(answers, true); i >= 0 {
		return asked[i]
	}
	return netip.AddrPort{}
}

// Await probes for what Apply wants of CoreDNS until the answers are there or the context is done, and says then what was missing.
func Await(ctx context.Context, p Plan) error {
	for {
		err := probe(context.WithoutCancel(ctx), p) // Its last error is the machine's, not the context's.
		if err == nil {
			return nil
		}
		pause := time.NewTimer(awaitPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

// probe asks for what a Plan needs.
func probe(ctx context.Context, p Plan) error {
	return probeServer(ctx, p.Server, probeZones(p), p.AllNames || p.Transparent, p.Upstreams)
}

// refusal is an answer that is none.
type refusal struct {
	question string
	code     int
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%s: %s", r.question, dns.RcodeToString[r.code])
}

// askMesh asks for what only a server of the mesh's zone has: the version of the specification that it follows (Kubernetes DNS-Based
// Service Discovery, section 2.2), or the zone's own SOA.
func askMesh(ctx context.Context, network string, server netip.AddrPort, zone string) error {
	zone = dns.Fqdn(zone)
	answer, err := ask(ctx, network, server, "dns-version."+zone, dns.TypeTXT, askTimeout)
	if err == nil && len(answer.Answer) > 0 {
		return nil
	}
	var refused *refusal
	if err != nil && !errors.As(err, &refused) {
		return err
	}
	answer, err = ask(ctx, network, server, zone, dns.TypeSOA, askTimeout)
	if err == nil && !slices.ContainsFunc(answer.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA }) {
		return fmt.Errorf("%s SOA: no such record", zone)
	}
	return err
}

// askOutside asks for what every resolver knows. That there is no such name is an answer, too.
func askOutside(ctx context.Context, server netip.AddrPort) error {
	_, err := ask(ctx, "udp", server, ".", dns.TypeNS, outsideTimeout)
	var refused *refusal
	if errors.As(err, &refused) && refused.code == dns.RcodeNameError {
		return nil
	}
	return err
}

// ask asks once more where a datagram was lost. The error is a *refusal where an answer came that is none.
func ask(ctx context.Context, network string, server netip.AddrPort, name string, rrtype uint16, timeout time.Duration) (*dns.Msg, error) {
	question := new(dns.Msg).SetQuestion(name, rrtype)
	client := dns.Client{Net: network, Timeout: timeout}
	answer, _, err := client.ExchangeContext(ctx, question, server.String())
	if timeouts, ok := errors.AsType[net.Error](err); ok && timeouts.Timeout() && ctx.Err() == nil && network == "udp" {
		answer, _, err = client.ExchangeContext(ctx, question, server.String())
	}
	asked := fmt.Sprintf("%s %s over %s", name, dns.TypeToString[rrtype], network)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", asked, err)
	}
	if answer.Rcode != dns.RcodeSuccess {
		return nil, &refusal{asked, answer.Rcode}
	}
	return answer, nil
}

// verify asks for a name of the mesh the way that programs on the machine do: systemd-resolved where it was told to ask CoreDNS, which the
// C library may ask without a file, and else the first server of /etc/resolv.conf.
func verify(ctx context.Context, m Machine, p Plan) error {
	zone := probeZone(p)
	if zone == "" {
		return nil // Every name, and no zone of the mesh: that CoreDNS is asked is in the file.
	}
	switch p.Mode {
	case Delegate, Resolved:
		_, err := m.output(ctx, "resolvectl", "query", "--type=TXT", "dns-version."+zone)
		if err == nil {
			return nil
		}
		if _, other := m.output(ctx, "resolvectl", "query", "--type=SOA", zone); other != nil {
			return fmt.Errorf("systemd-resolved does not find the mesh: %w", err)
		}
		return nil
	default:
		servers, err := m.servers()
		if err != nil {
			return err
		}
		if len(servers) == 0 {
			return fmt.Errorf("%s names no server", resolvConf)
		}
		if err := askMesh(ctx, "udp", netip.AddrPortFrom(servers[0], m.resolverPort()), zone); err != nil {
			return fmt.Errorf("the first server of %s does not know the mesh: %w", resolvConf, err)
		}
		return nil
	}
}

// probeZone is a name of the mesh's own that CoreDNS is asked for. Empty: none is known.
func probeZone(p Plan) string {
	if zones := probeZones(p); len(zones) > 0 {
		return zones[0]
	}
	return ""
}

// probeZones are the mesh's zones without those for addresses, which have no version and need none.
func probeZones(p Plan) []string {
	var zones []string
	for _, zone := range p.Zones {
		if zone = strings.Trim(zone, "."); zone != "" && !strings.HasSuffix(zone, ".arpa") {
			zones = append(zones, zone)
		}
	}
	return zones
}
