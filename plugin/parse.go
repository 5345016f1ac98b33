package meshvm

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	pkgtls "github.com/coredns/coredns/plugin/pkg/tls"

	"github.com/meshvm/meshvm/plugin/status"
	"github.com/meshvm/meshvm/plugin/watch"
)

// blockParser reads one meshvm block.
type blockParser struct {
	*caddy.Controller
	config *Config
	root   string              // of the root plugin; empty where there is none
	seen   map[string]position // options met so far
}

// position is where in the Corefile something stands.
type position struct {
	file string
	line int
}

// parse reads the meshvm block of a server block. Errors name file, line,
// what was found and what is expected there.
func parse(c *caddy.Controller) (*Config, error) {
	var config *Config
	for c.Next() {
		if config != nil {
			return nil, c.Err(plugin.ErrOnce.Error())
		}
		var err error
		if config, err = parseBlock(c); err != nil {
			return nil, err
		}
	}
	return config, nil
}

func parseBlock(c *caddy.Controller) (*Config, error) {
	p := &blockParser{
		Controller: c,
		config: &Config{
			SnapshotFile: DefaultSnapshotFile,
			StatusSocket: status.DefaultSocket,
			MaxStale:     DefaultMaxStale,
			TTL:          DefaultTTL,
			EndpointTTL:  DefaultEndpointTTL,
		},
		root: dnsserver.GetConfig(c).Root,
		seen: make(map[string]position),
	}
	p.seen["meshvm"] = p.position()

	if err := p.parseZones(c.RemainingArgs()); err != nil {
		return nil, err
	}
	for c.NextBlock() {
		if err := p.parseOption(); err != nil {
			return nil, err
		}
	}
	if err := p.complete(); err != nil {
		return nil, err
	}
	return p.config, nil
}

// parseZones reads the arguments of meshvm itself. Unlike for most plugins the
// default is not the server block's own zones: that is "." on a VM, and meshvm
// would deny every name outside the mesh.
func (p *blockParser) parseZones(args []string) error {
	if len(args) == 0 {
		p.config.Zones = []string{DefaultZone}
		return nil
	}
	forward := false
	for _, arg := range args {
		zones, err := normalizeZone(arg)
		if err != nil {
			return p.Errf("meshvm: zone %q: %v; expected a domain such as cluster.local or a network such as 10.96.0.0/16", arg, err)
		}
		for _, zone := range zones {
			if slices.Contains(p.config.Zones, zone) {
				return p.Errf("meshvm: zone %q is given twice", arg)
			}
			forward = forward || dnsutil.IsReverse(zone) == 0
			p.config.Zones = append(p.config.Zones, zone)
		}
	}
	if !forward {
		return p.Errf("meshvm: every zone of %q is a reverse zone; expected at least one domain such as cluster.local", strings.Join(args, " "))
	}
	return nil
}

// normalizeZone returns the zone, or the reverse zones of a network, that arg
// stands for.
func normalizeZone(arg string) ([]string, error) {
	if transport, _, ok := strings.Cut(arg, "://"); ok {
		return nil, fmt.Errorf("a zone has no transport (%s://)", transport)
	}
	if _, err := netip.ParseAddr(arg); err == nil {
		return nil, errors.New("an address is not a zone")
	}
	_, port, err := plugin.SplitHostPort(arg)
	if err != nil {
		return nil, err
	}
	if port != "" {
		return nil, fmt.Errorf("a zone has no port (:%s)", port)
	}
	zones := plugin.Host(arg).NormalizeExact()
	for _, zone := range zones {
		if zone == "." {
			return nil, errors.New(`the root would make meshvm deny every name outside the mesh; hosts outside the zones are answered without naming them`)
		}
		if !isDomain(zone) {
			return nil, errors.New("not a domain name")
		}
	}
	return zones, nil
}

// parseOption reads one line of the block: an option's name and its arguments.
func (p *blockParser) parseOption() error {
	name := p.Val()
	option, ok := options[name]
	if !ok {
		return p.Errf("unknown property '%s'; expected one of %s", name, strings.Join(slices.Sorted(maps.Keys(options)), ", "))
	}
	if earlier, ok := p.seen[name]; ok {
		return p.Errf("%s is already set in line %d; expected it once", name, earlier.line)
	}
	p.seen[name] = p.position()

	args := p.RemainingArgs()
	switch {
	case p.NextArg(): // RemainingArgs stops at nothing but a brace
		return p.Errf("%s takes no block; expected: %s", name, option.usage(name))
	case len(args) == 0 && option.least > 0:
		return p.Errf("%s lacks its argument; expected: %s", name, option.usage(name))
	case len(args) < option.least:
		return p.Errf("%s has too few arguments (%d); expected: %s", name, len(args), option.usage(name))
	case option.most >= 0 && len(args) > option.most:
		return p.Errf("%s has too many arguments (%d); expected: %s", name, len(args), option.usage(name))
	}
	if slices.Contains(args, "") {
		return p.Errf("%s has an empty argument, perhaps from an environment variable that is not set; expected: %s", name, option.usage(name))
	}
	if err := option.set(p, args); err != nil {
		return p.Errf("%s: %v", name, err)
	}
	return nil
}

// complete checks what only the whole block can tell, and fills in what depends
// on more than one option.
func (p *blockParser) complete() error {
	config := p.config
	if len(config.Syncers) == 0 {
		return p.errorAt("meshvm", "no syncer to follow; expected a line: %s", options["syncer"].usage("syncer"))
	}
	if config.Insecure {
		for _, name := range []string{"tls", "tls_servername"} {
			if _, ok := p.seen[name]; ok {
				return p.errorAt("insecure", "insecure and %s exclude each other; expected one of them", name)
			}
		}
		for _, address := range config.Syncers {
			if !watch.OnLoopback(address) {
				return p.errorAt("insecure", "insecure is for syncers on this machine only, and %s is not on loopback; expected tls CERT KEY CA, or an address such as 127.0.0.1:15054", address)
			}
		}
	} else if _, err := pkgtls.NewTLSConfigFromArgs(config.TLS.args()...); err != nil {
		return p.errorAt("tls", "tls: %v", err)
	}
	if config.Node == "" {
		host, err := os.Hostname()
		if err != nil {
			return p.errorAt("meshvm", "the host has no name (%v); expected a line: %s", err, options["node"].usage("node"))
		}
		config.Node = host
	}
	return nil
}

// args returns the files as the tls option takes them.
func (f TLSFiles) args() []string {
	return slices.DeleteFunc([]string{f.Cert, f.Key, f.CA}, func(file string) bool { return file == "" })
}

// path resolves a file named in the Corefile against the root plugin's directory.
func (p *blockParser) path(file string) string {
	if filepath.IsAbs(file) || p.root == "" {
		return filepath.Clean(file)
	}
	return filepath.Join(p.root, file)
}

func (p *blockParser) position() position {
	return position{file: p.File(), line: p.Line()}
}

// errorAt is Errf at the line of an option met earlier.
func (p *blockParser) errorAt(option, format string, args ...any) error {
	at, ok := p.seen[option]
	if !ok {
		at = p.seen["meshvm"]
	}
	return fmt.Errorf("%s:%d - Error during parsing: %s", at.file, at.line, fmt.Sprintf(format, args...))
}

// parsePositiveDuration reads a Go duration that is more than nothing.
func parsePositiveDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration; expected one such as 30m or 1h", s)
	}
	if d <= 0 {
		return 0, fmt.Errorf("%q is not positive; expected a duration such as 30m or 1h", s)
	}
	return d, nil
}
