package source

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// KindConfigMap is the kind of the object that holds the mesh configuration. It yields no names.
const KindConfigMap = "ConfigMap"

// MeshKey is the key of a ConfigMap that holds the mesh configuration.
const MeshKey = "mesh"

// MeshOptions say which mesh configuration a source follows.
type MeshOptions struct {
	// ConfigMap holds it. The zero value: none is followed.
	ConfigMap types.NamespacedName
	// Changed is told the configuration once before the source has synced, and then whenever it changes. It
	// is called one at a time and must not block. It may be nil.
	Changed func(Mesh)
}

// Followed reports whether a mesh configuration is followed at all.
func (o MeshOptions) Followed() bool { return o.ConfigMap != types.NamespacedName{} }

// States of the mesh configuration.
const (
	meshRead    = "read"
	meshMissing = "missing"
	meshBroken  = "broken"
)

// MeshFollower has a translator and others follow the mesh configuration. It is not safe for concurrent
// use, and is used where the translator is.
type MeshFollower struct {
	options    MeshOptions
	translator *Translator
	log        *slog.Logger
	states     *prometheus.GaugeVec

	known bool // Whether latest has been told.
	// latest is what could be read last, or NoMesh.
	latest Mesh
	said   string
}

// NewMeshFollower is a follower that has seen nothing yet. It fails when its metric is there already.
func NewMeshFollower(options MeshOptions, translator *Translator, log *slog.Logger, metrics prometheus.Registerer) (*MeshFollower, error) {
	f := &MeshFollower{
		options:    options,
		translator: translator,
		log:        log.With("configmap", options.ConfigMap.String()),
		latest:     NoMesh(),
		states: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "meshvm_syncer_mesh_config",
			Help: "State of Istio's mesh configuration: 1 for read, missing (the flags hold) or broken (what was read last holds).",
		}, []string{"state"}),
	}
	if metrics != nil && options.Followed() {
		if err := metrics.Register(f.states); err != nil {
			return nil, fmt.Errorf("register metrics of the mesh configuration: %w", err)
		}
	}
	return f, nil
}

// Follow takes in the ConfigMap's present state; nil: it is not there, and neither is the configuration in one
// without the key. A configuration that cannot be read
// is reported, and the latest that could be stays. at is where it stands, for people; it may be empty. The
// objects that are picked by concerned, if that is not nil, have to be translated again.
func (f *MeshFollower) Follow(configMap *corev1.ConfigMap, at string) (concerned func(metav1.Object) bool) {
	var place []any
	if at != "" {
		place = []any{"at", at}
	}
	if configMap == nil {
		f.say(meshMissing, slog.LevelWarn, "the mesh configuration is not there, the flags decide what it would", place...)
		return f.set(NoMesh())
	}
	text, found := configMap.Data[MeshKey]
	if !found { // As in Istio, which takes its defaults then.
		f.say(meshMissing, slog.LevelWarn, "the mesh configuration is not in its ConfigMap, the flags decide what it would",
			append(place, "problem", "it has no key "+MeshKey)...)
		return f.set(NoMesh())
	}
	mesh, err := ParseMesh([]byte(text))
	if err != nil {
		f.say(meshBroken, slog.LevelError, "cannot read the mesh configuration, what was read before stays",
			append(place, "problem", err, "want", "Istio's MeshConfig under the key "+MeshKey)...)
		return f.set(f.latest)
	}
	f.say(meshRead, slog.LevelInfo, "following the mesh configuration", append(place,
		"services", strings.Join(mesh.Exports.Service, ","), "serviceentries", strings.Join(mesh.Exports.ServiceEntry, ","), "serviceentry visibility", mesh.Exports.Reach.String(),
		"trust domains", strings.Join(mesh.TrustDomains(), ","), "root namespace", mesh.RootNamespace)...)
	return f.set(mesh)
}

// set has everybody follow a configuration.
func (f *MeshFollower) set(mesh Mesh) (concerned func(metav1.Object) bool) {
	if f.known && f.latest.Equal(mesh) {
		return nil
	}
	concerned, err := f.translator.SetExports(mesh.Exports)
	if err != nil { // Not possible: it was validated.
		f.say(meshBroken, slog.LevelError, "cannot follow the mesh configuration, what was read before stays", "problem", err)
		return nil
	}
	f.known, f.latest = true, mesh
	if f.options.Changed != nil {
		f.options.Changed(mesh)
	}
	return concerned
}

// say reports a state once.
func (f *MeshFollower) say(state string, level slog.Level, what string, attributes ...any) {
	for _, each := range []string{meshRead, meshMissing, meshBroken} {
		f.states.WithLabelValues(each).Set(map[bool]float64{true: 1}[each == state])
	}
	if said := fmt.Sprint(what, attributes); said != f.said {
		f.said = said
		f.log.Log(context.Background(), level, what, attributes...)
	}
}
