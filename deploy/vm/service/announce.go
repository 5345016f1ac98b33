package service

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"

	meshvm "github.com/meshvm/meshvm/plugin"
	"github.com/meshvm/meshvm/plugin/status"
)

var logger = clog.NewWithPlugin("service")

// How often it is looked whether the service can answer, until it can; and after that how it stands, and whether it still answers.
const (
	readyInterval  = 200 * time.Millisecond
	statusInterval = time.Second
	answerInterval = 5 * time.Second
)

// announcer tells the service manager how the service stands.
type announcer struct {
	manager manager
	cancel  context.CancelFunc
	running sync.WaitGroup
	said    string
}

// announce begins to tell it, until stop.
func announce(m manager) *announcer {
	ctx, cancel := context.WithCancel(context.Background())
	a := &announcer{manager: m, cancel: cancel}
	if m.present() {
		a.running.Go(func() { a.run(ctx) })
	}
	return a
}

// stop tells the manager that the service ends.
func (a *announcer) stop() {
	a.cancel()
	a.running.Wait()
	a.tell("STOPPING=1\nSTATUS=ending")
}

func (a *announcer) run(ctx context.Context) {
	for !ready(ctx) {
		a.status("not ready: no registry was loaded, and no upstream answers. " + standing(meshvm.Status()))
		if !pause(ctx, readyInterval) {
			return
		}
	}
	a.tell("READY=1")
	period, watched := watchdog()
	every := answerInterval
	if watched {
		every = min(every, period/3)
	}
	for asked := (time.Time{}); ; {
		// The service manager is to end a process that holds the address and answers nobody.
		if watched && time.Since(asked) >= every {
			asked = time.Now()
			if answers(ctx, current()) {
				a.tell("WATCHDOG=1")
			}
		}
		a.status(standing(meshvm.Status()))
		if !pause(ctx, min(every, statusInterval)) {
			return
		}
	}
}

// ready reports whether there is something to answer: a registry, or the rest of the world.
func ready(ctx context.Context) bool {
	loaded := slices.ContainsFunc(meshvm.Status().Mirrors, func(m status.Mirror) bool { return m.Loaded })
	return loaded && answers(ctx, current()) || forwards(ctx, current())
}

// standing is how the mirrors stand, in a line.
func standing(report status.Report) string {
	var all []string
	for _, m := range report.Mirrors {
		stream, held := "no syncer is followed", "no registry was loaded"
		switch {
		case m.ConnectedAddress != "" && m.Synced:
			stream = "in step with " + m.ConnectedAddress
		case m.ConnectedAddress != "":
			stream = "following " + m.ConnectedAddress
		}
		if m.Loaded {
			held = fmt.Sprintf("%d resources", m.Resources)
		}
		all = append(all, stream+", "+held)
	}
	return cmp.Or(strings.Join(all, "; "), "no mirror")
}

func (a *announcer) status(text string) {
	if text != a.said {
		a.said = text
		a.tell("STATUS=" + text)
	}
}

func (a *announcer) tell(state string) {
	if err := a.manager.tell(state); err != nil {
		logger.Warning(err)
	}
}

// watchdog is within which time the service manager wants to hear that the service is well, as sd_watchdog_enabled(3) says.
func watchdog() (time.Duration, bool) {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0, false
	}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 {
		return 0, false
	}
	return time.Duration(usec) * time.Microsecond, true
}

// pause waits. False: the end has come.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
