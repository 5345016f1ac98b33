package redirect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/meshvm/meshvm/deploy/vm/redirect/resolvconf"
)

// lastUpstreamsFile has the upstreams as they were last known, over a boot as well.
const lastUpstreamsFile = "/var/lib/meshvm-redirect/upstreams"

// maxUpstreams is how many of them CoreDNS's forward takes.
const maxUpstreams = 15

// nobody is who stands in the file while no resolver of the machine was ever known, since forward does not start without one. Nobody
// listens there, so that a query fails at once, and names of the mesh are answered.
var nobody = netip.AddrFrom4([4]byte{127, 255, 255, 254})

// WriteUpstreams has UpstreamsFile name the machine's own resolvers as they are now, and reports which. Where none can be found it says
// those that were known last, so that a moment without any, as between two networks, is none for CoreDNS. The file is written only where
// it changes: CoreDNS reloads then. Server is where CoreDNS listens; it is in the file never.
func WriteUpstreams(ctx context.Context, m Machine, server netip.AddrPort) (upstreams []netip.AddrPort, changed bool, err error) {
	state, err := LoadState(m)
	if _, unusable := errors.AsType[*UnusableState](err); err != nil && !unusable {
		return nil, false, fmt.Errorf("find the resolvers of this machine: %w", err)
	}
	facts := detect(ctx, m, server, state)
	return m.writeUpstreams(server, facts.Upstreams[ownerOf(facts)])
}

// ownerOf is the mode whose owner knows the machine's resolvers.
func ownerOf(f Facts) Mode {
	p := Plan{}
	p.pick(choose(f))
	return p.Mode
}

func (m Machine) writeUpstreams(server netip.AddrPort, upstreams []netip.AddrPort) ([]netip.AddrPort, bool, error) {
	known := upstreams
	if len(known) == 0 {
		last, err := os.ReadFile(m.Path(lastUpstreamsFile))
		if unlessMissing(err) != nil {
			return nil, false, fmt.Errorf("read the resolvers that were known last: %w", err)
		}
		// Since then CoreDNS may have moved to where one of them was.
		d := detection{server: server}
		upstreams = d.others(resolvconf.Parse(last).Servers)
	}
	upstreams = upstreams[:min(len(upstreams), maxUpstreams)]
	before, err := os.ReadFile(m.Path(UpstreamsFile))
	if unlessMissing(err) != nil {
		return nil, false, fmt.Errorf("read %s: %w", UpstreamsFile, err)
	}
	named := upstreams
	if len(named) == 0 {
		named = []netip.AddrPort{netip.AddrPortFrom(nobody, resolverPortDefault)}
	}
	if err := m.keepUpstreams(UpstreamsFile, named); err != nil {
		return nil, false, err
	}
	// Last, since CoreDNS needs the other one, and a disk may be full.
	if len(known) > 0 {
		if err := m.keepUpstreams(lastUpstreamsFile, known); err != nil {
			return nil, false, err
		}
	}
	return upstreams, !slices.Equal(resolvconf.Parse(before).Servers, addresses(named)), nil
}

func addresses(servers []netip.AddrPort) []netip.Addr {
	var all []netip.Addr
	for _, server := range servers {
		all = append(all, server.Addr())
	}
	return all
}

// keepUpstreams writes a file of resolvers where it says others.
func (m Machine) keepUpstreams(path string, upstreams []netip.AddrPort) error {
	var content bytes.Buffer
	content.WriteString("# This machine's own resolvers, as meshvm found them. " + writtenHere + "\n")
	for _, upstream := range upstreams {
		content.WriteString("nameserver " + upstream.Addr().String() + "\n")
	}
	same, err := m.has(path, content.Bytes())
	if err != nil || same {
		return err
	}
	if err := m.putWhole(path, content.Bytes()); err != nil {
		return fmt.Errorf("keep the resolvers of this machine: %w", err)
	}
	return nil
}

// putWhole has a file of this package's own folders with this content, or the one before it. Unlike replace it stands several runs at
// once: CoreDNS's start does not wait for an Apply.
func (m Machine) putWhole(path string, content []byte) error {
	folder := filepath.Dir(m.Path(path))
	if err := makeFolder(folder); err != nil {
		return err
	}
	if err := os.Chmod(folder, 0o755); err != nil { //nolint:gosec // whatever the umask
		return err
	}
	file, err := os.CreateTemp(folder, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), m.Path(path))
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

// writtenHere says whose file it is.
const writtenHere = "It is written anew when they change."
