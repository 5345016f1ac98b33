// Command load asks a DNS server at a steady rate until it is told to stop, each query once: what is not answered is lost. It then
// writes what came of them as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// Report is what came of the queries.
type Report struct {
	Seconds  float64 `json:"seconds"`
	UDP      int     `json:"udp"`
	TCP      int     `json:"tcp"`
	Answered int     `json:"answered"`
	// Lost are the queries without a right answer, by what happened.
	Lost map[string]int `json:"lost"`
	// Slowest is the longest that an answer took, in milliseconds.
	Slowest float64 `json:"slowest_ms"`
}

// client asks, and counts.
type client struct {
	server  string
	timeout time.Duration

	mu     sync.Mutex
	report Report
}

func main() {
	server := flag.String("server", "127.0.0.1:53", "server to ask, `ADDRESS:PORT`")
	rate := flag.Int("rate", 2000, "`QUERIES` a second")
	tcp := flag.Int("tcp", 20, "one query in `N` goes by TCP")
	timeout := flag.Duration("timeout", 5*time.Second, "how long to wait for an answer")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	c := &client{server: *server, timeout: *timeout, report: Report{Lost: map[string]int{}}}
	c.run(ctx, *rate, *tcp, flag.Args())
	if err := json.NewEncoder(os.Stdout).Encode(&c.report); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// run asks for names, NAME=ADDRESS each, in turn. A tick sends as many as should have been sent by then.
func (c *client) run(ctx context.Context, rate, tcp int, names []string) {
	var asked sync.WaitGroup
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	began := time.Now()
	for sent := 0; ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
		for due := int(time.Since(began).Seconds() * float64(rate)); sent < due; sent++ {
			network := "udp"
			if sent%tcp == 0 {
				network = "tcp"
				c.report.TCP++
			} else {
				c.report.UDP++
			}
			name, want, _ := strings.Cut(names[sent%len(names)], "=")
			asked.Go(func() { c.ask(network, name, want) })
		}
	}
	c.report.Seconds = time.Since(began).Seconds()
	asked.Wait()
}

func (c *client) ask(network, name, want string) {
	began := time.Now()
	problem := c.exchange(network, name, want)
	took := float64(time.Since(began).Microseconds()) / 1000
	c.mu.Lock()
	defer c.mu.Unlock()
	if problem != "" {
		c.report.Lost[network+": "+problem]++
		return
	}
	c.report.Answered++
	c.report.Slowest = max(c.report.Slowest, took)
}

// exchange asks once, from a socket of its own as programs do, and says what is wrong with the answer.
func (c *client) exchange(network, name, want string) string {
	query := new(dns.Msg)
	query.SetQuestion(dns.Fqdn(name), dns.TypeA)
	answer, _, err := (&dns.Client{Net: network, Timeout: c.timeout}).Exchange(query, c.server)
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case err != nil:
		if system, ok := errors.AsType[syscall.Errno](err); ok {
			return system.Error()
		}
		return err.Error()
	case answer.Rcode != dns.RcodeSuccess:
		return dns.RcodeToString[answer.Rcode] + " for " + name
	}
	for _, record := range answer.Answer {
		if a, ok := record.(*dns.A); ok && a.A.String() == want {
			return ""
		}
	}
	return "another answer for " + name
}
