package watch

import (
	"context"
	"errors"
	"time"
)

// notice is what was logged of a credential: that it ends soon, or has ended.
type notice struct {
	expires time.Time
	ended   bool
}

// attend says once of each credential that it ends soon and once that it has ended, and ends a stream whose
// credential has been renewed.
func (f *credentialFiles) attend(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.present.credentials {
		f.tell(c, now)
	}
	f.renew(now)
}

func (f *credentialFiles) tell(c Credential, now time.Time) {
	told, ended := f.noticed[c.Kind], c.Expired(now)
	if !c.endsSoon(now) || told.expires.Equal(c.Expires) && (told.ended || !ended) {
		return
	}
	f.noticed[c.Kind] = notice{expires: c.Expires, ended: ended}
	attributes := []any{"kind", string(c.Kind), "file", c.File, "subject", c.Subject, "expires", c.Expires.UTC().Format(time.RFC3339), "remedy", renewal(c)}
	if ended {
		f.log.Error("credential has ended, no syncer will take it; answers go on from what is known", attributes...)
		return
	}
	f.log.Warn("credential ends soon and has not been renewed", attributes...)
}

// renew ends the stream in step, some time before the credential that it was opened with ends, if the files hold one that
// ends later. Many VMs whose files are renewed at once do not come back at once.
func (f *credentialFiles) renew(now time.Time) {
	end, due := f.outlived(now)
	if f.interrupt == nil || !due {
		f.renewAt = time.Time{}
		return
	}
	if f.renewAt.IsZero() {
		most := min(f.limits.renewal, max(0, end.Sub(now)/2))
		// By the time of day: a machine that was suspended is not to wait any longer.
		f.renewAt = now.Add(f.jitter(most)).Round(0)
	}
	if now.Before(f.renewAt) {
		return
	}
	f.interrupt(&failure{cause: CauseRenewed, err: errors.New("a newer credential is used from now on"), again: true})
	f.interrupt, f.renewAt = nil, time.Time{}
}

// outlived is when the first of the credentials in use ends for which the files hold one that ends later.
func (f *credentialFiles) outlived(now time.Time) (end time.Time, found bool) {
	for _, used := range f.used.credentials {
		for _, present := range f.present.credentials {
			if present.Kind != used.Kind || !present.outlives(used) || present.Expired(now) {
				continue
			}
			if !found || used.Expires.Before(end) {
				end, found = used.Expires, true
			}
		}
	}
	return end, found
}

// attach has a stream ended when its credential has been renewed.
func (f *credentialFiles) attach(interrupt context.CancelCauseFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.interrupt = interrupt
}

// detach has no stream ended any more.
func (f *credentialFiles) detach() { f.attach(nil) }
