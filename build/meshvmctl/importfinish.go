package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// finish decides what only all lines together decide.
func (i *imported) finish() {
	i.resolveAliases()
	i.settleDomains()
	i.sayWhatAnswersNow()
	if i.dnsmasq && !i.noHosts {
		i.left = append(i.left, omission{said: "/etc/hosts: left out: dnsmasq answers from it where no-hosts is not set: import it with --format hosts"})
	}
}

// resolveAliases gives aliases the addresses of what they stand for. Some stand for other aliases.
func (i *imported) resolveAliases() {
	pending := i.aliases
	for progress := true; progress; {
		progress = false
		var later []alias
		for _, a := range pending {
			addresses, known := i.known[a.target]
			if !known {
				later = append(later, a)
				continue
			}
			progress = true
			for _, address := range slices.Clone(addresses) {
				i.add(a.at, a.name, address)
			}
		}
		pending = later
	}
	for _, a := range pending {
		i.leave(a.at, []string{a.name}, "%q stands for %q, which has no address of its own here", a.name, a.target)
	}
	i.aliases = nil
}

// settleDomains gives the name of a domain its address, unless an option for just that name did.
func (i *imported) settleDomains() {
	for _, host := range slices.Sorted(maps.Keys(i.domains)) {
		if _, overridden := i.names[host]; !overridden {
			i.names[host] = i.domains[host]
		}
	}
	i.domains = nil
}

// sayWhatAnswersNow adds to what was left out which wildcard that was taken over has its names now: they were an exception from it.
func (i *imported) sayWhatAnswersNow() {
	for n, omitted := range i.left {
		for _, name := range omitted.names {
			name = strings.TrimPrefix(clean(name), "*.")
			if _, taken := i.names[name]; taken {
				continue
			}
			for _, above, found := strings.Cut(name, "."); found; _, above, found = strings.Cut(above, ".") {
				if addresses, covers := i.names["*."+above]; covers {
					i.left[n].said += fmt.Sprintf("; %s is answered as *.%s now, with %s", name, above, addresses[0])
					break
				}
			}
		}
	}
}
