package meshvm

import (
	"os"
	"strings"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/meshvm/meshvm/plugin/watch"
)

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace, Subsystem: pluginName, Name: name, Help: help,
	}, labels)
}

var (
	connects       = counter("connects_total", "Counter of streams that a syncer welcomed.")
	disconnects    = counter("disconnects_total", "Counter of streams that ended or did not come about, by cause.", "cause")
	syncs          = counter("syncs_total", "Counter of ways in which a stream began to bring the mirror up to date: resume, compare or full.", "mode")
	compareBytes   = counter("compare_bytes_total", "Counter of bytes of digests exchanged with a syncer to find out what differs.")
	deltas         = counter("deltas_total", "Counter of deltas applied.")
	deltaBytes     = counter("delta_bytes_total", "Counter of bytes of keys, bodies and digests in the deltas applied.")
	changes        = counter("changes_total", "Counter of resources in the deltas applied, by what became of them: upsert or removal.", "change")
	heartbeats     = counter("heartbeats_total", "Counter of heartbeats, by whether the mirror equalled the syncer's view.", "equal")
	refusals       = counter("refused_frames_total", "Counter of messages from a syncer that could not be followed, by reason.", "reason")
	snapshotErrors = counter("snapshot_errors_total", "Counter of snapshots that could not be loaded or saved, by operation.", "operation")

	programmingDuration = promauto.NewHistogram(prometheus.HistogramOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "programming_duration_seconds",
		Help:      "Histogram of the time from a change being seen by the syncer's source to being answered here.",
		Buckets:   prometheus.ExponentialBuckets(0.005, 2, 15),
	})
)

// streamMetrics counts what happens to streams.
type streamMetrics struct{ watch.Ignore }

var _ watch.Observer = streamMetrics{}

// Connected implements watch.Observer.
func (streamMetrics) Connected(string) { connects.WithLabelValues().Inc() }

// ConnectFailed implements watch.Observer.
func (streamMetrics) ConnectFailed(_ string, cause watch.Cause) {
	disconnects.WithLabelValues(string(cause)).Inc()
}

// Disconnected implements watch.Observer.
func (streamMetrics) Disconnected(_ string, cause watch.Cause) {
	disconnects.WithLabelValues(string(cause)).Inc()
}

// Resumed implements watch.Observer.
func (streamMetrics) Resumed() { syncs.WithLabelValues("resume").Inc() }

// Compared implements watch.Observer.
func (streamMetrics) Compared(bytes int) {
	syncs.WithLabelValues("compare").Inc()
	compareBytes.WithLabelValues().Add(float64(bytes))
}

// FullSync implements watch.Observer.
func (streamMetrics) FullSync() { syncs.WithLabelValues("full").Inc() }

// Applied implements watch.Observer.
func (streamMetrics) Applied(delta watch.Applied) {
	deltas.WithLabelValues().Inc()
	deltaBytes.WithLabelValues().Add(float64(delta.Bytes))
	changes.WithLabelValues("upsert").Add(float64(delta.Upserts))
	changes.WithLabelValues("removal").Add(float64(delta.Removals))
	if delay, known := delta.Delay(); known {
		programmingDuration.Observe(delay.Seconds())
	}
}

// Heartbeat implements watch.Observer.
func (streamMetrics) Heartbeat(time.Time) { heartbeats.WithLabelValues("true").Inc() }

// Mismatch implements watch.Observer.
func (streamMetrics) Mismatch() { heartbeats.WithLabelValues("false").Inc() }

// Refused implements watch.Observer.
func (streamMetrics) Refused(reason watch.Reason) { refusals.WithLabelValues(string(reason)).Inc() }

