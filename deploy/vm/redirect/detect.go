package redirect

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshvm/meshvm/deploy/vm/redirect/nsswitch"
	"github.com/meshvm/meshvm/deploy/vm/redirect/resolvconf"
)

// probeTimeout bounds each command that Detect runs.
const probeTimeout = 3 * time.Second

// Detect looks at a machine, and changes nothing. Server is where CoreDNS listens, which is nobody's upstream. The error is of the State
// alone; what else cannot be found out is in Facts.Unknown.
func Detect(ctx context.Context, m Machine, server netip.AddrPort) (Facts, error) {
	state, err := LoadState(m)
	if err != nil {
		return Facts{}, err
	}
	return detect(ctx, m, server, state), nil
}

// detect is Detect by a State that is known. Nil: there is none, or none that can be used.
func detect(ctx context.Context, m Machine, server netip.AddrPort, state *State) Facts {
	d := detection{Machine: m, server: server, state: state}
	d.note("the boot's id", func() (err error) { d.Boot, err = m.boot(); return err })
	d.note("/etc/nsswitch.conf", d.nss)
	d.note(resolvConf, d.resolvConf)
	d.note("systemd-resolved", func() error { return d.resolved(ctx) })
	d.note("NetworkManager", func() error { return d.networkManager(ctx) })
	d.note("resolvconf", func() error { return d.resolvconf(ctx) })
	d.upstreams(ctx)
	d.note("Istio's rules", func() error { return d.istio() })
	return d.Facts
}

// detection is one Detect.
type detection struct {
	Machine
	Facts
	server netip.AddrPort
	state  *State
}

// note keeps the failure of a probe as a fact.
func (d *detection) note(what string, probe func() error) {
	if err := probe(); err != nil {
		d.Unknown = append(d.Unknown, fmt.Sprintf("%s: %v", what, err))
	}
}

// ask runs a command for as long as a probe may take.
func (d *detection) ask(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return d.output(ctx, name, args...)
}

func (d *detection) nss() error {
	content, err := os.ReadFile(d.Path("/etc/nsswitch.conf"))
	d.NSS = nsswitch.Hosts(content)
	return unlessMissing(err)
}

func (d *detection) resolvConf() error {
	d.ResolvConf.Mounted = d.mountedOver()
	content, err := os.ReadFile(d.Path(resolvConf))
	if unlessMissing(err) != nil {
		return err
	}
	d.ResolvConf.Missing = errors.Is(err, fs.ErrNotExist)
	if target, err := os.Readlink(d.Path(resolvConf)); err == nil {
		d.ResolvConf.Target, d.ResolvConf.Missing = target, false
	}
	if written(content) {
		d.ResolvConf.Ours = true
		if content, err = d.before(content); err != nil {
			return err
		}
	}
	file := resolvconf.Parse(content)
	d.ResolvConf.Servers, d.ResolvConf.Search, d.ResolvConf.Options = file.Servers, file.Search, file.Options
	if !file.Searches {
		if d.ResolvConf.Search, err = d.implied(); err != nil {
			return err
		}
	}
	if d.state != nil && d.state.Withdrawn == "" && !d.ResolvConf.Ours {
		// Its owner has put ours among its own: those of a namespace that is not the machine's any more would stay for good.
		d.ResolvConf.Search = slices.DeleteFunc(d.ResolvConf.Search, func(domain string) bool {
			return slices.Contains(d.state.Plan.Search, domain) && d.state.Plan.inZones(domain)
		})
	}
	d.ResolvConf.Writer = writer(content)
	return nil
}

// hostName is the kernel's.
const hostName = "/proc/sys/kernel/hostname"

// implied is the search list that the C library has where resolv.conf names none (resolv.conf(5)): the domain of the host's name. One of
// ours takes its place, so that it has to be in there.
func (d *detection) implied() ([]string, error) {
	name, err := os.ReadFile(d.Path(hostName))
	if err != nil {
		return nil, unlessMissing(err)
	}
	_, domain, _ := strings.Cut(strings.TrimSpace(string(name)), ".")
	if domain = strings.ToLower(strings.Trim(domain, ".")); domain == "" {
		return nil, nil
	}
	return []string{domain}, nil
}

// before is /etc/resolv.conf as it was before ours.
func (d *detection) before(ours []byte) ([]byte, error) {
	if d.state == nil || d.state.Backup == nil {
		return ours, nil
	}
	b := d.state.Backup
	d.ResolvConf.Target, d.ResolvConf.Missing = b.Target, b.Missing
	if b.Target == "" || b.InPlace {
		return b.Content, nil
	}
	target := b.Target
	if !path.IsAbs(target) {
		target = path.Join(path.Dir(resolvConf), target)
	}
	content, err := os.ReadFile(d.Path(target))
	return content, unlessMissing(err)
}

// mountedOver: mountinfo(5) has a line for the file.
func (d *detection) mountedOver() bool {
	content, err := os.ReadFile(d.Path("/proc/self/mountinfo"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) > 4 && fields[4] == resolvConf {
			return true
		}
	}
	return false
}

// writer is who says in the comments at the head of a resolv.conf that he has written it.
func writer(content []byte) string {
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, ";") {
			break
		}
		for _, name := range []string{"systemd-resolved", "NetworkManager", "resolvconf"} {
			if strings.Contains(line, name) {
				return name
			}
		}
	}
	return ""
}

// major is the first number of what a program says of its version.
var major = regexp.MustCompile(`\d+`)

func (d *detection) resolved(ctx context.Context) (err error) {
	defer func() { d.Resolved.Unknown = err != nil }()
	if d.Resolved.Running, err = d.active(ctx, resolvedUnit); err != nil || !d.Resolved.Running {
		return err
	}
	said, err := d.ask(ctx, "systemctl", "--version")
	if err != nil {
		return err
	}
	d.Resolved.Version, err = strconv.Atoi(major.FindString(said))
	return err
}

func (d *detection) networkManager(ctx context.Context) (err error) {
	d.NetworkManager.Running, err = d.active(ctx, "NetworkManager.service")
	d.NetworkManager.Unknown = err != nil
	return err
}

// resolvconf tells the programs of that name apart. That of systemd is a name of resolvectl's, and stands for systemd-resolved.
func (d *detection) resolvconf(ctx context.Context) error {
	for _, file := range []string{"/sbin/resolvconf", "/usr/sbin/resolvconf", "/usr/bin/resolvconf"} {
		there, err := d.exists(file)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		if target, err := os.Readlink(d.Path(file)); err == nil && path.Base(target) == "resolvectl" {
			continue
		}
		// Debian's knows no --version, and ends with code 99.
		said, err := d.ask(ctx, "resolvconf", "--version")
		if err == nil && strings.Contains(said, "openresolv") {
			d.Facts.Resolvconf = Openresolv
			return nil
		}
		if isDebians, err := d.exists("/etc/resolvconf/update.d"); err != nil || isDebians {
			d.Facts.Resolvconf = Resolvconf
			return err
		}
		d.Facts.Resolvconf = Openresolv
		return nil
	}
	return nil
}

// istio looks whether Istio's agent was told to answer DNS, which makes it redirect port 53 (ISTIO_META_DNS_CAPTURE in its environment).
func (d *detection) istio() error {
	content, err := os.ReadFile(d.Path("/var/lib/istio/envoy/cluster.env"))
	for line := range strings.Lines(string(content)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if strings.TrimPrefix(name, "export ") == "ISTIO_META_DNS_CAPTURE" && strings.Trim(value, `'"`) == "true" {
			d.IstioCapture = true
		}
	}
	return unlessMissing(err)
}
