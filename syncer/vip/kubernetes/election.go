package kubernetes

import (
	"context"
	"fmt"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// stand takes part in one election and, if it is won, leads until the Lease is lost or ctx is done. It returns
// when nothing of its term runs any more.
func (c *Controller) stand(ctx context.Context, events *events) error {
	standing, resign := context.WithCancel(ctx)
	defer resign()
	working, stopWorking := context.WithCancel(ctx)
	defer stopWorking()
	rule := &rule{stopWorking: stopWorking}
	defer rule.end()
	lock := &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: c.config.Namespace, Name: c.config.leaseName},
		Client:     c.clients.leases,
		LockConfig: resourcelock.ResourceLockConfig{Identity: c.config.Identity},
	}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:            orderlyLock{lock, rule},
		Name:            c.config.leaseName,
		LeaseDuration:   c.config.Lease.Duration,
		RenewDeadline:   c.config.Lease.RenewDeadline,
		RetryPeriod:     c.config.Lease.RetryPeriod,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				defer context.AfterFunc(leading, stopWorking)()
				rule.run(func() { c.lead(working, events) })
				resign() // Whoever cannot lead lets others.
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("stand for election as allocator of virtual IPs: %w", err)
	}
	elector.Run(standing)
	return nil
}

// rule is the time between an election that is won and the end of all that the leader does.
type rule struct {
	stopWorking context.CancelFunc

	mu    sync.Mutex
	over  bool
	group sync.WaitGroup
}

// run works, unless the rule is over.
func (r *rule) run(work func()) {
	r.mu.Lock()
	if r.over {
		r.mu.Unlock()
		return
	}
	r.group.Add(1)
	r.mu.Unlock()
	defer r.group.Done()
	work()
}

// end stops all work and returns when nothing of it runs any more.
func (r *rule) end() {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	r.stopWorking()
	r.group.Wait()
}

// orderlyLock gives the Lease back only after all work of the leader has ended.
type orderlyLock struct {
	resourcelock.Interface
	rule *rule
}

func (l orderlyLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if record.HolderIdentity == "" {
		l.rule.end()
	}
	return l.Interface.Update(ctx, record)
}
