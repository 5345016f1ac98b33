package source

import (
	"fmt"
	"testing"
	"time"

	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"

	"github.com/meshvm/meshvm/syncer/vip"
)

func TestTableOfStatuses(t *testing.T) {
	named := func(name string, age time.Duration, edits ...func(*networkingv1.ServiceEntry)) Change {
		return present(createdAgo(age, append(edits, func(e *networkingv1.ServiceEntry) { e.Name = name })...))
	}
	translator := newTranslator(t, Options{})
	translator.Translate(
		named("db", 0, withStatus("db.example.com", "240.240.0.1", "db.example.com", "2001:2::1")),
		named("old", time.Hour, withHosts("twice.example.com"), withStatus("twice.example.com", "240.240.0.2")),
		named("new", 0, withHosts("twice.example.com"), withStatus("twice.example.com", "240.240.0.2")),
		named("split-a", 0, withHosts("split.example.com"), withStatus("split.example.com", "240.240.0.3")),
		named("split-b", 0, withHosts("split.example.com"), withStatus("split.example.com", "240.240.0.4")),
		named("clash-a", 0, withHosts("clash-a.example.com"), withStatus("clash-a.example.com", "240.240.0.5")),
		named("clash-b", 0, withHosts("clash-b.example.com"), withStatus("clash-b.example.com", "240.240.0.5")),
		named("late", 0, withHosts("late.example.com")),
		named("half-a", 0, withHosts("half.example.com"), withStatus("half.example.com", "240.240.0.6")),
		named("half-b", 0, withHosts("half.example.com")),
		named("literal", 0, withHosts("literal.example.com"), func(e *networkingv1.ServiceEntry) { e.Spec.Addresses = []string{"192.0.2.1"} }),
		named("gone", 0, withHosts("gone.example.com")),
		gone(entry(func(e *networkingv1.ServiceEntry) { e.Name = "gone" })),
	)
	table := translator.VirtualIPs().Table()
	if table.Mode != vip.ModeStatus {
		t.Errorf("Mode: got %q, want %q", table.Mode, vip.ModeStatus)
	}
	var got []string
	for _, row := range table.Hosts {
		got = append(got, fmt.Sprint(row.Host, " ", row.Addresses, " ", row.Owners, " ", row.State, " ", row.Note))
		if !row.Since.IsZero() || !row.Until.IsZero() {
			t.Errorf("%s: got since %v and until %v, want neither: a status does not say", row.Host, row.Since, row.Until)
		}
	}
	expectLines(t, "rows", got, []string{
		"clash-a.example.com [240.240.0.5] [prod/clash-a] conflict host clash-b.example.com has 240.240.0.5 as well",
		"clash-b.example.com [240.240.0.5] [prod/clash-b] conflict host clash-a.example.com has 240.240.0.5 as well",
		"db.example.com [240.240.0.1 2001:2::1] [prod/db] assigned ",
		"half.example.com [240.240.0.6] [prod/half-a prod/half-b] pending the control plane has written no address to a status",
		"late.example.com [] [prod/late] pending the control plane has written no address to a status",
		"split.example.com [240.240.0.3 240.240.0.4] [prod/split-a prod/split-b] several its ServiceEntries have different addresses",
		"twice.example.com [240.240.0.2] [prod/old prod/new] assigned ",
	})
}
