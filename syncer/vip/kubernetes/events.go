package kubernetes

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/meshvm/meshvm/syncer/vip"
)

// maxEvents bounds the Events about one ServiceEntry at once.
const maxEvents = 5

// events tells people of problems, by Events on the objects that have them. They are dropped when there are
// more than can be sent.
type events struct {
	sink        *eventSink
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
}

func newEvents(ctx context.Context, client *corev1client.CoreV1Client, identity string) *events {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	sink := newEventSink(ctx, client.Events(""))
	broadcaster.StartRecordingToSink(sink)
	return &events{sink, broadcaster, broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: "meshvm-syncer", Host: identity})}
}

// stop returns when no Event is being sent any more.
func (e *events) stop() {
	e.broadcaster.Shutdown()
	e.sink.close()
}

// problems reports what is wrong with a ServiceEntry.
func (e *events) problems(about *entry, problems []vip.Problem) {
	reference := &corev1.ObjectReference{
		Kind: "ServiceEntry", APIVersion: about.resource.GroupVersion().String(),
		Namespace: about.Namespace, Name: about.Name, UID: about.UID, ResourceVersion: about.ResourceVersion,
	}
	for _, problem := range problems[:min(len(problems), maxEvents)] {
		e.recorder.Eventf(reference, corev1.EventTypeWarning, string(problem.Reason), "host %s: %s", problem.Host, problem.Message)
	}
}

// overlap reports that a network of the cluster overlaps a range.
func (e *events) overlap(h holder, message string) {
	reference := &corev1.ObjectReference{Kind: h.kind, APIVersion: map[string]string{
		kindNode: "v1", kindService: "v1", kindServiceCIDR: "networking.k8s.io/v1",
	}[h.kind], Namespace: h.namespace, Name: h.name}
	e.recorder.Event(reference, corev1.EventTypeWarning, "OverlapsVirtualIPs", message)
}
