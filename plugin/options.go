package meshvm

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/meshvm/meshvm/plugin/status"
	"github.com/meshvm/meshvm/plugin/watch"
)

// An option is one property of the meshvm block.
type option struct {
	arguments   string // as the documentation writes them
	least, most int    // number of arguments; most -1 is any
	set         func(p *blockParser, args []string) error
}

// usage is the line as it is to be written.
func (o option) usage(name string) string {
	return strings.TrimSpace(name + " " + o.arguments)
}

// options are the properties by name: the whole contract of the Corefile.
var options = map[string]option{
	"syncer":         {"ADDRESS...", 1, -1, setSyncers},
	"tls":            {"[CERT KEY] [CA]", 0, 3, setTLS},
	"tls_servername": {"NAME", 1, 1, setTLSServerName},
	"token":          {"FILE", 1, 1, setToken},
	"insecure":       {"", 0, 0, setInsecure},
	"namespace":      {"NAME", 1, 1, setNamespace},
	"node":           {"NAME", 1, 1, setNode},
	"snapshot":       {"FILE|off", 1, 1, setSnapshot},
	"status":         {"SOCKET|off", 1, 1, setStatus},
	"max_stale":      {"DURATION [serve|fail]", 1, 2, setMaxStale},
	"ttl":            {"SECONDS [ENDPOINT_SECONDS]", 1, 2, setTTL},
	"short_names":    {"", 0, 0, setShortNames},
	"search":         {"DOMAIN...", 1, -1, setSearch},
	"pods":           {"disabled|insecure", 1, 1, setPods},
	"fallthrough":    {"[ZONES...]", 0, -1, setFallthrough},

	"rebind_protection": {"[RANGES...] [except DOMAINS...]", 0, -1, setRebindProtection},
}

func setSyncers(p *blockParser, args []string) error {
	for _, address := range args {
		if err := checkAddress(address); err != nil {
			return fmt.Errorf("%q: %w; expected host:port such as syncer.example.org:15054 or [2001:db8::1]:15054", address, err)
		}
		if slices.Contains(p.config.Syncers, address) {
			return fmt.Errorf("%q is given twice", address)
		}
		p.config.Syncers = append(p.config.Syncers, address)
	}
	return nil
}

// checkAddress refuses what is not host:port with a numeric port.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		if addrErr, ok := errors.AsType[*net.AddrError](err); ok {
			return errors.New(addrErr.Err) // without the address, which the caller names
		}
		return err
	}
	if host == "" {
		return errors.New("missing host in address")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	if _, err := netip.ParseAddr(host); err != nil && !isDomain(host) {
		return fmt.Errorf("host %q is neither an IP address nor a domain name", host)
	}
	return nil
}

// setTLS takes what forward's tls takes: nothing, CA, CERT KEY, or CERT KEY CA.
// The files are checked together at the end of the block.
func setTLS(p *blockParser, args []string) error {
	files := make([]string, len(args))
	for i, file := range args {
		files[i] = p.path(file)
		if err := checkFile(files[i], maxPEMBytes); err != nil {
			return fmt.Errorf("%w; expected PEM files: CERT KEY CA", err)
		}
	}
	tls := &p.config.TLS
	switch len(files) {
	case 1:
		tls.CA = files[0]
	case 2:
		tls.Cert, tls.Key = files[0], files[1]
	case 3:
		tls.Cert, tls.Key, tls.CA = files[0], files[1], files[2]
	}
	return nil
}

func setTLSServerName(p *blockParser, args []string) error {
	if watch.IsSPIFFEID(args[0]) {
		p.config.TLSServerName = args[0]
		return watch.CheckSPIFFEID(args[0])
	}
	if !isDomain(args[0]) {
		return fmt.Errorf("%q is not a name; expected the name in the syncer's certificate, such as syncer.example.org", args[0])
	}
	p.config.TLSServerName = strings.TrimSuffix(args[0], ".")
	return nil
}

// setToken checks that the token can be read now. What it says is read again for
// every connection.
func setToken(p *blockParser, args []string) error {
	if watch.IsToken(args[0]) {
		return errors.New("this is a token itself; expected a file that holds a bearer token")
	}
	file := p.path(args[0])
	if err := checkFile(file, maxTokenBytes); err != nil {
		return fmt.Errorf("%w; expected a file that holds a bearer token", err)
	}
	token, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(token)) == "" {
		return fmt.Errorf("%s is empty; expected a file that holds a bearer token", file)
	}
	p.config.TokenFile = file
	return nil
}

const (
	// maxPEMBytes bounds a file of certificates; all public authorities are 0.3 MB.
	maxPEMBytes = 4 << 20
	// maxTokenBytes bounds a token, which has to fit into a header of HTTP/2.
	maxTokenBytes = 12 << 10
)

// checkFile refuses what cannot be a small file of credentials, before anything
// reads it: a directory, a pipe that would block, a device that never ends.
func checkFile(file string, most int64) error {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", file)
	case info.Size() > most:
		return fmt.Errorf("%s is larger than %d bytes", file, most)
	}
	return nil
}

func setInsecure(p *blockParser, _ []string) error {
	p.config.Insecure = true
	return nil
}

