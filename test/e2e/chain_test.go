package e2e

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

// follow stands for the lines of a meshvm block that say what it follows, in the Corefiles of newChain.
const follow = "FOLLOW"

// newChain starts CoreDNS with plugins around the plugin: the lines of a server block, in which follow
// stands for what the meshvm block needs to follow the syncer in the namespace vm.
func newChain(t *testing.T, syncer, plugins string) *machine {
	t.Helper()
	m := &machine{
		t:        t,
		address:  programs.FreeAddress(t),
		ready:    programs.FreeAddress(t),
		snapshot: filepath.Join(t.TempDir(), "registry.snapshot"),
		corefile: filepath.Join(t.TempDir(), "Corefile"),
	}
	host, port, err := net.SplitHostPort(m.address)
	if err != nil {
		t.Fatal(err)
	}
	plugins = strings.ReplaceAll(plugins, follow, "syncer "+syncer+"\ninsecure\nnamespace vm\nsnapshot "+m.snapshot)
	text := fmt.Sprintf(".:%s {\nbind %s\nerrors\nready %s\n%s\n}\n", port, host, m.ready, plugins)
	write(t, filepath.Dir(m.corefile), filepath.Base(m.corefile), text)
	m.boot()
	return m
}

// client is how a query is put on the wire. Without anything it is a UDP query without EDNS.
type client struct {
	tcp bool
	// size is what EDNS says that the client takes. Zero: no EDNS.
	size    uint16
	do      bool
	version uint8
}

// exchange asks a server once, and returns the reply and its size on the wire in bytes.
func (c client) exchange(ctx context.Context, address, name string, qtype uint16) (reply *dns.Msg, size int, err error) {
	query := new(dns.Msg).SetQuestion(name, qtype)
	if c.size > 0 {
		query.SetEdns0(c.size, c.do)
		query.IsEdns0().SetVersion(c.version)
	}
	return c.send(ctx, address, query)
}

func (c client) send(ctx context.Context, address string, query *dns.Msg) (reply *dns.Msg, size int, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	network := "udp"
	if c.tcp {
		network = "tcp"
	}
	conn, err := (&dns.Client{Net: network}).DialContext(ctx, address)
	if err != nil {
		return nil, 0, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, 0, err
		}
	}
	// Whatever the client says that it takes: more than that must be seen, and not cut off here.
	conn.UDPSize = dns.MaxMsgSize
	if err := conn.WriteMsg(query); err != nil {
		return nil, 0, err
	}
	raw, err := conn.ReadMsgHeader(nil)
	if err != nil {
		return nil, 0, err
	}
	reply = new(dns.Msg)
	if err := reply.Unpack(raw); err != nil {
		return nil, 0, fmt.Errorf("unpack a reply of %d bytes: %w", len(raw), err)
	}
	if reply.Id != query.Id {
		return nil, 0, fmt.Errorf("got the reply to another query")
	}
	return reply, len(raw), nil
}

// reply is what a client gets for a question, NAME TYPE.
func (m *machine) reply(t *testing.T, c client, question string) (reply *dns.Msg, size int) {
	t.Helper()
	name, qtype, _ := strings.Cut(question, " ")
	reply, size, err := c.exchange(t.Context(), m.address, name, dns.StringToType[qtype])
	if err != nil {
		t.Fatalf("%s: %v", question, err)
	}
	return reply, size
}

// line is a record in short: OWNER TYPE DATA.
func line(rr dns.RR) string {
	header := rr.Header()
	return header.Name + " " + dns.TypeToString[header.Rrtype] + " " + strings.TrimPrefix(rr.String(), header.String())
}

// lines is records in short, in order, without EDNS's.
func lines(records []dns.RR) []string {
	var lines []string
	for _, rr := range records {
		if rr.Header().Rrtype != dns.TypeOPT {
			lines = append(lines, line(rr))
		}
	}
	return lines
}

// sameLines compares what a section of a reply holds, in any order.
func sameLines(t *testing.T, what string, got []dns.RR, want ...string) {
	t.Helper()
	held, want := slices.Sorted(slices.Values(lines(got))), slices.Sorted(slices.Values(want))
	if !slices.Equal(held, want) {
		t.Errorf("%s: got\n\t%s\nwant\n\t%s", what, strings.Join(held, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// sameRcode compares the code of a reply.
func sameRcode(t *testing.T, reply *dns.Msg, want int) {
	t.Helper()
	if reply.Rcode != want {
		t.Errorf("Rcode: got %s, want %s", dns.RcodeToString[reply.Rcode], dns.RcodeToString[want])
	}
}

// codesOf is the extended errors of a reply.
func codesOf(reply *dns.Msg) []uint16 {
	var codes []uint16
	if opt := reply.IsEdns0(); opt != nil {
		for _, option := range opt.Option {
			if ede, ok := option.(*dns.EDNS0_EDE); ok {
				codes = append(codes, ede.InfoCode)
			}
		}
	}
	return codes
}
