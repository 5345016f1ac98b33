package service_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/test/programs"
)

// corefile serves outside names from an upstream, and a mesh that was never loaded.
func corefile(t *testing.T, address, upstream string, more ...string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`.:%s {
	bind %s
	errors
	reload 2s 1s
	meshvm {
		syncer 127.0.0.1:1
		insecure
		snapshot off
		status off
	}
	forward . %s
	%s
}
`, port, host, upstream, strings.Join(more, "\n\t"))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	temporary := path + ".new"
	if err := errors.Join(os.WriteFile(temporary, []byte(text), 0o600), os.Rename(temporary, path)); err != nil {
		t.Fatal(err)
	}
}

// load asks queries at a steady pace, each once, and counts those that nobody answers, or only with an error. The client waits long enough for one that
// was asked in the middle of a restart.
type load struct {
	sent, lost atomic.Int64
	stop       chan struct{}
	ended      chan struct{}
}

func startLoad(t *testing.T, address string, perSecond int) *load {
	t.Helper()
	l := &load{stop: make(chan struct{}), ended: make(chan struct{})}
	socket, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan uint16, 1<<16)
	answered := make([]atomic.Bool, 1<<16)
	go func() {
		buffer := make([]byte, 512)
		for {
			n, err := socket.Read(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil && n > 3 && buffer[3]&0xf == dns.RcodeSuccess {
				answered[uint16(buffer[0])<<8|uint16(buffer[1])].Store(true)
			}
		}
	}()
	go func() {
		defer close(l.ended)
		defer socket.Close()
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		query := new(dns.Msg).SetQuestion("www.example.net.", dns.TypeA)
		for id := uint16(1); ; id++ {
			select {
			case <-tick.C:
			case <-l.stop:
				close(waiting)
				deadline := time.Now().Add(10 * time.Second)
				for id := range waiting {
					for !answered[id].Load() && time.Now().Before(deadline) {
						<-tick.C
					}
					if !answered[id].Load() {
						l.lost.Add(1)
					}
				}
				return
			}
			query.Id = id
			packed, err := query.Pack()
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := socket.Write(packed); err != nil {
				// The port was closed: what the kernel says of the query before.
				l.lost.Add(1)
				continue
			}
			l.sent.Add(1)
			waiting <- id
		}
	}()
	return l
}

func (l *load) end() (sent, lost int64) {
	close(l.stop)
	<-l.ended
	return l.sent.Load(), l.lost.Load()
}

// TestRestartLosesNoQuery: the sockets stay open while there is no process.
func TestRestartLosesNoQuery(t *testing.T) {
	address, manager := programs.FreeAddress(t), newServiceManager(t)
	file := programs.Corefile(t, corefile(t, address, programs.Upstream(t)))
	p := manager.start(file)
	eventually(t, "ready", func() bool { return manager.heard("READY=1") })
	want := []string{"tcp " + address, "udp " + address}
	eventually(t, "sockets in the store", func() bool { return fmt.Sprint(manager.stored()) == fmt.Sprint(want) })

	queries := startLoad(t, address, 500)
	for range 8 {
		manager.forget()
		p.stop()
		if got := manager.stored(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("store between two processes: got %q, want %q", got, want)
		}
		before := queries.sent.Load()
		eventually(t, "queries while there is no process", func() bool { return queries.sent.Load() > before+20 })
		p = manager.start(file)
		eventually(t, "ready again", func() bool { return manager.heard("READY=1") })
	}
	sent, lost := queries.end()
	if lost != 0 {
		t.Errorf("lost: got %d of %d queries, want none", lost, sent)
	}
	if got := manager.stored(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("store at the end: got %q, want %q", got, want)
	}
	if answer := programs.Query(t, "tcp", address, "www.example.net", dns.TypeA); answer.Rcode != dns.RcodeSuccess {
		t.Errorf("over TCP on the socket of the first process: got %s, want NOERROR", dns.RcodeToString[answer.Rcode])
	}
}

