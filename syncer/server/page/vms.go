package page

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// vmsPerPage is how many VMs a page of them shows.
const vmsPerPage = 50

// orders are what VMs can be sorted by.
var orders = map[string]func(a, b VM) int{
	"node":      func(a, b VM) int { return cmp.Compare(a.Node, b.Node) },
	"namespace": func(a, b VM) int { return cmp.Compare(a.Namespace, b.Namespace) },
	"address":   func(a, b VM) int { return cmp.Compare(a.Address, b.Address) },
	"version":   func(a, b VM) int { return cmp.Compare(a.Version, b.Version) },
	"lag":       func(a, b VM) int { return cmp.Or(cmp.Compare(a.Lag, b.Lag), cmp.Compare(a.LagSeconds, b.LagSeconds)) },
	"seconds":   func(a, b VM) int { return cmp.Compare(a.LagSeconds, b.LagSeconds) },
	"since":     func(a, b VM) int { return a.Since.Compare(b.Since) },
}

// Watching are the VMs, read at most once in the time between two events, however many look. Callers do not change them.
func (p *Page) Watching() []VM {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.vms == nil || now.Sub(p.read) >= p.Every {
		p.vms, p.read = p.Facts.VMs(), now
	}
	return p.vms
}

// serveVMs serves one page: parameters filter, sort (with - in front: descending) and page.
func (p *Page) serveVMs(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	key, descending := strings.CutPrefix(cmp.Or(query.Get("sort"), "node"), "-")
	order := orders[key]
	if order == nil {
		http.Error(w, fmt.Sprintf("parameter sort %q: want node, namespace, address, version, lag, seconds or since", key), http.StatusBadRequest)
		return
	}
	number, err := strconv.Atoi(cmp.Or(query.Get("page"), "1"))
	if err != nil || number < 1 {
		http.Error(w, fmt.Sprintf("parameter page %q: want a number from 1", query.Get("page")), http.StatusBadRequest)
		return
	}
	answer(w, choose(p.Watching(), query.Get("filter"), number, func(a, b VM) int {
		if descending {
			a, b = b, a
		}
		return cmp.Or(order(a, b), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Node, b.Node))
	}))
}

// choose is one page of the VMs that hold the filter's text.
func choose(all []VM, filter string, number int, order func(a, b VM) int) VMs {
	filter = strings.ToLower(strings.TrimSpace(filter))
	matched := make([]VM, 0, len(all))
	for _, vm := range all {
		if filter == "" || slices.ContainsFunc([]string{vm.Node, vm.Namespace, vm.Address, vm.Version}, func(field string) bool {
			return strings.Contains(strings.ToLower(field), filter)
		}) {
			matched = append(matched, vm)
		}
	}
	slices.SortStableFunc(matched, order)
	pages := max(1, (len(matched)+vmsPerPage-1)/vmsPerPage)
	number = min(number, pages)
	first := (number - 1) * vmsPerPage
	return VMs{Total: len(all), Matched: len(matched), Page: number, Pages: pages, VMs: matched[first:min(len(matched), first+vmsPerPage)]}
}
