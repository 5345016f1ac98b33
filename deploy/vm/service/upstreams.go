package service

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/fsnotify/fsnotify"
	"github.com/miekg/dns"
)

// settle is how long a file of resolvers has to be left alone before it is read: who writes it may do so in pieces.
const settle = 200 * time.Millisecond

// upstreams reloads the Corefile when a file of resolvers changes that it forwards by. CoreDNS reads such a file once.
type upstreams struct {
	watcher *fsnotify.Watcher
	running sync.WaitGroup
	// begun has one in it when an instance has begun to serve.
	begun chan struct{}

	mu sync.Mutex
	// next is an instance that is being set up, and nextFiles what its files held before that.
	next      *caddy.Instance
	nextFiles map[string][]string
	// files are those of the instance that serves, with what they held when it began.
	files map[string][]string
}

func newUpstreams() (*upstreams, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch the files that are forwarded by: %w", err)
	}
	u := &upstreams{watcher: watcher, begun: make(chan struct{}, 1), files: map[string][]string{}}
	u.running.Go(u.run)
	// Once its first plugin is set up, and so before forward is.
	caddy.RegisterParsingCallback(serverType, dnsserver.Directives[0], func(caddy.Context) error {
		u.prepare(newest())
		return nil
	})
	return u, nil
}

func (u *upstreams) close() error {
	err := u.watcher.Close()
	u.running.Wait()
	return err
}

// prepare reads the files of an instance before forward does. What changes while the instance is set up, as long as that takes, is
// then known for a change.
func (u *upstreams) prepare(instance *caddy.Instance) {
	if instance == nil {
		return
	}
	files := resolvers(instance)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.next, u.nextFiles = instance, files
}

// follow looks at the files of an instance from now on.
func (u *upstreams) follow(instance *caddy.Instance) {
	u.mu.Lock()
	files, prepared := u.nextFiles, u.next == instance
	u.mu.Unlock()
	if !prepared {
		files = resolvers(instance)
	}
	for path := range files {
		// The folder, since the file is replaced as a whole.
		if err := u.watcher.Add(filepath.Dir(path)); err != nil {
			logger.Warningf("Not following %s: %v", path, err)
			delete(files, path)
		}
	}
	u.mu.Lock()
	u.files, u.next, u.nextFiles = files, nil, nil
	u.mu.Unlock()
	select {
	case u.begun <- struct{}{}:
	default: // it will be compared anyway
	}
}

// resolvers are what the files of an instance name.
func resolvers(instance *caddy.Instance) map[string][]string {
	files := map[string][]string{}
	for _, path := range forwardFiles(instance.Caddyfile()) {
		servers, err := nameservers(path)
		if err != nil {
			logger.Warningf("Not following %s: %v", path, err)
			continue
		}
		files[path] = servers
	}
	return files
}

func (u *upstreams) run() {
	timer := time.NewTimer(0)
	<-timer.C
	for {
		select {
		case event, open := <-u.watcher.Events:
			if !open {
				return
			}
			if u.follows(event.Name) {
				timer.Reset(settle)
			}
		case err, open := <-u.watcher.Errors:
			if !open {
				return
			}
			logger.Warningf("Watching the files that are forwarded by: %v", err)
			timer.Reset(settle) // an event may have been lost
		case <-u.begun:
			timer.Reset(settle)
		case <-timer.C:
			u.compare()
		}
	}
}

func (u *upstreams) follows(path string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, follows := u.files[path]
	return follows
}

// compare reloads where a file names other resolvers than before.
func (u *upstreams) compare() {
	u.mu.Lock()
	var changed []string
	for path, before := range u.files {
		now, err := nameservers(path)
		switch {
		case err != nil:
			logger.Warningf("Going on with the upstreams as they were: %v", err)
		case !slices.Equal(before, now):
			changed = append(changed, fmt.Sprintf("%s names %q now", path, now))
			u.files[path] = now // a reload that fails is not tried again for the same reason
		}
	}
	u.mu.Unlock()
	if len(changed) == 0 {
		return
	}
	instance := current()
	if instance == nil {
		return
	}
	logger.Infof("Reloading: %q", changed)
	if err := restart(instance.Caddyfile()); err != nil {
		logger.Errorf("Going on with the upstreams as they were: %v", err)
	}
}

var errNoServer = errors.New("it names no resolver")

// nameservers are the resolvers of a file in the format of resolv.conf.
func nameservers(path string) ([]string, error) {
	config, err := dns.ClientConfigFromFile(path) // as forward reads it
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(config.Servers) == 0 {
		return nil, fmt.Errorf("read %s: %w", path, errNoServer)
	}
	return config.Servers, nil
}

// forwardFiles are the files that the lines forward FROM TO... of a Corefile name, as absolute paths.
func forwardFiles(corefile caddy.Input) []string {
	blocks, err := caddyfile.Parse(corefile.Path(), bytes.NewReader(corefile.Body()), nil)
	if err != nil {
		return nil // CoreDNS has said so
	}
	var files []string
	for _, block := range blocks {
		tokens := caddyfile.NewDispenserTokens(corefile.Path(), block.Tokens["forward"])
		for tokens.Next() {
			to := tokens.RemainingArgs()
			for _, address := range to[min(1, len(to)):] {
				path, err := filepath.Abs(address)
				if err != nil || slices.Contains(files, path) {
					continue
				}
				if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
					files = append(files, path)
				}
			}
			for tokens.NextBlock() {
				tokens.RemainingArgs()
			}
		}
	}
	return files
}
