package service

import (
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/coredns/caddy"
)

// Caddy has its own handling of signals. Its SIGUSR1 forgets every event hook, so that no edit of the Corefile is noticed after it,
// nor a socket left with the service manager; and a SIGTERM among other signals may be lost. Otherwise this one is the same.

// trapped are the signals of this process from now on. Those that end it have room of their own: what a full channel has no room for
// is lost, and while the Corefile is loaded again any number of others may come.
type trapped struct{ ends, others chan os.Signal }

// Exit codes, as caddy has them.
const (
	exitForced   = 2
	exitStop     = 3
	exitShutdown = 4
)

func trapSignals() trapped {
	t := trapped{ends: make(chan os.Signal, 2), others: make(chan os.Signal, 1)}
	signal.Notify(t.ends, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	signal.Notify(t.others, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	return t
}

// handle does what signals ask for. At the end it calls last, once, before the servers stop.
func (t trapped) handle(last func() error) {
	for {
		select {
		case s := <-t.ends:
			if s == syscall.SIGQUIT {
				logger.Info("SIGQUIT: ending at once")
				exit(0)
			}
			logger.Infof("%s: ending", name(s))
			go func() { exit(shutdown(name(s), last)) }()
			t.impatient()
		case s := <-t.others:
			switch s {
			case syscall.SIGHUP:
				// Sent by terminals that go away.
			case syscall.SIGUSR1:
				logger.Info("SIGUSR1: reloading")
				if err := reread(); err != nil {
					logger.Errorf("SIGUSR1: %v", err)
				}
			case syscall.SIGUSR2:
				logger.Info("SIGUSR2: upgrading")
				if err := caddy.Upgrade(); err != nil {
					logger.Errorf("SIGUSR2: %v", err)
				}
			}
		}
	}
}

// impatient waits while the process ends, or until somebody insists.
func (t trapped) impatient() {
	for s := range t.ends {
		if s == os.Interrupt || s == syscall.SIGQUIT {
			logger.Infof("%s: ending at once", name(s))
			exit(exitForced)
		}
	}
}

func name(s os.Signal) string {
	if s == os.Interrupt {
		return "SIGINT"
	}
	return "SIGTERM"
}

// shutdown ends all instances and returns the exit code. Queries are answered until last has returned.
func shutdown(signal string, last func() error) int {
	caddy.EmitEvent(caddy.ShutdownEvent, signal)
	code := 0
	for _, instance := range caddy.Instances() {
		for _, err := range instance.ShutdownCallbacks() {
			logger.Errorf("%s: %v", signal, err)
			code = exitShutdown
		}
	}
	if err := errors.Join(last(), caddy.Stop()); err != nil {
		logger.Errorf("%s: %v", signal, err)
		code = exitStop
	}
	return code
}

func exit(code int) {
	for _, last := range caddy.OnProcessExit {
		last()
	}
	os.Exit(code)
}

// reread reloads the Corefile.
func reread() error {
	corefile, err := caddy.LoadCaddyfile(serverType)
	if err != nil {
		return err
	}
	return restart(corefile)
}

// restarts keeps two of this package's restarts apart.
var restarts sync.Mutex

// restart has a Corefile served instead of what is. The reload plugin may do the same at this moment: where two instances come of
// it the older one goes.
func restart(corefile caddy.Input) error {
	restarts.Lock()
	defer restarts.Unlock()
	before := current()
	if before == nil {
		return nil // nothing serves yet
	}
	after, err := before.Restart(corefile)
	if err != nil {
		return err
	}
	for _, other := range append([]*caddy.Instance{}, caddy.Instances()...) {
		if other != after && other != newest() {
			if err := other.Stop(); err != nil {
				return err
			}
		}
	}
	return nil
}
