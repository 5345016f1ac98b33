package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/meshvm/meshvm/syncer/registry"
)

const (
	// probeTimeout bounds one probe, and probeGap is the time between two at least. A kube-apiserver takes
	// four seconds to find that etcd is gone, two for each of two checks; then it says so.
	probeTimeout = 6 * time.Second
	probeGap     = 250 * time.Millisecond
	// awaitLimit bounds how long a request waits for a server that is not ready.
	awaitLimit = 30 * time.Second
	// logInterval is how often a fault that lasts is logged.
	logInterval = 30 * time.Second
)

// health is whether the API server can be reached and serves what is asked of it.
type health struct {
	clients  *clients
	registry *registry.Source
	log      *slog.Logger
	metrics  metrics
	interval time.Duration
	// suspect asks for a probe at once.
	suspect chan struct{}

	mu        sync.Mutex
	reachable bool
	back      chan struct{} // Closed while the server can be reached.
	failing   map[request]bool
	logged    map[string]logged
}

// request is a kind of request.
type request struct{ resource, verb string }

// logged is what was last said about something.
type logged struct {
	what string
	at   time.Time
}

func newHealth(c *clients, into *registry.Source, log *slog.Logger, metrics metrics, interval time.Duration) *health {
	h := &health{
		clients: c, registry: into, log: log, metrics: metrics, interval: interval,
		suspect:   make(chan struct{}, 1),
		reachable: true,
		back:      make(chan struct{}),
		failing:   map[request]bool{},
		logged:    map[string]logged{},
	}
	close(h.back)
	return h
}

// probe asks the server at intervals whether it is ready, until ctx is done.
func (h *health) probe(ctx context.Context) {
	ticker := time.NewTicker(h.interval)
	defer ticker.Stop()
	for {
		h.setReachable(h.ask(ctx))
		last := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-h.suspect:
			select {
			case <-ctx.Done():
				return
			case <-time.After(probeGap - time.Since(last)):
			}
		}
	}
}

func (h *health) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.clients.readyURL, nil)
	if err != nil {
		return err
	}
	response, err := h.clients.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	// The body is read so that the connection can be used again.
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return err
	}
	// A server that forbids the question still serves. One that is not ready may serve old news.
	if response.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("it is not ready: %s: %s", response.Status, notReady(string(body)))
	}
	return nil
}

// notReady is the checks that failed, of the many that /readyz lists.
func notReady(body string) string {
	var failed []string
	for line := range strings.Lines(body) {
		if name, found := strings.CutPrefix(line, "[-]"); found {
			failed = append(failed, strings.TrimSpace(name))
		}
	}
	if len(failed) == 0 {
		return strings.TrimSpace(body)
	}
	return strings.Join(failed, ", ")
}

// await holds a request back while the server is known not to be ready, so that it is sent as soon
// as the server is.
func (h *health) await(ctx context.Context) {
	h.mu.Lock()
	back := h.back
	h.mu.Unlock()
	select {
	case <-back:
		return
	default:
	}
	limit := time.NewTimer(awaitLimit)
	defer limit.Stop()
	select {
	case <-ctx.Done():
	case <-back:
	case <-limit.C:
	}
}

// observe notes how a request ended.
func (h *health) observe(ctx context.Context, k kind, verb string, err error) {
	// An expired version and a stop are how watches end when all is well.
	if ctx.Err() != nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return
	}
	resource := k.title()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.served(resource, verb)
		return
	}
	h.metrics.failures.WithLabelValues(k.resource.GroupResource().String(), verb).Inc()
	h.failing[request{resource, verb}] = true
	h.announce()
	if k.definition != "" && apierrors.IsNotFound(err) {
		return // Its definition is going. Its watch will say so.
	}
	var status apierrors.APIStatus
	switch {
	case apierrors.IsForbidden(err):
		h.say(resource+verb, slog.LevelError, "the API server forbids it, names of this kind keep their last state",
			"verb", verb, "resource", resource, "want", "a role that allows it", "error", err)
	case errors.As(err, &status):
		h.say(resource+verb, slog.LevelWarn, "the API server refuses it, names of this kind keep their last state",
			"verb", verb, "resource", resource, "error", err)
	default: // No answer at all: the probe finds out and says so.
		h.log.Debug("request failed", "verb", verb, "resource", resource, "error", err)
		select {
		case h.suspect <- struct{}{}:
		default:
		}
	}
}

// served notes that a request succeeded. A watch keeps a picture current whatever became of a list;
// a list does not without a watch.
func (h *health) served(resource, verb string) {
	failed := len(h.failing)
	delete(h.failing, request{resource, verb})
	if verb == "watch" {
		delete(h.failing, request{resource, "list"})
	}
	if len(h.failing) < failed {
		h.say(resource+verb, slog.LevelInfo, "the API server serves it again", "verb", verb, "resource", resource)
	}
	h.announce()
}

func (h *health) setReachable(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.reachable
	h.reachable = err == nil
	switch {
	case was && !h.reachable:
		h.back = make(chan struct{})
	case !was && h.reachable:
		close(h.back)
		h.say("", slog.LevelInfo, "the API server is back")
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		h.say("", slog.LevelError, "cannot reach the API server, names keep their last state and it is tried again", "error", err)
	}
	h.announce()
}

// say logs something about a subject when it is new or was said long ago.
func (h *health) say(subject string, level slog.Level, what string, attributes ...any) {
	last, now := h.logged[subject], time.Now()
	if last.what == what && now.Sub(last.at) < logInterval {
		return
	}
	h.logged[subject] = logged{what, now}
	h.log.Log(context.Background(), level, what, attributes...)
}

func (h *health) announce() {
	healthy := h.reachable && len(h.failing) == 0
	h.registry.SetHealthy(healthy)
	h.metrics.healthy.Set(map[bool]float64{true: 1}[healthy])
}

// forget drops what is known of a kind that is no longer followed.
func (h *health) forget(k kind) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, verb := range []string{"list", "watch"} {
		delete(h.failing, request{k.title(), verb})
	}
	h.announce()
}
