//go:build linux

package e2e

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// asking asks the machine without a pause until it is stopped. Every answer must be right at once: that
// for the steady Service always the same, that for the moving one never an older one.
func (m *mesh) asking() (stop func()) {
	m.t.Helper()
	conn, err := m.vm.dial(m.t.Context(), "udp", m.machine.address)
	if err != nil {
		m.t.Fatal(err)
	}
	var ended atomic.Bool
	var asker sync.WaitGroup
	asker.Go(func() {
		defer conn.Close()
		asked, version := 0, 0
		pace := time.NewTicker(2 * time.Millisecond)
		defer pace.Stop()
		for ; !ended.Load(); asked++ {
			if err := rightAnswers(conn, &version); err != nil {
				m.t.Errorf("After %d right answers: %v", asked, err)
				return
			}
			<-pace.C
		}
		m.t.Logf("%d right answers meanwhile", asked)
		if asked == 0 {
			m.t.Error("Nothing was asked meanwhile: the test shows less than it says")
		}
	})
	stop = func() {
		ended.Store(true)
		asker.Wait()
	}
	m.t.Cleanup(stop) // for when the test ends early
	return stop
}

func rightAnswers(conn net.Conn, version *int) error {
	for _, name := range []string{steady, moving} {
		client := &dns.Client{Timeout: 5 * time.Second}
		reply, _, err := client.ExchangeWithConn(new(dns.Msg).SetQuestion(name, dns.TypeA), &dns.Conn{Conn: conn})
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		got := ""
		for _, rr := range reply.Answer {
			if a, ok := rr.(*dns.A); ok && len(reply.Answer) == 1 {
				got = a.A.String()
			}
		}
		if got == "" {
			return fmt.Errorf("%s: got %v, want one address", name, reply)
		}
		if name == steady {
			if got != steadyAddress {
				return fmt.Errorf("%s: got %s, want %s", name, got, steadyAddress)
			}
			continue
		}
		now, err := versionOf(got)
		if err != nil {
			return err
		}
		if now < *version {
			return fmt.Errorf("%s: got version %d after version %d", name, now, *version)
		}
		*version = now
	}
	return nil
}
