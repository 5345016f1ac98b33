package service

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/coredns/caddy"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/forward"

	"github.com/meshvm/meshvm/test/programs"
)

// TestUpstreamsChangeDuringStart: what a file of resolvers says once it was read is not missed because the start still goes on.
func TestUpstreamsChangeDuringStart(t *testing.T) {
	host, port, err := net.SplitHostPort(programs.FreeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	resolvers := filepath.Join(t.TempDir(), "resolv.conf")
	put := func(server string) error { return os.WriteFile(resolvers, []byte("nameserver "+server+"\n"), 0o600) }
	if err := put("192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	followed, err := newUpstreams()
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	caddy.RegisterParsingCallback(serverType, "forward", func(caddy.Context) (err error) {
		once.Do(func() { err = put("192.0.2.2") })
		return err
	})
	caddy.RegisterEventHook(t.Name(), func(event caddy.EventName, info any) error {
		if instance, is := info.(*caddy.Instance); is && event == caddy.InstanceStartupEvent {
			serving.Store(instance)
			followed.follow(instance)
		}
		return nil
	})
	first, err := caddy.Start(caddy.CaddyfileInput{
		Filepath: "Corefile", ServerTypeName: serverType,
		Contents: fmt.Appendf(nil, ".:%s {\n\tbind %s\n\tforward . %s\n}\n", port, host, resolvers),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(followed.close(), caddy.Stop()); err != nil {
			t.Error(err)
		}
	})
	deadline, tick := time.After(30*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for current() == first {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("got the instance that forwards to 192.0.2.1 all the time, want one that has read the file again")
		}
	}
}