// Gauges of each mirror, by the syncers that it follows and the namespace in the Corefile.
var (
	resourcesDesc = mirrorGauge("resources", "Number of resources that the mirror holds.")
	revisionDesc  = mirrorGauge("revision", "Revision of the registry that the mirror is at, within its generation.", "generation")
	connectedDesc = mirrorGauge("connected", "Whether a syncer is connected (1) or not (0).")
	stalenessDesc = mirrorGauge("staleness_seconds", "Time since the registry was last known to be current.")
	namesDesc     = mirrorGauge("names", "Number of names that the mirror has an answer for, wildcards among them.")
	expiryDesc    = mirrorGauge("credential_expiry_timestamp_seconds", "When the credential in the VM's files ends, by kind: certificate or token.", "credential")
)

func mirrorGauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, name), help, append([]string{"syncers", "namespace"}, labels...), nil)
}

// Gauges of the file that a mirror is kept in.
var (
	snapshotBytesDesc = mirrorGauge("snapshot_bytes", "Size of the snapshot on disk.")
	snapshotTimeDesc  = mirrorGauge("snapshot_timestamp_seconds", "When the snapshot on disk was written, in Unix time.")
)

func init() {
	// Present from the start, so that a rate over the first of them is right: all but the rarest causes.
	for _, equal := range []string{"true", "false"} {
		heartbeats.WithLabelValues(equal)
	}
	for _, mode := range []string{"resume", "compare", "full"} {
		syncs.WithLabelValues(mode)
	}
	for _, cause := range []watch.Cause{watch.CauseUnavailable, watch.CauseTLS, watch.CauseUnauthenticated, watch.CausePermissionDenied, watch.CauseTimeout, watch.CauseSilent, watch.CauseAged, watch.CauseMismatch} {
		disconnects.WithLabelValues(string(cause))
	}
	for _, operation := range []string{"load", "save"} {
		snapshotErrors.WithLabelValues(operation)
	}
	for _, reason := range []watch.Reason{
		watch.ReasonOutOfTurn, watch.ReasonMode, watch.ReasonWelcome, watch.ReasonGap, watch.ReasonFrames, watch.ReasonSize, watch.ReasonContent,
		watch.ReasonKey, watch.ReasonBody, watch.ReasonName, watch.ReasonAddress, watch.ReasonPort,
	} {
		refusals.WithLabelValues(string(reason))
	}
	connects.WithLabelValues()
	compareBytes.WithLabelValues()
	deltas.WithLabelValues()
	deltaBytes.WithLabelValues()
	for _, change := range []string{"upsert", "removal"} {
		changes.WithLabelValues(change)
	}
}

// Describe implements prometheus.Collector.
func (p *followers) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{resourcesDesc, revisionDesc, connectedDesc, stalenessDesc, expiryDesc, namesDesc, snapshotBytesDesc, snapshotTimeDesc} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector.
func (p *followers) Collect(metrics chan<- prometheus.Metric) {
	type identity struct{ syncers, namespace string }
	seen := map[identity]bool{}
	for _, held := range p.all() {
		id := identity{strings.Join(held.config.Syncers, " "), held.config.Namespace}
		if seen[id] {
			continue // two that differ in less, as during a reload: the metrics page must not fail
		}
		seen[id] = true
		state := held.mirror.State()
		gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
			labels = append([]string{id.syncers, id.namespace}, labels...)
			metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
		}
		position := state.Position()
		gauge(namesDesc, float64(state.Names()))
		gauge(resourcesDesc, float64(state.Resources()))
		gauge(revisionDesc, float64(position.GetRevision()), position.GetGeneration())
		status := held.client.Status()
		connected := 0.0
		if status.Address != "" {
			connected = 1
		}
		gauge(connectedDesc, connected)
		for _, credential := range status.Credentials {
			if !credential.Expires.IsZero() {
				gauge(expiryDesc, float64(credential.Expires.Unix()), string(credential.Kind))
			}
		}
		if !held.mirror.ConfirmedAt().IsZero() {
			gauge(stalenessDesc, held.mirror.Age().Seconds())
		}
		if held.file == nil {
			continue
		}
		if file, err := os.Stat(held.file.path); err == nil { // There is none before the first sync.
			gauge(snapshotBytesDesc, float64(file.Size()))
			gauge(snapshotTimeDesc, float64(file.ModTime().Unix()))
		}
	}
}