func setNamespace(p *blockParser, args []string) error {
	if !isLabel(args[0]) {
		return fmt.Errorf("%q is not a namespace; expected at most 63 of a-z, 0-9 and '-', first and last not '-'", args[0])
	}
	p.config.Namespace = args[0]
	return nil
}

func setNode(p *blockParser, args []string) error {
	if !isDomain(args[0]) {
		return fmt.Errorf("%q is not a host name; expected one such as vm-1 or vm-1.example.org", args[0])
	}
	p.config.Node = args[0]
	return nil
}

func setSnapshot(p *blockParser, args []string) error {
	if args[0] == "off" {
		p.config.SnapshotFile = ""
		return nil
	}
	file := p.path(args[0])
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file; expected a file name or off", file)
	}
	p.config.SnapshotFile = file
	return nil
}

// setStatus does not look for the socket's folder: it may come with the process, and queries are answered without.
func setStatus(p *blockParser, args []string) error {
	if args[0] == "off" {
		p.config.StatusSocket = ""
		return nil
	}
	socket := p.path(args[0])
	if len(socket) > status.MaxPath {
		return fmt.Errorf("%s has %d bytes; expected the name of a socket, at most %d, or off", socket, len(socket), status.MaxPath)
	}
	if info, err := os.Lstat(socket); err == nil && info.Mode()&os.ModeSocket == 0 {
		return fmt.Errorf("%s is there and is no socket; expected the name of a socket or off", socket)
	}
	p.config.StatusSocket = socket
	return nil
}

func setMaxStale(p *blockParser, args []string) error {
	age, err := parsePositiveDuration(args[0])
	if err != nil {
		return err
	}
	p.config.MaxStale = age
	if len(args) == 2 {
		switch args[1] {
		case StaleServe.String():
			p.config.StaleAction = StaleServe
		case StaleFail.String():
			p.config.StaleAction = StaleFail
		default:
			return fmt.Errorf("%q is not an action; expected serve or fail", args[1])
		}
	}
	return nil
}

// setTTL reads the two TTLs. An endpoint's addresses move more than a service's:
// a service TTL below the default of endpoints lowers theirs with it.
func setTTL(p *blockParser, args []string) error {
	ttls := make([]uint32, len(args))
	for i, arg := range args {
		ttl, err := strconv.ParseUint(arg, 10, 32)
		if err != nil || uint32(ttl) > MaxTTL {
			return fmt.Errorf("%q is not a TTL; expected whole seconds from 0 to %d", arg, MaxTTL)
		}
		ttls[i] = uint32(ttl)
	}
	p.config.TTL = ttls[0]
	p.config.EndpointTTL = min(DefaultEndpointTTL, ttls[0])
	if len(ttls) == 2 {
		p.config.EndpointTTL = ttls[1]
	}
	return nil
}

func setShortNames(p *blockParser, _ []string) error {
	p.config.ShortNames = true
	return nil
}

func setSearch(p *blockParser, args []string) error {
	for _, arg := range args {
		if !isDomain(arg) {
			return fmt.Errorf("%q is not a domain; expected one of the machine's search list, such as corp.example.org", arg)
		}
		domain := dns.Fqdn(strings.ToLower(arg))
		if slices.Contains(p.config.Search, domain) {
			return fmt.Errorf("%q is given twice; expected each domain once", arg)
		}
		p.config.Search = append(p.config.Search, domain)
	}
	return nil
}

func setPods(p *blockParser, args []string) error {
	switch args[0] {
	case PodsDisabled.String():
		p.config.Pods = PodsDisabled
	case PodsInsecure.String():
		p.config.Pods = PodsInsecure
	case "verified":
		return errors.New("verified would have every machine follow every pod of the cluster; expected disabled or insecure")
	default:
		return fmt.Errorf("%q is not a mode; expected disabled or insecure", args[0])
	}
	return nil
}

func setFallthrough(p *blockParser, args []string) error {
	for _, arg := range args {
		if arg == "." {
			continue
		}
		if _, err := normalizeZone(arg); err != nil {
			return fmt.Errorf("zone %q: %w; expected a domain such as cluster.local", arg, err)
		}
	}
	p.config.Fall.SetZonesFromArgs(args)
	return nil
}

// isDomain reports whether name is made of labels of letters, digits, '-' and
// '_', as every host name, zone and node name in practice is.
func isDomain(name string) bool {
	name = strings.TrimSuffix(name, ".")
	if _, ok := dns.IsDomainName(name); !ok || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.ToLower(name), ".") {
		if label == "" || strings.ContainsFunc(label, func(r rune) bool { return r != '_' && !isLabelRune(r) }) {
			return false
		}
	}
	return true
}

// isLabel reports whether name is a DNS label as Kubernetes names namespaces
// (RFC 1123).
func isLabel(name string) bool {
	return name != "" && len(name) <= 63 &&
		!strings.HasPrefix(name, "-") && !strings.HasSuffix(name, "-") &&
		!strings.ContainsFunc(name, func(r rune) bool { return !isLabelRune(r) })
}

func isLabelRune(r rune) bool {
	return r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z'
}