// TestConnectionsOutliveARestart: whoever connects while a process ends is answered by the next one, and whoever had connected but
// not asked yet by the one that ends.
func TestConnectionsOutliveARestart(t *testing.T) {
	address, manager := programs.FreeAddress(t), newServiceManager(t)
	file := programs.Corefile(t, corefile(t, address, programs.Upstream(t)))
	p := manager.start(file)
	eventually(t, "ready", func() bool { return manager.heard("READY=1") })
	var asked, lost atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			client := dns.Client{Net: "tcp", Timeout: 20 * time.Second}
			for {
				select {
				case <-stop:
					return
				default:
				}
				asked.Add(1)
				if reply, _, err := client.Exchange(new(dns.Msg).SetQuestion("www.example.net.", dns.TypeA), address); err != nil || reply.Rcode != dns.RcodeSuccess {
					t.Logf("query %d: %v", asked.Load(), err)
					lost.Add(1)
				}
			}
		})
	}
	for range 8 {
		before := asked.Load()
		eventually(t, "connections", func() bool { return asked.Load() > before+200 })
		manager.forget()
		p.stop()
		p = manager.start(file)
		eventually(t, "ready again", func() bool { return manager.heard("READY=1") })
	}
	close(stop)
	clients.Wait()
	t.Logf("%d connections over 8 restarts", asked.Load())
	if lost.Load() != 0 {
		t.Errorf("lost: got %d of %d, want none", lost.Load(), asked.Load())
	}
}

// TestCrash: a process that is killed leaves its sockets as well.
func TestCrash(t *testing.T) {
	address, manager := programs.FreeAddress(t), newServiceManager(t)
	file := programs.Corefile(t, corefile(t, address, programs.Upstream(t), "multisocket 2"))
	p := manager.start(file)
	eventually(t, "sockets in the store", func() bool { return len(manager.stored()) == 4 })
	before := manager.stored()
	if err := p.command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.exited
	queries := startLoad(t, address, 200)
	eventually(t, "queries while there is no process", func() bool { return queries.sent.Load() > 20 })
	manager.forget()
	manager.start(file)
	eventually(t, "ready again", func() bool { return manager.heard("READY=1") })
	if sent, lost := queries.end(); lost != 0 {
		t.Errorf("lost: got %d of %d queries, want none", lost, sent)
	}
	if got := manager.stored(); fmt.Sprint(got) != fmt.Sprint(before) {
		t.Errorf("store: got %q, want %q", got, before)
	}
	if manager.heard("FDSTORE=1") {
		t.Error("sockets were stored again, want them there once")
	}
}

// TestAnotherAddress: what nobody reads from any more is closed, so that no query waits there for ever.
func TestAnotherAddress(t *testing.T) {
	first, second, third := programs.FreeAddress(t), programs.FreeAddress(t), programs.FreeAddress(t)
	upstream, manager := programs.Upstream(t), newServiceManager(t)
	file := programs.Corefile(t, corefile(t, first, upstream))
	p := manager.start(file)
	await := func(address string) {
		t.Helper()
		want := fmt.Sprint([]string{"tcp " + address, "udp " + address})
		eventually(t, "only "+address+" in the store", func() bool { return fmt.Sprint(manager.stored()) == want })
		programs.Query(t, "udp", address, "www.example.net", dns.TypeA)
	}
	await(first)
	p.stop()
	write(t, file, corefile(t, second, upstream))
	manager.start(file)
	await(second)
	// And without a restart, when the edit is noticed.
	write(t, file, corefile(t, third, upstream))
	await(third)
}

// TestReadyWhenItCanAnswer: with no registry and a dead upstream there is nothing to answer.
func TestReadyWhenItCanAnswer(t *testing.T) {
	address, manager := programs.FreeAddress(t), newServiceManager(t)
	resolvers := filepath.Join(t.TempDir(), "resolv.conf")
	// Nobody listens there.
	write(t, resolvers, "nameserver 127.0.0.1\n")
	dead := programs.FreeAddress(t)
	file := programs.Corefile(t, corefile(t, address, dead))
	manager.start(file)
	eventually(t, "why it is not ready", func() bool { return manager.heard("STATUS=not ready: no registry was loaded, and no upstream answers") })
	if manager.heard("READY=1") {
		t.Error("ready, want it to wait")
	}
	write(t, file, corefile(t, address, programs.Upstream(t)))
	eventually(t, "ready once an upstream answers", func() bool { return manager.heard("READY=1") })
}

// TestWatchdog is fed while queries are answered, also where acl lets nobody ask.
func TestWatchdog(t *testing.T) {
	tests := []struct{ name, more string }{
		{"open", ""},
		{"closed by acl", "acl {\n\t\tdrop\n\t}"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			address, manager := programs.FreeAddress(t), newServiceManager(t)
			file := programs.Corefile(t, corefile(t, address, programs.Upstream(t)))
			manager.start(file, "WATCHDOG_USEC=300000")
			eventually(t, "ready", func() bool { return manager.heard("READY=1") })
			write(t, file, corefile(t, address, programs.Upstream(t), test.more))
			for range 3 {
				manager.forget()
				eventually(t, "the watchdog to be fed", func() bool { return manager.heard("WATCHDOG=1") })
			}
		})
	}
}

