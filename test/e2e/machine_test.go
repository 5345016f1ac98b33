package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

// machine is what runs on one virtual machine: CoreDNS with the plugin, and an upstream.
type machine struct {
	t        *testing.T
	address  string // where CoreDNS answers
	ready    string
	metrics  string
	snapshot string
	corefile string
	upstream string // where CoreDNS forwards
	coredns  *programs.Process
	// inside runs a function where the machine's sockets and programs are. Nil: on this machine.
	inside func(run func()) error
}

// newMachine makes a machine that follows the given syncers and starts CoreDNS on it. Lines are put
// into the meshvm block; without any the connection is plaintext.
func newMachine(t *testing.T, syncers []string, lines ...string) *machine {
	t.Helper()
	m := &machine{
		t:        t,
		address:  programs.FreeAddress(t),
		ready:    programs.FreeAddress(t),
		metrics:  programs.FreeAddress(t),
		snapshot: filepath.Join(t.TempDir(), "registry.snapshot"),
		corefile: filepath.Join(t.TempDir(), "Corefile"),
	}
	if len(lines) == 0 {
		lines = []string{"insecure", "namespace vm"}
	}
	m.configure(syncers, lines...)
	m.boot()
	return m
}

// configure writes the Corefile. A CoreDNS that runs picks it up.
func (m *machine) configure(syncers []string, lines ...string) {
	m.t.Helper()
	host, port, err := net.SplitHostPort(m.address)
	if err != nil {
		m.t.Fatal(err)
	}
	if m.upstream == "" {
		m.upstream = programs.Upstream(m.t)
	}
	text := fmt.Sprintf(`.:%s {
    bind %s
    errors
    log
    reload 2s 1s
    ready %s
    prometheus %s
    meshvm {
        syncer %s
        snapshot %s
        %s
    }
    forward . %s
}
`, port, host, m.ready, m.metrics, strings.Join(syncers, " "), m.snapshot, strings.Join(lines, "\n        "), m.upstream)
	write(m.t, filepath.Dir(m.corefile), filepath.Base(m.corefile), text)
}

func (m *machine) boot() {
	m.t.Helper()
	if err := m.there(func() { m.coredns = programs.Start(m.t, programs.CoreDNS, "-conf", m.corefile) }); err != nil {
		m.t.Fatal(err)
	}
	eventually(m.t, "CoreDNS answers", func() error {
		_, err := m.exchange("outside.example.net.", dns.TypeA)
		return err
	})
}

func (m *machine) there(run func()) error {
	if m.inside != nil {
		return m.inside(run)
	}
	run()
	return nil
}

func (m *machine) exchange(name string, qtype uint16) (*dns.Msg, error) {
	return m.send(new(dns.Msg).SetQuestion(name, qtype))
}

func (m *machine) send(query *dns.Msg) (reply *dns.Msg, err error) {
	client := &dns.Client{Timeout: 2 * time.Second}
	if err := m.there(func() { reply, _, err = client.Exchange(query, m.address) }); err != nil {
		return nil, err
	}
	return reply, err
}

// get is what the machine serves at an address and a path.
func (m *machine) get(address, path string) (string, int, error) {
	return getThrough(m.dial, "http://"+address+path)
}

func (m *machine) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	if err := m.there(func() { conn, err = new(net.Dialer).DialContext(ctx, network, address) }); err != nil {
		return nil, err
	}
	return conn, err
}

// ask is what CoreDNS answers now, as programs.Said has it.
func (m *machine) ask(name string, qtype uint16) (string, error) {
	reply, err := m.exchange(name, qtype)
	if err != nil {
		return "", err
	}
	return programs.Said(reply), nil
}

// answers waits until a query gets the wanted answer, and returns how long that took. The empty answer
// is NODATA.
func (m *machine) answers(name string, qtype uint16, want string) time.Duration {
	m.t.Helper()
	return eventually(m.t, fmt.Sprintf("%s %s is answered %q", name, dns.TypeToString[qtype], want), func() error {
		got, err := m.ask(name, qtype)
		if err == nil && got != want {
			err = fmt.Errorf("got %q", got)
		}
		return err
	})
}

// answersNow fails when the very next answer is not the wanted one.
func (m *machine) answersNow(name string, qtype uint16, want string) {
	m.t.Helper()
	if got, err := m.ask(name, qtype); err != nil || got != want {
		m.t.Errorf("%s %s: got %q, %v, want %q", name, dns.TypeToString[qtype], got, err, want)
	}
}

// isReady waits until CoreDNS says that it is ready.
func (m *machine) isReady() {
	m.t.Helper()
	eventually(m.t, "CoreDNS is ready", func() error {
		body, got, err := m.get(m.ready, "/ready")
		return wantStatus(body, got, err, http.StatusOK)
	})
}

// metric waits until CoreDNS exposes a line.
func (m *machine) metric(line string) {
	m.t.Helper()
	eventually(m.t, "metric "+line, func() error {
		body, _, err := m.get(m.metrics, "/metrics")
		if err == nil && !slices.Contains(strings.Split(body, "\n"), line) {
			err = fmt.Errorf("not among the metrics")
		}
		return err
	})
}

// saved waits until a snapshot is on disk.
func (m *machine) saved() {
	m.t.Helper()
	eventually(m.t, "snapshot is saved", func() error {
		_, err := os.Stat(m.snapshot)
		return err
	})
}

func status(url string, want int) error {
	body, got, err := get(url)
	return wantStatus(body, got, err, want)
}

func wantStatus(body string, got int, err error, want int) error {
	if err == nil && got != want {
		err = fmt.Errorf("got status %d, want %d: %s", got, want, body)
	}
	return err
}

func get(url string) (string, int, error) { return getThrough(new(net.Dialer).DialContext, url) }

// getThrough is get over connections of its own.
func getThrough(dial func(ctx context.Context, network, address string) (net.Conn, error), url string) (string, int, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return "", 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), response.StatusCode, err
}
