package service

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain" // its flags
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"go.uber.org/automaxprocs/maxprocs"

	meshvm "github.com/meshvm/meshvm/plugin"
)

// serverType is CoreDNS's, as dnsserver registers it.
const serverType = "dns"

// Run serves DNS as the command line says, until a signal ends the process. What was asked for, such as the version, goes to stdout.
// The error is why it could not start.
func Run(stdout io.Writer) error {
	flag.Parse()
	if rest := flag.Args(); len(rest) > 0 {
		return fmt.Errorf("extra command line arguments: %s", rest)
	}
	if format := flagText("log-format"); format != "text" {
		if err := clog.Configure(format, os.Stdout); err != nil {
			return err
		}
	}
	clog.SetOutput(os.Stdout)
	if !clog.IsJSON() {
		log.SetFlags(coremain.LogFlags)
	}
	switch {
	case flagText("version") == "true":
		_, err := io.WriteString(stdout, banner())
		return err
	case flagText("plugins") == "true":
		_, err := fmt.Fprintln(stdout, caddy.DescribePlugins())
		return err
	}
	if _, err := maxprocs.Set(maxprocs.Logger(log.Printf)); err != nil {
		clog.Warningf("Cannot follow the limit of processors: %v", err)
	}
	return serve(stdout)
}

// serve starts CoreDNS and what goes with it, and waits for the end.
func serve(stdout io.Writer) error {
	signals := trapSignals()
	sockets, err := inherit()
	if err != nil {
		return err
	}
	corefile, err := caddy.LoadCaddyfile(serverType)
	if err != nil {
		return err
	}
	manager := newManager()
	kept := newStore(manager, sockets)
	upstreams, err := newUpstreams()
	if err != nil {
		return err
	}
	// SIGUSR1 does not forget this hook, as caddy's own handling of signals would.
	caddy.RegisterEventHook("meshvm-service", func(event caddy.EventName, info any) error {
		instance, isInstance := info.(*caddy.Instance)
		if event != caddy.InstanceStartupEvent || !isInstance || instance.Caddyfile().ServerType() != serverType {
			return nil
		}
		serving.Store(instance)
		upstreams.follow(instance)
		return errors.Join(meshvm.ReleaseAddresses(), kept.keep(instance))
	})
	instance, err := start(corefile, sockets)
	if err != nil {
		return errors.Join(err, upstreams.close())
	}
	if !dnsserver.Quiet {
		if clog.IsJSON() {
			clog.Info(banner())
		} else if _, err := io.WriteString(stdout, banner()); err != nil {
			return err
		}
	}
	offerer := offer(manager) // before it is ready, since whoever makes room comes then
	announcer := announce(manager)
	go signals.handle(func() error {
		announcer.stop()
		var errs []error
		if offerer != nil {
			errs = append(errs, offerer.Close())
		}
		return errors.Join(append(errs, upstreams.close(), kept.handOver())...)
	})
	instance.Wait()
	select {} // the process ends by a signal, and the servers before it
}

// flagText is a flag of CoreDNS's, which it keeps to itself.
func flagText(name string) string {
	if f := flag.Lookup(name); f != nil {
		return f.Value.String()
	}
	return ""
}

func banner() string {
	return fmt.Sprintf("%s-%s\n%s/%s, %s, %s\n", caddy.AppName, caddy.AppVersion, runtime.GOOS, runtime.GOARCH, runtime.Version(), coremain.GitCommit)
}

// serving is the instance that began to serve last. Caddy's list has others too, of which one is about to begin or will fail to, and
// is not for other goroutines than the one that changes it.
var serving atomic.Pointer[caddy.Instance]

// current is the instance that serves. Nil: none has begun to.
func current() *caddy.Instance { return serving.Load() }

// newest is the instance that was set up last, if only in part, for who has just set one up.
func newest() *caddy.Instance {
	all := slices.DeleteFunc(slices.Clone(caddy.Instances()), func(i *caddy.Instance) bool { return i.Caddyfile() == nil || i.Caddyfile().ServerType() != serverType })
	if len(all) == 0 {
		return nil
	}
	return all[len(all)-1]
}