// TestUpstreamsChange: a file of resolvers takes effect when it changes, and not while it names none.
func TestUpstreamsChange(t *testing.T) {
	const port = "53"
	addresses := []string{"127.77.1.1", "127.77.1.2"}
	for i, address := range addresses {
		upstream(t, net.JoinHostPort(address, port), net.IPv4(192, 0, 2, byte(1+i)))
	}
	address, manager := programs.FreeAddress(t), newServiceManager(t)
	resolvers := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, resolvers, "# the network at home\nnameserver "+addresses[0]+"\n")
	p := manager.start(programs.Corefile(t, corefile(t, address, resolvers)))
	eventually(t, "ready", func() bool { return manager.heard("READY=1") })
	asked := func() string {
		answer := programs.Query(t, "udp", address, "www.example.net", dns.TypeA)
		if len(answer.Answer) != 1 {
			return answer.String()
		}
		return answer.Answer[0].(*dns.A).A.String()
	}
	if got := asked(); got != "192.0.2.1" {
		t.Fatalf("before: got %s, want 192.0.2.1", got)
	}
	write(t, resolvers, "# nothing yet\n")
	eventually(t, "the fault in the log", func() bool { return strings.Contains(p.output.String(), "it names no resolver") })
	if got := asked(); got != "192.0.2.1" {
		t.Errorf("while the file is empty: got %s, want 192.0.2.1 as before", got)
	}
	write(t, resolvers, "nameserver "+addresses[1]+"\n")
	eventually(t, "the other upstream", func() bool { return asked() == "192.0.2.2" })
	write(t, resolvers, "nameserver "+addresses[0]+"\n")
	eventually(t, "the first upstream again", func() bool { return asked() == "192.0.2.1" })
}

// upstream answers every query with one address.
func upstream(t *testing.T, at string, address net.IP) {
	t.Helper()
	started := make(chan struct{})
	server := &dns.Server{Addr: at, Net: "udp", NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) {
		reply := new(dns.Msg).SetReply(query)
		if query.Question[0].Qtype == dns.TypeA {
			reply.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: query.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: address}}
		}
		_ = w.WriteMsg(reply) // who asked is gone
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	select {
	case <-started:
	case err := <-ended:
		t.Fatalf("upstream at %s: %v", at, err)
	}
	t.Cleanup(func() {
		if err := errors.Join(server.Shutdown(), <-ended); err != nil {
			t.Error(err)
		}
	})
}

// TestReloadGoesOnAfterUSR1: with caddy's own handling no edit is noticed after that signal.
func TestReloadGoesOnAfterUSR1(t *testing.T) {
	address, manager := programs.FreeAddress(t), newServiceManager(t)
	file := programs.Corefile(t, corefile(t, address, programs.Upstream(t)))
	p := manager.start(file)
	eventually(t, "ready", func() bool { return manager.heard("READY=1") })
	for i := range 2 {
		if err := p.command.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		eventually(t, "reload by signal", func() bool { return strings.Count(p.output.String(), "Reloading complete") == 1+2*i })
		write(t, file, corefile(t, address, programs.Upstream(t), fmt.Sprintf("# edit %d\n\tlocal", i), strings.Repeat("any\n\t", i)))
		eventually(t, "reload by an edit", func() bool { return strings.Count(p.output.String(), "Reloading complete") == 2+2*i })
	}
}

// TestEndAmongOtherSignals: to end is not forgotten over signals that came before and have not been dealt with.
func TestEndAmongOtherSignals(t *testing.T) {
	address, manager := programs.FreeAddress(t), newServiceManager(t)
	p := manager.start(programs.Corefile(t, corefile(t, address, programs.Upstream(t))))
	eventually(t, "ready", func() bool { return manager.heard("READY=1") })
	for range 50 {
		if err := errors.Join(p.command.Process.Signal(syscall.SIGUSR1), p.command.Process.Signal(syscall.SIGHUP)); err != nil {
			t.Fatal(err)
		}
	}
	p.stop()
}

// TestWithoutServiceManager: CoreDNS runs by hand as ever.
func TestWithoutServiceManager(t *testing.T) {
	address := programs.FreeAddress(t)
	p, _ := programs.Serve(t, corefile(t, address, programs.Upstream(t)))
	if answer := programs.Query(t, "udp", address, "www.example.net", dns.TypeA); answer.Rcode != dns.RcodeSuccess {
		t.Errorf("got %s, want NOERROR", dns.RcodeToString[answer.Rcode])
	}
	p.Signal(t, syscall.SIGTERM)
	if code := p.Wait(t); code != 0 {
		t.Errorf("exit code: got %d, want 0", code)
	}
}
