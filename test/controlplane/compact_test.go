package controlplane

import (
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func TestCompactedHistoryIsGone(t *testing.T) {
	c := Start(t)
	maps := clientFor(t, c.RESTConfig()).CoreV1().ConfigMaps("default")
	before, err := maps.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	createConfigMap(t, c, "after")
	if err := c.CompactEtcd(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := c.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	watcher, err := maps.Watch(t.Context(), metav1.ListOptions{ResourceVersion: before.ResourceVersion})
	if apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	event, open := <-watcher.ResultChan()
	if !open || event.Type != watch.Error || !apierrors.IsResourceExpired(apierrors.FromObject(event.Object)) {
		t.Errorf("First event of a watch from before: got %v (open: %t), want that it is expired", event, open)
	}
	wantConfigMap(t, c, "after")
}
