package registry

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// maxListed bounds the objects that a status names.
const maxListed = 100

// Loss is what a hold is for.
type Loss struct {
	// Kind of the objects that vanished. Endpoints are held with the Services that they belong to.
	Kind string `json:"kind"`
	// Visibility is the part of the kind that was looked at: `*` is what everybody sees, a name what
	// that namespace sees beside it, `any` all.
	Visibility string `json:"visibility"`
	// Vanished resources, Of so many, when the hold began.
	Vanished int `json:"vanished"`
	Of       int `json:"of"`
	// Reason is LossOfShare or LossOfDefinition.
	Reason string `json:"reason"`
}

// Reasons of a Loss.
const (
	LossOfShare      = "more than the allowed share vanished within the window"
	LossOfDefinition = "the definition of the kind is being deleted, and all its objects with it"
)

// kindHolds is what is held back of a kind, from the first hold on until there is none.
type kindHolds struct {
	objects, resources int
	loss               *Loss
	since              time.Time
	most               int // resources that were held at once
	released           map[Release]int
}

// begun notes a hold that begins.
func (g *guard) begun(held *hold, now time.Time) {
	kind := g.kinds[held.object.Kind]
	if kind == nil {
		kind = &kindHolds{}
		g.kinds[held.object.Kind] = kind
	}
	if kind.objects == 0 {
		*kind = kindHolds{loss: held.loss, since: now, released: map[Release]int{}}
		g.holds++
		g.say(slog.LevelWarn, "holding back removals, the names stay for now",
			slog.String("source", g.source), slog.String("kind", held.object.Kind), slog.String("reason", held.loss.Reason),
			slog.String("vanished kind", held.loss.Kind), slog.String("visibility", held.loss.Visibility),
			slog.Int("vanished", held.loss.Vanished), slog.Int("of", held.loss.Of), slog.Duration("hold", g.options.Hold))
	}
	kind.objects++
	kind.resources += held.resources
	kind.most = max(kind.most, kind.resources)
}

// ended notes a hold that ends.
func (g *guard) ended(held *hold, why Release) {
	kind := g.kinds[held.object.Kind]
	kind.objects--
	kind.resources -= held.resources
	kind.released[why] += held.resources
	g.releases[why] += uint64(held.resources)
	if kind.objects == 0 {
		attributes := []slog.Attr{
			slog.String("source", g.source), slog.String("kind", held.object.Kind),
			slog.Duration("after", g.registry.now().Sub(kind.since)), slog.Int("most", kind.most), slog.Int("of", kind.loss.Of),
		}
		for _, release := range Releases() {
			attributes = append(attributes, slog.Int(string(release), kind.released[release]))
		}
		g.say(slog.LevelInfo, "no removals are held back any more", attributes...)
	}
}

// say keeps a line for tell.
func (g *guard) say(level slog.Level, what string, attributes ...slog.Attr) {
	record := slog.NewRecord(time.Now(), level, what, 0)
	record.AddAttrs(attributes...)
	g.news = append(g.news, record)
	g.untold.Store(true)
}

// tell logs the news. It is called without registry.mu, so that no log holds up the registry.
func (g *guard) tell() {
	if g == nil || !g.untold.Load() {
		return
	}
	g.registry.mu.Lock()
	news := g.news
	g.news = nil
	g.untold.Store(false)
	g.registry.mu.Unlock()
	handler := g.options.Log.Handler()
	for _, record := range news {
		if handler.Enabled(context.Background(), record.Level) {
			_ = handler.Handle(context.Background(), record) // as a Logger does
		}
	}
}

// GuardStatus is what the guard of a source does, for people and metrics.
type GuardStatus struct {
	Source string
	// Holds is how many times holding back has begun.
	Holds uint64
	// Released is how many resources were held back and are no longer, for every Release.
	Released map[Release]uint64
	// Kinds are those that the source has or had anything of, by name.
	Kinds []KindStatus
}

// KindStatus is what is held back of a kind.
type KindStatus struct {
	Kind string
	// Live is how many resources there are by the source's word, whoever sees them, and Held how many
	// are held back beside those.
	Live, Held int
	// Loss, Since and the rest are zero where nothing is held back. Loss is what the first hold was for.
	Loss  *Loss
	Since time.Time
	// Next and Last are when the first and the last hold end by themselves.
	Next, Last time.Time
	// Objects are some of those that are held back.
	Objects []Object
}

// GuardOptions is the options of the guard, complete.
func (r *Registry) GuardOptions() GuardOptions { return r.guarding.options }

// GuardStatus is the state of every source's guard, in the order of registration. It is empty without a
// guard.
func (r *Registry) GuardStatus() []GuardStatus {
	sources := r.guarded()
	statuses := make([]GuardStatus, 0, len(sources))
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, s := range sources {
		statuses = append(statuses, s.guard.status())
	}
	return statuses
}

func (g *guard) status() GuardStatus {
	status := GuardStatus{Source: g.source, Holds: g.holds, Released: map[Release]uint64{}}
	for _, release := range Releases() {
		status.Released[release] = g.releases[release]
	}
	kinds := map[string]*KindStatus{}
	for name, s := range g.scopes {
		if name.class == anyone {
			kinds[name.kind] = &KindStatus{Kind: name.kind, Live: s.live}
		}
	}
	for name, holds := range g.kinds {
		if kinds[name] == nil {
			kinds[name] = &KindStatus{Kind: name}
		}
		if kind := kinds[name]; holds.objects > 0 {
			kind.Held, kind.Loss, kind.Since = holds.resources, holds.loss, holds.since
		}
	}
	for _, held := range g.queue {
		if held.ended {
			continue
		}
		kind := kinds[held.object.Kind]
		if kind.Next.IsZero() {
			kind.Next = held.until
		}
		kind.Last = held.until
		if len(kind.Objects) < maxListed {
			kind.Objects = append(kind.Objects, held.object)
		}
	}
	for _, name := range slices.SortedFunc(maps.Keys(kinds), strings.Compare) {
		status.Kinds = append(status.Kinds, *kinds[name])
	}
	return status
}
