package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// generationSize is how many Services change at once in TestTransferWhileChanging: enough for several
// messages.
const generationSize = 500

// generation is Services that all carry one number from 1 to 250: in the second octet of every address,
// and in the name of the last.
func generation(number int) string {
	manifests := make([]string, 0, generationSize)
	for i := range generationSize - 1 {
		manifests = append(manifests, service(fmt.Sprintf("s%d.prod", i), generationAddress(number, i)))
	}
	return documents(append(manifests, service(fmt.Sprintf("last-%d.prod", number), generationAddress(number, generationSize-1)))...)
}

func generationAddress(number, i int) string {
	return fmt.Sprintf("10.%d.%d.%d", number, i/250, 1+i%250)
}

// TestTransferWhileChanging transfers zones while all of their names change over and over. Every transfer
// has to be of one revision.
func TestTransferWhileChanging(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "generation.yaml", generation(1))
	_, syncer, _ := syncerOn(t, folder)
	m := transferring(t, syncer)

	const enough = 20
	zones := []string{"cluster.local.", "mesh.example.", "10.in-addr.arpa."}
	overtaken, transfers := 0, 0
	var newest uint32
	numbers := map[uint32]int{}
	// once transfers a zone and holds it against those before.
	once := func(zone string) {
		records, messages, err := m.transfer(zone)
		if err != nil {
			t.Fatalf("Transfer %s: %v", zone, err)
		}
		transfers++
		if messages < 2 && zone != "10.in-addr.arpa." {
			t.Fatalf("Messages of %s: got %d, want several", zone, messages)
		}
		first, last := records[0].(*dns.SOA), records[len(records)-1].(*dns.SOA)
		if first.Serial != last.Serial {
			t.Fatalf("Serial of %s: got %d first and %d last", zone, first.Serial, last.Serial)
		}
		if transfers > 1 && int32(first.Serial-newest) < 0 {
			t.Fatalf("Serial of %s: got %d after %d", zone, first.Serial, newest)
		}
		newest = first.Serial
		number, err := numberOf(records)
		if err != nil {
			t.Fatalf("Transfer %s with serial %d: %v", zone, newest, err)
		}
		if before, known := numbers[newest]; known && before != number {
			t.Fatalf("Serial %d: got it for both %d and %d", newest, before, number)
		}
		numbers[newest] = number

		reply, _ := m.reply(t, client{}, zone+" SOA")
		if reply.Answer[0].(*dns.SOA).Serial != newest {
			overtaken++
		}
	}
	deadline := time.Now().Add(patience)
	for number := 2; overtaken < enough; number = number%250 + 1 {
		// The change arrives when it arrives, in the middle of whatever goes on.
		write(t, folder, "generation.yaml", generation(number))
		for numbers[newest] != number {
			for _, zone := range zones {
				once(zone)
			}
			if time.Now().After(deadline) {
				t.Fatalf("Got %d transfers that a change overtook in %v, want %d", overtaken, patience, enough)
			}
		}
	}
	t.Logf("%d transfers of %d revisions, %d of them overtaken by a change", transfers, len(numbers), overtaken)
}

// numberOf is the one number that all of a transfer carries, and fails where there are several or where
// names are missing.
func numberOf(records []dns.RR) (number int, err error) {
	names, last := map[string]int{}, 0
	for _, rr := range records {
		var name string
		var got int
		switch rr := rr.(type) {
		case *dns.A:
			name, got = rr.Hdr.Name, int(rr.A.To4()[1])
		case *dns.PTR:
			labels := dns.SplitDomainName(rr.Hdr.Name)
			name = rr.Ptr
			if _, err := fmt.Sscan(labels[2], &got); err != nil {
				return 0, fmt.Errorf("read the octet of %s: %w", rr.Hdr.Name, err)
			}
		}
		if !strings.Contains(name, ".prod.svc.") {
			continue
		}
		if _, twice := names[name]; twice {
			return 0, fmt.Errorf("got %s twice", name)
		}
		names[name] = got
		if number == 0 {
			number = got
		}
		if got != number {
			return 0, fmt.Errorf("got %v in a transfer that began with %d", rr, number)
		}
		if text, found := strings.CutPrefix(name, "last-"); found {
			if _, err := fmt.Sscanf(text, "%d.", &last); err != nil {
				return 0, fmt.Errorf("read the number of %s: %w", name, err)
			}
		}
	}
	if len(names) != generationSize || last != number {
		return 0, fmt.Errorf("got %d names, the last of them with %d, want %d with %d", len(names), last, generationSize, number)
	}
	return number, nil
}
