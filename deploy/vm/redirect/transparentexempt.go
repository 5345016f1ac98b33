package redirect

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Users whose questions are left alone.
const (
	// serverUser is who CoreDNS runs as: what it forwards would come back to it.
	serverUser = "meshvm"
	// resolvedUser is systemd-resolved. It sends the mesh's names to CoreDNS by itself where it owns resolution, and knows which of the
	// machine's resolvers has which other names, as those of a VPN. Where CoreDNS forwards to it, its questions would come back.
	resolvedUser = "systemd-resolve"
	// proxyUser is Istio's agent and Envoy, as a user and a group. What the agent forwards may have come from CoreDNS.
	proxyUser = "istio-proxy"
	// proxyID is what Istio's rules take for both where there is no such user.
	proxyID = 1337
)

// exemption is whose questions are left alone.
type exemption struct{ users, groups []uint32 }

// exempt reads who is exempt. The error says who has to be and is not known.
func (m Machine) exempt(p Plan) (exemption, error) {
	users, err := m.accounts("/etc/passwd")
	if err != nil {
		return exemption{}, fmt.Errorf("read who is exempt from the rules of nftables: %w", err)
	}
	groups, err := m.accounts("/etc/group")
	if err != nil {
		return exemption{}, fmt.Errorf("read who is exempt from the rules of nftables: %w", err)
	}
	server, ok := users[serverUser]
	if !ok {
		return exemption{}, &Impossible{"there is no user " + serverUser + ", and what CoreDNS forwards would come back to it: install the package of meshvm, which makes the user"}
	}
	if server == 0 {
		return exemption{}, &Impossible{"the user " + serverUser + " is root (0), and no program of root's would be redirected: give CoreDNS a user of its own"}
	}
	e := exemption{users: []uint32{server}}
	resolved, hasResolved := users[resolvedUser]
	if hasResolved && resolved != 0 {
		e.users = append(e.users, resolved)
	}
	for _, upstream := range p.Upstreams {
		if upstream.Addr().IsLoopback() && !(isStub(upstream.Addr()) && hasResolved) {
			return exemption{}, &Impossible{fmt.Sprintf("the machine's resolver %s runs on this machine, and what it asks others would come back to CoreDNS: "+
				"apply without --transparent, or have the machine name the resolvers behind it", upstream)}
		}
	}
	if id, ok := users[proxyUser]; ok && id != 0 {
		e.users = append(e.users, id)
	}
	if id, ok := groups[proxyUser]; ok && id != 0 {
		e.groups = append(e.groups, id)
	}
	switch _, err := os.Stat(m.Path("/var/lib/istio")); {
	case err == nil:
		e.users, e.groups = append(e.users, proxyID), append(e.groups, proxyID)
	case !errors.Is(err, fs.ErrNotExist):
		return exemption{}, fmt.Errorf("look for Istio: %w", err)
	}
	for _, ids := range []*[]uint32{&e.users, &e.groups} {
		slices.SortFunc(*ids, cmp.Compare)
		*ids = slices.Compact(*ids)
	}
	return e, nil
}

// accounts are the ids of passwd(5) or group(5), by name. A line that is none is nobody's.
func (m Machine) accounts(path string) (map[string]uint32, error) {
	content, err := os.ReadFile(m.Path(path))
	if err != nil {
		return nil, err
	}
	ids := make(map[string]uint32)
	for line := range strings.Lines(string(content)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) < 3 {
			continue
		}
		if id, err := strconv.ParseUint(fields[2], 10, 32); err == nil {
			ids[fields[0]] = uint32(id)
		}
	}
	return ids, nil
}

// rules let the exempt pass.
func (e exemption) rules() []string {
	var rules []string
	set := func(key string, ids []uint32) {
		if len(ids) == 0 {
			return
		}
		var names []string
		for _, id := range ids {
			names = append(names, strconv.FormatUint(uint64(id), 10))
		}
		rules = append(rules, fmt.Sprintf("meta %s { %s } return", key, strings.Join(names, ", ")))
	}
	set("skuid", e.users)
	set("skgid", e.groups)
	return rules
}
