package server

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/meshvm/meshvm/syncer/vip"
)

// vipQuestion is which virtual IPs somebody wants to see.
type vipQuestion struct {
	// host is one host's name. Empty: all.
	host string
	// states are those that are wanted. None: all.
	states []vip.State
}

// parseVIPQuestion reads the parameters `host` and `state`, which may come several times or be a list with
// commas.
func parseVIPQuestion(query url.Values) (vipQuestion, error) {
	var q vipQuestion
	for name, values := range query {
		switch {
		case name != "host" && name != "state":
			return q, fmt.Errorf("parameter %q: want host or state", name)
		case name == "host" && len(values) > 1:
			return q, fmt.Errorf("parameter host: got %d, want one", len(values))
		}
	}
	q.host = strings.ToLower(strings.TrimSuffix(query.Get("host"), "."))
	if query.Has("host") && q.host == "" {
		return q, errors.New("parameter host: it is empty, want a host")
	}
	for text := range strings.SplitSeq(strings.Join(query["state"], ","), ",") {
		if text == "" && !query.Has("state") {
			continue
		}
		state := vip.State(text)
		if !slices.Contains(vip.States(), state) {
			return q, fmt.Errorf("parameter state %q: want one of %s", text, vip.JoinStates(vip.States()))
		}
		q.states = append(q.states, state)
	}
	return q, nil
}

func (q vipQuestion) asks(row vip.Row) bool {
	return (q.host == "" || row.Host == q.host) && (len(q.states) == 0 || slices.Contains(q.states, row.State))
}

// serveVirtualIPs serves /debug/vips: a vip.Table in JSON, each host on a line of its own. A table is as large
// as there are hosts, so there is one at a time.
func (s *Server) serveVirtualIPs(w http.ResponseWriter, r *http.Request) {
	question, err := parseVIPQuestion(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if s.opts.VirtualIPs == nil {
		http.Error(w, "this syncer does not know of virtual IPs", http.StatusNotFound)
		return
	}
	select {
	case s.tables <- struct{}{}:
		defer func() { <-s.tables }()
	case <-r.Context().Done():
		http.Error(w, "another table of virtual IPs is being written", http.StatusServiceUnavailable)
		return
	}
	table, err := s.opts.VirtualIPs(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	writeTable(bufio.NewWriterSize(w, 64<<10), table, question)
}

// writeTable writes row by row: nothing of it is held twice. An error means that the client has gone, and
// stays with the writer.
func writeTable(w *bufio.Writer, table vip.Table, question vipQuestion) {
	rows := table.Hosts
	table.Hosts = []vip.Row{}
	head, err := json.Marshal(table)
	if err != nil {
		panic(fmt.Sprintf("encode the head of a table of virtual IPs: %v", err)) // it is plain data
	}
	_, _ = w.Write(head[:len(head)-len("]}")])
	between := "\n"
	for _, row := range rows {
		if !question.asks(row) {
			continue
		}
		if row.Addresses == nil {
			row.Addresses = []netip.Addr{}
		}
		if row.Owners == nil {
			row.Owners = []vip.Owner{}
		}
		encoded, err := json.Marshal(row)
		if err != nil {
			panic(fmt.Sprintf("encode the virtual IPs of %s: %v", row.Host, err)) // it is plain data
		}
		_, _ = w.WriteString(between)
		if _, err := w.Write(encoded); err != nil {
			return
		}
		between = ",\n"
	}
	_, _ = w.WriteString("\n]}\n")
	_ = w.Flush()
}
