package redirect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/meshvm/meshvm/deploy/vm/redirect/resolvconf"
)

// systemdResolved is systemd-resolved with one file of ours in /run, so that a reboot forgets it. What holds for both of its modes was
// found out with 252 and 262:
//
//   - A server in DNS= may have a port.
//   - With DNSSEC=yes or allow-downgrade an unsigned zone of the mesh below a signed parent is refused ("no-signature"), unless it is a
//     negative trust anchor. cluster.local is one by itself, as all of local.
//   - With DNSOverTLS=yes no server without TLS is asked, and the setting is one for all of systemd-resolved. With opportunistic one is.
//   - Domains above a number are dropped without a word.
//   - A domain without ~ is searched, too. Those of links and ours are tried at once, so nobody comes first; in the search list of
//     /etc/resolv.conf ours do.
//   - Links keep their servers and domains over a restart: they are in /run/systemd/resolve/netif.
//   - Five starts in ten seconds are the most that systemd lets pass, and a reload of a version that knows none is a start.
type systemdResolved struct {
	file, section string
	// more are further lines of the file.
	more func(Plan) []string
	// domains is how many of them systemd-resolved takes.
	domains int
	// renew has systemd-resolved read its files.
	renew string
}

// delegate is a file of systemd-resolved 258 or later: domains with a server of their own, beside the links. A reload is enough.
var delegate = systemdResolved{
	file:    "/run/systemd/dns-delegate.d/meshvm.dns-delegate",
	section: "Delegate",
	more:    func(p Plan) []string { return []string{"DNS=" + address(p.Server)} },
	domains: 1000,
	renew:   "reload-or-restart",
}

// resolved is a drop-in for all versions: the global server, which is asked for the mesh's domains and, beside the links' servers, for
// those that nobody routes. Servers of the operator's are taken off, since one scope asks only one of its servers, for anything.
// Version 262 forgets no domain at a reload, so this is always a restart.
var resolved = systemdResolved{
	file:    "/run/systemd/resolved.conf.d/50-meshvm.conf",
	section: "Resolve",
	more:    func(p Plan) []string { return []string{"DNS=", "DNS=" + address(p.Server)} },
	domains: 256,
	renew:   "restart",
}

const (
	resolvedUnit = "systemd-resolved.service"
	inNoOrder    = "--job-mode=ignore-dependencies"
	anchorsFile  = "/run/dnssec-trust-anchors.d/meshvm.negative"
	writtenBy    = "Written by meshvm; meshvmctl redirect revert removes it."
)

func (d systemdResolved) content(p Plan) []byte {
	lines := append([]string{"# " + writtenBy, "[" + d.section + "]"}, d.more(p)...)
	return []byte(strings.Join(append(lines, "Domains="+strings.Join(domains(p), " ")), "\n") + "\n")
}

func (d systemdResolved) steps(p Plan) []string {
	return []string{
		"write " + d.file + ": " + strings.Join(d.more(p), " ") + " Domains=" + strings.Join(domains(p), " "),
		"write " + anchorsFile + " where systemd-resolved has DNSSEC on: the mesh's domains are not signed",
		"run systemctl " + d.renew + " " + inNoOrder + " " + resolvedUnit,
		"run resolvectl flush-caches",
	}
}

func (d systemdResolved) check(ctx context.Context, m Machine, p Plan) error {
	if n := len(domains(p)); n > d.domains {
		return &Impossible{fmt.Sprintf("systemd-resolved takes %d domains at most, and %d would be routed to CoreDNS: send it every name (--all-names)", d.domains, n)}
	}
	if len(routes(p)) == 0 {
		return &Impossible{"no domain would be routed to CoreDNS: it serves no zone, and every name is not asked for (--all-names)"}
	}
	overTLS, err := m.setting(ctx, "dnsovertls")
	if err == nil && overTLS == "yes" {
		return &Impossible{"systemd-resolved has DNSOverTLS=yes, which is for every server, and CoreDNS answers here without TLS: set DNSOverTLS=opportunistic in resolved.conf, or use --mode direct"}
	}
	return err
}

// setting is the global one of systemd-resolved, as its command of that name prints it in its first line.
func (m Machine) setting(ctx context.Context, name string) (string, error) {
	printed, err := m.output(ctx, "resolvectl", name)
	if err != nil {
		return "", fmt.Errorf("ask systemd-resolved for its settings: %w", err)
	}
	for line := range strings.Lines(printed) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "Global:"); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", nil
}

func (d systemdResolved) apply(ctx context.Context, m Machine, p Plan, s *State) error {
	changed, err := m.put(ctx, s, d.file, d.content(p))
	if err != nil {
		return err
	}
	signed, err := m.setting(ctx, "dnssec")
	if err != nil {
		return err
	}
	if signed != "no" && signed != "" {
		anchors, err := m.anchors(p)
		if err != nil {
			return err
		}
		more, err := m.put(ctx, s, anchorsFile, anchors)
		if err != nil {
			return err
		}
		changed = changed || more
	}
	overwritten, err := m.stubOverwritten(p)
	if err != nil || !changed && s.settled && overwritten == nil {
		return err
	}
	return d.reread(ctx, m, d.renew)
}

