package mirror

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/meshvm/meshvm/plugin/mirror/trie"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// edit makes the next State. It first takes in resources, noting which hosts they touch, and builds
// those hosts once at the end. The State that it began with does not change.
type edit struct {
	base *State
	// decoder is for what the mirror holds already.
	decoder decoder

	digest    registryv1.Digest
	size      int
	resources trie.Editor[string, resource]
	hosts     trie.Editor[string, *claimed]
	wildcards trie.Editor[string, *claimed]
	services  trie.Editor[serviceName, *service]
	enclosers trie.Editor[string, int]
	pointers  trie.Editor[netip.Addr, pointers]

	touched map[string]*touchedHost
	// order is touched in the order of touching: what came together lies together in memory.
	order []*touchedHost
	// dots is as in State.
	dots int
	// fresh counts the decoded claims that touched holds.
	fresh int
}

// maxFresh bounds the decoded claims that an edit holds on to, a few megabytes. A larger change decodes
// the rest twice.
const maxFresh = 8192

// touchedHost is a host to be built anew.
type touchedHost struct {
	// owner is the owner name of the host's records.
	owner string
	// before is the host as it was, nil when it was not, and asked whether it had been asked for.
	before *Host
	asked  bool
	// after is the host as it is now, once it was built; nil when nothing claims it.
	after *Host
	// claims are the keys of the resources that claim it now, sorted.
	claims []string
	// fresh is the claim of freshKey, decoded, if it came with this very change.
	fresh    *registryv1.Service
	freshKey string
}

func (t *touchedHost) name() string { return t.owner[:len(t.owner)-1] }

func begin(base *State) *edit {
	return &edit{
		base:      base,
		digest:    base.digest,
		size:      base.size,
		resources: base.resources.Edit(),
		hosts:     base.hosts.Edit(),
		wildcards: base.wildcards.Edit(),
		services:  base.services.Edit(),
		enclosers: base.enclosers.Edit(),
		pointers:  base.pointers.Edit(),
		touched:   map[string]*touchedHost{},
		dots:      base.dots,
	}
}

// finish builds the touched hosts and is the next State.
func (e *edit) finish() (*State, error) {
	if err := checkSize(e.size); err != nil {
		return nil, err
	}
	if err := e.buildHosts(); err != nil {
		return nil, err
	}
	next := *e.base
	next.superseded = make(chan struct{})
	next.digest, next.dots, next.size = e.digest, e.dots, e.size
	next.indexes = indexes{
		resources: e.resources.Map(),
		hosts:     e.hosts.Map(),
		wildcards: e.wildcards.Map(),
		services:  e.services.Map(),
		enclosers: e.enclosers.Map(),
		pointers:  e.pointers.Map(),
	}
	return &next, nil
}

// change takes in the resources of a Change, whose keys are checked.
func (e *edit) change(upserts []*registryv1.Resource, removals []string) error {
	for _, key := range removals {
		if err := e.remove(key); err != nil {
			return fmt.Errorf("remove resource %s: %w", quote(key), err)
		}
	}
	for _, upsert := range upserts {
		if err := e.upsert(upsert.GetKey(), upsert.GetBody()); err != nil {
			return fmt.Errorf("resource %s: %w", quote(upsert.GetKey()), err)
		}
	}
	return nil
}

// checkKeys reports a key that is none or comes twice.
func checkKeys(upserts []*registryv1.Resource, removals []string) error {
	seen := make(map[string]struct{}, len(upserts)+len(removals))
	for i := range len(removals) + len(upserts) {
		var key string
		if i < len(removals) {
			key = removals[i]
		} else {
			key = upserts[i-len(removals)].GetKey()
		}
		if err := registryv1.CheckKey(key); err != nil {
			return fmt.Errorf("resource %s: %w", quote(key), err)
		}
		if seen[key] = struct{}{}; len(seen) == i {
			return fmt.Errorf("resource %s comes twice in one change", quote(key))
		}
	}
	return nil
}

// upsert enters a resource, in place of the one that has its key.
func (e *edit) upsert(key string, encoded []byte) error {
	held, known := e.resources.Get(key)
	if known && held.body(key) == string(encoded) {
		return nil
	}
	// Not by the edit's decoder: touched holds on to claims.
	body, err := check(general{}, key, string(encoded))
	if err != nil {
		return err
	}
	if known {
		if err := e.detach(key, held); err != nil {
			return err
		}
	}
	arrived := resource{text: key + string(encoded)}
	key = arrived.text[:len(key)]
	e.digest.Add(registryv1.DigestResource(key, encoded))
	e.size += sizeOf(arrived.text, body)
	e.attach(key, &arrived, body)
	e.resources.Put(key, arrived)
	return nil
}

// remove takes out a resource that must be there.
func (e *edit) remove(key string) error {
	held, known := e.resources.Get(key)
	if !known {
		return errors.New("the mirror does not hold it")
	}
	e.resources.Delete(key)
	return e.detach(key, held)
}

// attach enters a resource into whatever it has a part in, and notes in it what detach must know.
func (e *edit) attach(key string, arrived *resource, body *registryv1.Body) {
	switch {
	case body.GetService() != nil:
		s := body.GetService()
		t := e.touch(s.GetHost())
		t.claims = withKey(t.claims, key)
		if e.fresh < maxFresh {
			t.fresh, t.freshKey = s, key
			e.fresh++
		}
		if s.GetHeadless() {
			arrived.member = &member{key: key, service: serviceOf(s), host: t.name()}
			e.join(arrived.member)
		}
	case body.GetEndpointSlice() != nil:
		arrived.member = sliceMember(key, body.GetEndpointSlice())
		e.join(arrived.member)
	case body.GetNamespace() != nil:
		e.exists(namespaceName(body.GetNamespace().GetName(), e.base.clusterDomain))
	}
}

// detach takes a resource that the mirror holds out of whatever it has a part in.
func (e *edit) detach(key string, held resource) error {
	e.digest.Remove(held.digest(key))
	body, err := e.decoder.decode(held.body(key))
	if err != nil {
		return err
	}
	e.size -= sizeOf(held.text, body)
	if held.member != nil {
		e.leave(held.member)
	}
	switch {
	case body.GetService() != nil:
		t := e.touch(body.GetService().GetHost())
		t.claims = withoutKey(t.claims, key)
	case body.GetNamespace() != nil:
		e.gone(namespaceName(body.GetNamespace().GetName(), e.base.clusterDomain))
	}
	return nil
}

// touch notes that a host must be built anew.
func (e *edit) touch(name string) *touchedHost {
	if t, found := e.touched[name]; found {
		return t
	}
	t := &touchedHost{}
	t.before, t.asked = e.base.glanceAt(name, &e.decoder)
	if t.before != nil {
		// Other indexes hold on to the owner name that was, so it stays.
		t.owner, t.claims = t.before.owner, t.before.Claims
	} else {
		t.owner = name + "."
	}
	e.touched[t.name()] = t
	e.order = append(e.order, t)
	return t
}

// withKey and withoutKey are the sorted keys with or without one; keys itself is not modified.

func withKey(keys []string, key string) []string {
	i, found := slices.BinarySearch(keys, key)
	if found {
		return keys
	}
	longer := make([]string, 0, len(keys)+1)
	longer = append(longer, keys[:i]...)
	longer = append(longer, key)
	return append(longer, keys[i:]...)
}

func withoutKey(keys []string, key string) []string {
	i, found := slices.BinarySearch(keys, key)
	if !found {
		return keys
	}
	return slices.Concat(keys[:i], keys[i+1:])
}
