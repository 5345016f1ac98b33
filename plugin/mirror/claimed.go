package mirror

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/meshvm/meshvm/plugin/mirror/trie"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// claimed is a name that resources claim. Of all the names that a mesh has, a VM asks for few, and a Host
// takes more memory than the resource that it is made of. So the Host of a name that has one claim is made
// when it is first asked for, and then kept; what it is made of never changes. Where several resources claim
// the name, the Host is there from the beginning.
type claimed struct {
	// text is key and body of the only claim, and keySize says where the one ends. Empty: there are several.
	text    string
	keySize int

	host atomic.Pointer[Host]
}

// hostOf is the Host of a name of this State, kept for the next query.
func (s *State) hostOf(c *claimed) *Host {
	if host := c.host.Load(); host != nil {
		return host
	}
	// Of two that make it at once, both return the same.
	c.host.CompareAndSwap(nil, c.build(new(decoder), &s.services, s.ttls))
	return c.host.Load()
}

// glance is hostOf without keeping what it makes. It reports whether the Host was there.
func (s *State) glance(c *claimed, d *decoder) (host *Host, kept bool) {
	if host := c.host.Load(); host != nil {
		return host, true
	}
	return c.build(d, &s.services, s.ttls), false
}

// glanceAt is glance at a name, or at a wildcard's own spelling; nil where there is none.
func (s *State) glanceAt(name string, d *decoder) (host *Host, kept bool) {
	index := &s.hosts
	if suffix, wild := strings.CutPrefix(name, registryv1.WildcardPrefix); wild {
		index, name = &s.wildcards, suffix
	}
	held, found := index.Get(name)
	if !found {
		return nil, false
	}
	return s.glance(held, d)
}

// build makes the Host of a name with one claim.
func (c *claimed) build(d *decoder, services *trie.Map[serviceName, *service], ttls lifetimes) *Host {
	claim := c.claim(d)
	host := newHost(claim.GetHost()+".", []string{c.text[:c.keySize]}, []*registryv1.Service{claim}, ttls)
	if host.Headless {
		service, _ := services.Get(serviceOf(claim))
		host.answerEndpoints(nil, service, ttls.of(host.AddressKind))
	}
	return host
}

// claim decodes the only claim. It is good until the decoder's next one.
func (c *claimed) claim(d *decoder) *registryv1.Service {
	body, err := d.decode(c.text[c.keySize:])
	if err != nil {
		panic(fmt.Sprintf("mirror: resource %s no longer decodes: %v", quote(c.text[:c.keySize]), err)) // it did when it came
	}
	return body.GetService()
}

// withLifetimes is the name with other TTLs.
func (c *claimed) withLifetimes(ttls lifetimes) *claimed {
	again := &claimed{text: c.text, keySize: c.keySize}
	if host := c.host.Load(); host != nil {
		again.host.Store(host.withLifetimes(ttls))
	}
	return again
}