// reread has systemd-resolved read its files anew. It does not wait in systemd's order: the unit of the redirect comes after
// systemd-resolved, and so a restart in its ExecStop would wait for its end.
func (d systemdResolved) reread(ctx context.Context, m Machine, how string) error {
	err := m.command(ctx, "systemctl", how, inNoOrder, resolvedUnit)
	if err != nil {
		// Other starts of these seconds may have been all that systemd lets pass.
		if reset := m.command(ctx, "systemctl", "reset-failed", resolvedUnit); reset != nil {
			return errors.Join(err, reset)
		}
		if err := m.command(ctx, "systemctl", how, inNoOrder, resolvedUnit); err != nil {
			return err
		}
	}
	return m.command(ctx, "resolvectl", "flush-caches")
}

func (d systemdResolved) holds(m Machine, p Plan, _ *State) ([]string, error) {
	same, err := m.has(d.file, d.content(p))
	if err != nil {
		return nil, err
	}
	missing, err := m.stubOverwritten(p)
	if !same {
		missing = append(missing, d.file+" is not there as it was written")
	}
	return missing, err
}

// stubFile is systemd-resolved's, which writes it whenever it starts or reads its files.
const stubFile = "/run/systemd/resolve/stub-resolv.conf"

// stubOverwritten says that others have written stubFile, where /etc/resolv.conf is a link to it: a program that writes to the link does.
// Without a stub it is a link itself.
func (m Machine) stubOverwritten(p Plan) ([]string, error) {
	stub, err := os.Lstat(m.Path(stubFile))
	if err != nil || !stub.Mode().IsRegular() {
		return nil, unlessMissing(err)
	}
	read, err := os.Stat(m.Path(resolvConf))
	if err != nil || !os.SameFile(read, stub) {
		return nil, unlessMissing(err)
	}
	content, err := os.ReadFile(m.Path(stubFile))
	if err != nil {
		return nil, unlessMissing(err)
	}
	file := resolvconf.Parse(content)
	servers, search := file.Servers, file.Search
	if len(servers) == 0 || slices.ContainsFunc(servers, func(server netip.Addr) bool { return !isStub(server) }) {
		return []string{stubFile + " does not name systemd-resolved any more"}, nil
	}
	// The first of ours is enough: how many of them systemd-resolved writes is its own matter.
	if own := slices.IndexFunc(p.Search, p.inZones); own >= 0 && !slices.Contains(search, p.Search[own]) {
		return []string{stubFile + " does not search " + p.Search[own] + " any more"}, nil
	}
	return nil, nil
}

func (d systemdResolved) present(m Machine) (bool, error) {
	found, err := m.exists(d.file)
	if err != nil || found {
		return found, err
	}
	return m.exists(anchorsFile)
}

func (d systemdResolved) revert(ctx context.Context, m Machine, s *State) error {
	if err := errors.Join(m.removeOurs(s, d.file), m.removeOurs(s, anchorsFile)); err != nil {
		return err
	}
	if m.stopping(ctx) {
		return nil // Nobody resolves any more, and /run goes with the machine.
	}
	running, err := m.active(ctx, resolvedUnit)
	if err != nil || !running {
		return err
	}
	return d.reread(ctx, m, d.renew)
}

// put writes a file of ours for somebody else to read, where it is not there already.
func (m Machine) put(ctx context.Context, s *State, path string, content []byte) (changed bool, err error) {
	same, err := m.has(path, content)
	if err != nil || same {
		return false, err
	}
	if err := m.folders(s, path); err != nil {
		return false, err
	}
	if err := m.replace(path, content, 0o644, ours); err != nil {
		return false, fmt.Errorf("write %s: %w", path, err)
	}
	return true, m.relabel(ctx, filepath.Dir(path), path)
}

// anchors are negative trust anchors: names below which nothing has to be signed. The first file of them makes systemd-resolved forget
// those that it has by itself (dnssec-trust-anchors.d(5)), so that they are in it too, unless others have done so.
func (m Machine) anchors(p Plan) ([]byte, error) {
	var names []string
	for _, domain := range append(slices.Clone(p.Zones), p.Domains...) {
		if name := strings.Trim(domain, "."); name != "" {
			names = append(names, name)
		}
	}
	others := false
	for _, folder := range []string{"/etc", "/run", "/usr/local/lib", "/usr/lib"} {
		entries, err := os.ReadDir(m.Path(folder + "/dnssec-trust-anchors.d"))
		if unlessMissing(err) != nil {
			return nil, err
		}
		for _, e := range entries {
			others = others || strings.HasSuffix(e.Name(), ".negative") && e.Name() != filepath.Base(anchorsFile)
		}
	}
	if !others {
		names = append(names, privateZones()...)
	}
	slices.Sort(names)
	return []byte("; " + writtenBy + "\n" + strings.Join(slices.Compact(names), "\n") + "\n"), nil
}

// privateZones are those that nobody signs for all (RFC 6303, RFC 6761, RFC 8375, RFC 9476 and what systemd-resolved adds).
func privateZones() []string {
	zones := []string{
		"home.arpa", "10.in-addr.arpa", "168.192.in-addr.arpa", "170.0.0.192.in-addr.arpa", "171.0.0.192.in-addr.arpa", "d.f.ip6.arpa",
		"ipv4only.arpa", "resolver.arpa", "alt", "corp", "home", "internal", "intranet", "lan", "local", "private", "test",
	}
	for second := 16; second < 32; second++ {
		zones = append(zones, fmt.Sprintf("%d.172.in-addr.arpa", second))
	}
	return zones
}
