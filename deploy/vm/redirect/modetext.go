package redirect

import (
	"bytes"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/meshvm/meshvm/deploy/vm/redirect/resolvconf"
)

// marker is in the first line of an /etc/resolv.conf of ours, and in nobody else's.
const marker = "# Written by meshvm "

// written says whether a resolv.conf is ours.
func written(content []byte) bool { return bytes.HasPrefix(content, []byte(marker)) }

// rewritten is a resolv.conf that names the servers and the search list, and else says what base says. Comments of a base that somebody
// has generated would say that somebody has generated this one, too: they are left out.
func rewritten(base []byte, generated bool, servers []netip.Addr, search []string) []byte {
	var b strings.Builder
	b.WriteString(marker + "to have CoreDNS answer. meshvmctl redirect revert puts back what was here.\n")
	for _, server := range servers {
		b.WriteString("nameserver " + server.String() + "\n")
	}
	if len(search) > 0 {
		b.WriteString("search " + strings.Join(search, " ") + "\n")
	}
	b.Write(kept(base, generated))
	return []byte(b.String())
}

// restored is a resolv.conf with these servers instead of those that it names. All else stays: the search list of one of ours has the
// one that was there in it.
func restored(current []byte, servers []netip.Addr) []byte {
	var b strings.Builder
	name := func() {
		for _, server := range servers {
			b.WriteString("nameserver " + server.String() + "\n")
		}
		servers = nil
	}
	for line := range strings.Lines(string(current)) {
		words := resolvconf.Words(line)
		switch {
		case strings.HasPrefix(line, marker):
		case len(words) > 0 && words[0] == "nameserver":
			name()
		default:
			b.WriteString(strings.TrimSuffix(line, "\n") + "\n")
		}
	}
	name() // It named nobody.
	return []byte(b.String())
}

// kept are the lines that stay: all but ours, servers and search lists.
func kept(base []byte, generated bool) []byte {
	var b bytes.Buffer
	stub := slices.Contains(resolvconf.Parse(base).Servers, netip.AddrFrom4([4]byte{127, 0, 0, 53}))
	for line := range strings.Lines(string(base)) {
		words := resolvconf.Words(line)
		switch {
		case strings.HasPrefix(line, marker):
			continue
		case len(words) == 0 && generated:
			continue
		case len(words) > 0 && (words[0] == "nameserver" || words[0] == "search" || words[0] == "domain"):
			continue
		case len(words) > 0 && words[0] == "options" && stub && slices.Contains(words, "trust-ad"):
			// systemd-resolved may be trusted to say what was proved. Those that it asks may not.
			words = slices.DeleteFunc(words, func(word string) bool { return word == "trust-ad" })
			if len(words) == 1 {
				continue
			}
			line = strings.Join(words, " ") + "\n"
		}
		b.WriteString(strings.TrimSuffix(line, "\n") + "\n")
	}
	return b.Bytes()
}

// remember keeps /etc/resolv.conf as it was in the State, once for all Plans of a mode.
func (m Machine) remember(s *State) error {
	if s.Before != nil {
		return nil
	}
	content, err := os.ReadFile(m.Path(resolvConf))
	if unlessMissing(err) != nil {
		return err
	}
	if len(content) > backupLimit {
		return &Impossible{resolvConf + " is far larger than a resolv.conf"}
	}
	s.Before = append([]byte{}, content...)
	return s.save(m)
}
